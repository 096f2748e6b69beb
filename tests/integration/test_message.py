"""Sending on real servers: numbered, once, by those who take part, and told in events."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from interchange.message.v1 import message_service_pb2 as pb
from interchange.message.v1.message_events_pb2 import (
    HANDLER_AGENT,
    HANDLER_BOT,
    HANDLER_UNSPECIFIED,
    MessageSent,
)
from interchange.message.v1.message_pb2 import Attachment

from services.stack.stack import Stack
from tests.integration.test_message_scene import (
    AGENT,
    CUSTOMER,
    GATEWAY,
    Talk,
    assigned,
    ended,
    handed_off,
    instance,
    new_id,
    refused,
    reopened,
    results,
    settings,
    stub,
    submission,
    talk,
    text_of,
)

__all__ = ["instance", "settings", "stub", "talk"]

IMAGE = Attachment(
    uri="https://files.example/a.png", media_type="image/png", name="a.png", size_bytes=12
)


async def test_sent_message_is_numbered_stored_and_told(talk: Talk) -> None:
    name = await talk.start("hello")

    sent = await talk("SendMessage", text_of(name, "👩‍🚀🎉", "c-1"))

    assert (sent.sequence, sent.text, sent.client_message_id) == (2, "👩‍🚀🎉", "c-1")
    assert (sent.sender.kind, sent.sender.id) == (1, "ann")
    assert UUID(sent.message_id).version == 7
    assert (await talk.history(name))[1] == sent
    first, second = await talk.events(name)
    assert isinstance(first, MessageSent)
    assert isinstance(second, MessageSent)
    assert second.event_id == sent.message_id
    assert (second.sequence, second.handler, second.bot_id) == (2, HANDLER_BOT, "default")
    assert second.recorded_us == sent.create_time.ToMicroseconds()
    assert (await talk.opened(first)).text == "hello"
    assert (await talk.opened(second)).text == "👩‍🚀🎉"
    assert "👩‍🚀🎉".encode() not in second.SerializeToString()


async def test_attachment_is_given_back_as_it_was_sent(talk: Talk) -> None:
    name = await talk.start()
    request = pb.SendMessageRequest(conversation_id=name, client_message_id="c-1", attachment=IMAGE)

    sent = await talk("SendMessage", request)

    assert sent.attachment == IMAGE
    assert await talk.history(name) == [sent]
    [event] = await talk.events(name)
    assert isinstance(event, MessageSent)
    assert (await talk.opened(event)).attachment == IMAGE
    assert await talk("SendMessage", request) == sent


async def test_retry_gets_the_first_answer_and_other_content_is_refused(talk: Talk) -> None:
    name = await talk.start()
    first = await talk("SendMessage", text_of(name, "once", "c-1"))

    assert await talk("SendMessage", text_of(name, "once", "c-1")) == first
    assert await refused(talk("SendMessage", text_of(name, "twice", "c-1"))) == (
        "ALREADY_EXISTS",
        "CLIENT_MESSAGE_ID_REUSED",
    )
    assert await talk.said(name) == ["ann:once"]


async def test_retry_is_answered_though_the_conversation_ended_since(talk: Talk) -> None:
    name = await talk.start()
    first = await talk("SendMessage", text_of(name, "once", "c-1"))
    await talk.apply(ended(name))

    assert await talk("SendMessage", text_of(name, "once", "c-1")) == first
    assert await refused(talk("SendMessage", text_of(name, "late"))) == (
        "FAILED_PRECONDITION",
        "CONVERSATION_ENDED",
    )


async def test_each_message_of_a_batch_has_its_own_result(talk: Talk) -> None:
    name, other = await talk.start(), await talk.start()
    over = await talk.start()
    await talk.apply(ended(over))
    requests = [
        text_of(name, "one", "c-1"),
        text_of(other, "one", "c-1"),
        text_of(name, "one", "c-1"),
        text_of(name, "two", "c-1"),
        text_of(name, ""),
        text_of(name, "x" * 100_000),
        text_of(name, "a\0b"),
        text_of("no id", "x"),
        text_of(new_id(age_s=60), "x"),
        text_of(over, "x"),
        pb.SendMessageRequest(conversation_id=name, client_message_id="c"),
        text_of(name.upper(), "three"),
    ]

    answer = await talk("BatchSendMessages", pb.BatchSendMessagesRequest(requests=requests))

    assert results(answer) == [
        1,
        1,
        1,
        "CLIENT_MESSAGE_ID_REUSED",
        "TEXT_EMPTY",
        "TEXT_TOO_LONG",
        "TEXT_BINARY",
        "CONVERSATION_ID_INVALID",
        "CONVERSATION_NOT_FOUND",
        "CONVERSATION_ENDED",
        "CONTENT_MISSING",
        2,
    ]
    assert await talk.said(name) == ["ann:one", "ann:three"]


@pytest.mark.parametrize(
    ("rpc", "request_of"),
    [
        (
            "BatchSendMessages",
            lambda n: pb.BatchSendMessagesRequest(requests=[text_of("", "")] * n),
        ),
        (
            "SubmitMessages",
            lambda n: pb.SubmitMessagesRequest(submissions=[submission("", "")] * n),
        ),
    ],
)
async def test_batch_of_501_or_none_is_refused_as_a_whole(
    talk: Talk, rpc: str, request_of: Any
) -> None:
    for count in (0, 501):
        calling = talk(rpc, request_of(count), GATEWAY if rpc[0] == "S" else CUSTOMER)
        assert await refused(calling) == ("INVALID_ARGUMENT", "BATCH_SIZE_INVALID")


async def test_batch_of_500_keeps_the_order_of_each_conversation(talk: Talk) -> None:
    names = [await talk.start() for _ in range(5)]
    submissions = [submission(names[n % 5], f"{n}", client_id=f"c-{n}") for n in range(500)]
    request = pb.SubmitMessagesRequest(submissions=submissions)

    first, again = await asyncio.gather(
        talk("SubmitMessages", request, GATEWAY), talk("SubmitMessages", request, GATEWAY)
    )

    assert results(first) == [1 + n // 5 for n in range(500)]
    assert first == again
    for offset, name in enumerate(names):
        assert await talk.said(name) == [f"ann:{n}" for n in range(offset, 500, 5)]
        assert len(await talk.events(name)) == 100


async def test_many_callers_are_numbered_without_gaps(talk: Talk) -> None:
    name = await talk.start()

    sent = await asyncio.gather(
        *(talk("SendMessage", text_of(name, f"{n % 60}", f"c-{n % 60}")) for n in range(120))
    )

    assert sorted({one.sequence for one in sent}) == list(range(1, 61))
    assert len({one.message_id for one in sent}) == 60
    assert len(await talk.events(name)) == 60


async def test_only_the_customer_and_the_agent_who_answers_may_send(talk: Talk) -> None:
    name = await talk.start()
    await talk.assign(name, "ana", 1)
    await talk.send(name, "from ann")
    await talk.send(name, "from ana", who=AGENT)
    nothing_there = ("NOT_FOUND", "CONVERSATION_NOT_FOUND")
    for who in (("bob", "customer"), ("ann", "agent"), ("ana", "customer"), ("bea", "agent")):
        assert await refused(talk("SendMessage", text_of(name, "x"), who)) == nothing_there
    assert (await refused(talk("SendMessage", text_of(name, "x"), ("sue", "supervisor"))))[0] == (
        "PERMISSION_DENIED"
    )

    await talk.assign(name, "bea", 2)

    assert await refused(talk("SendMessage", text_of(name, "x"), AGENT)) == nothing_there
    await talk.send(name, "from bea", who=("bea", "agent"))
    last = (await talk.events(name))[-1]
    assert isinstance(last, MessageSent)
    assert (last.handler, last.agent_id, last.hand_off) == (HANDLER_AGENT, "bea", 2)


async def test_submitted_senders_are_held_to_the_same_rules(talk: Talk) -> None:
    name = await talk.start()
    await talk.assign(name)
    submissions = [
        submission(name, "1"),
        submission(name, "2", 2, "ana"),
        submission(name, "x", 1, "bob"),
        submission(name, "x", 2, "bea"),
        submission(name, "x", 3, "default"),
        submission(name, "x", 2, ""),
        submission(name, "3", 2, "ana"),
    ]

    answer = await talk(
        "SubmitMessages", pb.SubmitMessagesRequest(submissions=submissions), GATEWAY
    )

    refusal = "CONVERSATION_NOT_FOUND"
    senders = ["SENDER_INVALID"] * 2
    first = (await talk.history(name))[2].sequence
    assert results(answer) == [first, first + 1, refusal, refusal, *senders, first + 2]
    calling = talk("SubmitMessages", pb.SubmitMessagesRequest(submissions=submissions))
    assert (await refused(calling))[0] == "PERMISSION_DENIED"


async def test_one_id_given_by_two_senders_is_two_messages(talk: Talk) -> None:
    name = await talk.start()
    await talk.assign(name)

    await talk("SendMessage", text_of(name, "from ann", "c-1"))
    await talk("SendMessage", text_of(name, "from ana", "c-1"), AGENT)

    assert (await talk.said(name))[-2:] == ["ann:from ann", "ana:from ana"]


async def test_two_tenants_with_the_same_conversation_share_nothing(
    talk: Talk, stub: Any, instance: Any
) -> None:
    other = Talk(stub, instance, f"t-{uuid4().hex[:12]}")
    name = new_id()
    await talk.start("one", conversation_id=name)
    assert (await refused(other("SendMessage", text_of(name, "x"))))[0] == "ABORTED"
    await other.start("two", conversation_id=name)

    first = await talk("SendMessage", text_of(name, "same", "c-1"))
    second = await other("SendMessage", text_of(name, "same", "c-1"))

    assert first.message_id != second.message_id
    assert await talk.said(name) == ["ann:one", "ann:same"]
    assert await other.said(name) == ["ann:two", "ann:same"]
    assert [len(await one.events(name)) for one in (talk, other)] == [2, 2]


async def test_message_ahead_of_its_conversation_waits_for_it(talk: Talk) -> None:
    name = new_id()
    sending = asyncio.create_task(_send(talk, name, CUSTOMER))
    await asyncio.sleep(0)

    await talk.start("first", conversation_id=name)

    assert await sending == 2
    assert await talk.said(name) == ["ann:first", "ann:hello"]


async def test_submission_ahead_of_its_conversation_does_not_hold_up_the_others(
    talk: Talk,
) -> None:
    name = await talk.start()
    submissions = [submission(new_id(), "x"), submission(name, "hello")]

    answer = await talk(
        "SubmitMessages", pb.SubmitMessagesRequest(submissions=submissions), GATEWAY
    )

    assert results(answer) == ["CONVERSATION_NOT_YET_KNOWN", 1]


async def test_agent_ahead_of_his_assignment_waits_for_it(talk: Talk) -> None:
    name = await talk.start()
    await talk.apply(handed_off(name))
    sending = asyncio.create_task(_send(talk, name, AGENT))
    await asyncio.sleep(0)

    await talk.apply(assigned(name))

    assert await sending == 3
    assert (await talk.said(name))[-1] == "ana:hello"


async def test_conversation_that_does_not_come_is_said_to_be_unknown(talk: Talk) -> None:
    assert await refused(talk("SendMessage", text_of(new_id(), "x"))) == (
        "ABORTED",
        "CONVERSATION_NOT_YET_KNOWN",
    )
    unknown = ("NOT_FOUND", "CONVERSATION_NOT_FOUND")
    assert await refused(talk("SendMessage", text_of(str(uuid4()), "x"))) == unknown


async def test_reopened_conversation_takes_messages_again(talk: Talk) -> None:
    name = await talk.start()
    await talk.assign(name)
    await talk.apply(ended(name))
    assert (await refused(talk("SendMessage", text_of(name, "x"), AGENT)))[1] == (
        "CONVERSATION_ENDED"
    )
    last = (await talk.events(name))[-1]
    assert isinstance(last, MessageSent)
    assert (last.handler, last.agent_id) == (HANDLER_UNSPECIFIED, "")

    await talk.apply(reopened(name))

    await talk.send(name, "again")
    assert (await refused(talk("SendMessage", text_of(name, "x"), AGENT)))[0] == "NOT_FOUND"


async def test_erased_customer_is_written_to_no_more(talk: Talk, servers: Stack) -> None:
    name = await talk.start("hello", customer="eve")
    owner = await asyncpg.connect(servers.database_url())
    await owner.execute(
        "UPDATE mesh.personal_keys SET wrapped = NULL WHERE tenant_id = $1", talk.tenant
    )
    await owner.close()

    assert await refused(talk("SendMessage", text_of(name, "x"), ("eve", "customer"))) == (
        "FAILED_PRECONDITION",
        "CUSTOMER_ERASED",
    )


@pytest.mark.parametrize("table", ["conversations", "messages", "marks", "early_replies"])
async def test_role_of_requests_sees_no_row_without_its_tenant(
    talk: Talk, servers: Stack, table: str
) -> None:
    name = await talk.start("hello")
    await talk("MarkMessages", pb.MarkMessagesRequest(conversation_id=name, read_sequence=1))
    api = await asyncpg.connect(servers.database_url("message_api"))
    try:
        if table == "early_replies":
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await api.fetchval("SELECT count(*) FROM message.early_replies")
            return
        assert await api.fetchval(f"SELECT count(*) FROM message.{table}") == 0
        for tenant, count in (("nobody", 0), (talk.tenant, 1)):
            async with api.transaction():
                await api.execute("SELECT set_config('app.tenant_id', $1, true)", tenant)
                assert await api.fetchval(f"SELECT count(*) FROM message.{table}") == count
    finally:
        await api.close()


async def test_what_was_said_cannot_be_rewritten(talk: Talk, servers: Stack) -> None:
    for role in ("message_api", "message_pipeline"):
        connection = await asyncpg.connect(servers.database_url(role))
        for statement in (
            "UPDATE message.messages SET body = 'x'",
            "DELETE FROM message.messages",
            "DELETE FROM message.conversations",
            "SELECT * FROM message.messages_default",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
        await connection.close()


async def _send(talk: Talk, name: str, who: tuple[str, str]) -> int:
    return int((await talk("SendMessage", text_of(name, "hello"), who)).sequence)
