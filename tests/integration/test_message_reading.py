"""Reading on real servers: pages both ways, coming back, marks and tails."""

import asyncio
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from interchange.message.v1 import message_service_pb2 as pb
from interchange.message.v1.message_events_pb2 import MessageRead

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
    settings,
    stub,
    tails,
    talk,
)

__all__ = ["instance", "settings", "stub", "talk"]

NOT_FOUND = ("NOT_FOUND", "CONVERSATION_NOT_FOUND")


async def listed(talk: Talk, name: str, who: tuple[str, str] = CUSTOMER, **asked: int) -> Any:
    return await talk("ListMessages", pb.ListMessagesRequest(conversation_id=name, **asked), who)


async def resumed(
    talk: Talk, name: str, after: int = 0, epoch: str = "", size: int = 0, who: Any = CUSTOMER
) -> Any:
    request = pb.ResumeMessagesRequest(
        conversation_id=name, after_sequence=after, epoch=epoch, page_size=size
    )
    return await talk("ResumeMessages", request, who)


def numbers(answer: Any) -> list[int]:
    return [message.sequence for message in answer.messages]


async def test_pages_go_up_and_down_in_the_order_of_the_numbers(talk: Talk) -> None:
    name = await talk.start()
    await talk.send(name, *map(str, range(1, 11)))

    for asked, found, more in (
        ({"after_sequence": 3, "page_size": 4}, [4, 5, 6, 7], True),
        ({"after_sequence": 6, "page_size": 4}, [7, 8, 9, 10], False),
        ({"after_sequence": 10}, [], False),
        ({"after_sequence": 99}, [], False),
        ({"before_sequence": 5, "page_size": 3}, [2, 3, 4], True),
        ({"before_sequence": 4, "page_size": 3}, [1, 2, 3], False),
        ({"before_sequence": 1}, [], False),
        ({"before_sequence": 99, "page_size": 2}, [9, 10], True),
        ({"page_size": 2}, [9, 10], True),
        ({}, list(range(1, 11)), False),
    ):
        answer = await listed(talk, name, **asked)
        assert (numbers(answer), answer.more, answer.last_sequence) == (found, more, 10), asked
    assert await refused(listed(talk, name, after_sequence=1, before_sequence=2)) == (
        "INVALID_ARGUMENT",
        "BOTH_WAYS",
    )


async def test_page_of_long_messages_fits_into_one_answer(talk: Talk) -> None:
    name = await talk.start()
    for _ in range(2):
        await talk.send(name, *["🎉" * 8_000] * 60)

    up = await listed(talk, name, after_sequence=1, page_size=500)
    down = await listed(talk, name, page_size=500)

    assert up.ByteSize() < 2.5 * 1024 * 1024 > down.ByteSize()
    assert up.more
    assert down.more
    assert numbers(up)[0] == 2
    assert numbers(down)[-1] == 120


async def test_everybody_sees_what_is_his(talk: Talk) -> None:
    name = await talk.start("hello")
    for who in (CUSTOMER, ("sue", "supervisor"), ("amy", "auditor")):
        assert numbers(await listed(talk, name, who)) == [1]
    for who in (("bob", "customer"), AGENT):
        assert await refused(listed(talk, name, who)) == NOT_FOUND
    await talk.assign(name, "ana", 1)
    assert len(numbers(await listed(talk, name, AGENT))) == 3

    await talk.assign(name, "bea", 2)

    assert await refused(listed(talk, name, AGENT)) == NOT_FOUND
    assert len(numbers(await listed(talk, name, ("bea", "agent")))) == 5
    await talk.apply(ended(name))
    assert len(numbers(await listed(talk, name, ("bea", "agent")))) == 6


async def test_other_tenant_sees_nothing(talk: Talk, stub: Any, instance: Any) -> None:
    name = await talk.start("hello", conversation_id=new_id(age_s=60))
    other = Talk(stub, instance, f"t-{uuid4().hex[:12]}")
    sue = ("sue", "supervisor")

    assert await refused(listed(other, name, sue)) == NOT_FOUND
    assert await refused(resumed(other, name, who=sue)) == NOT_FOUND
    mark = pb.MarkMessagesRequest(conversation_id=name, read_sequence=1)
    assert await refused(other("MarkMessages", mark)) == NOT_FOUND
    assert await tails(other, name) == []


async def test_reader_ahead_of_the_copy_waits_for_it(talk: Talk) -> None:
    name = new_id()
    reading = asyncio.create_task(resumed(talk, name))
    await asyncio.sleep(0)
    await talk.start("hello", conversation_id=name)
    assert numbers(await reading) == [1]

    await talk.apply(handed_off(name))
    reading = asyncio.create_task(resumed(talk, name, who=AGENT))
    await asyncio.sleep(0)
    await talk.apply(assigned(name))
    assert numbers(await reading) == [1, 2, 3]


async def test_returning_client_gets_what_it_missed(talk: Talk) -> None:
    name = await talk.start("hello")
    first = await resumed(talk, name)
    assert (first.recovered, numbers(first), first.more) == (True, [1], False)
    assert (first.customer_id, first.agent_id, first.ended) == ("ann", "", False)
    await talk.send(name, *map(str, range(2, 11)))

    missed = await resumed(talk, name, 1, first.epoch, 4)
    assert (missed.recovered, numbers(missed), missed.more) == (True, [2, 3, 4, 5], True)
    missed = await resumed(talk, name, 5, first.epoch)
    assert (missed.recovered, numbers(missed), missed.more) == (True, [6, 7, 8, 9, 10], False)
    nothing = await resumed(talk, name, 10, first.epoch)
    assert (nothing.recovered, numbers(nothing), nothing.last_sequence) == (True, [], 10)


async def test_client_that_comes_back_wrongly_is_told_and_gets_the_newest(talk: Talk) -> None:
    name, other = await talk.start(), await talk.start("other")
    await talk.send(name, *map(str, range(1, 11)))
    epoch = (await resumed(talk, name)).epoch
    elsewhere = (await resumed(talk, other)).epoch
    assert epoch != elsewhere

    for after, told in (
        (11, epoch),  # from the future
        (10**15, epoch),
        (3, elsewhere),  # from another conversation
        (3, ""),
        (0, elsewhere),
        (3, "not an epoch"),
    ):
        answer = await resumed(talk, name, after, told, 3)
        assert (answer.recovered, numbers(answer), answer.more) == (False, [8, 9, 10], False)
        assert (answer.epoch, answer.last_sequence) == (epoch, 10)


async def test_client_whose_history_is_gone_is_told_and_gets_what_there_is(
    talk: Talk, servers: Stack
) -> None:
    name = await talk.start()
    await talk.send(name, *map(str, range(1, 11)))
    epoch = (await resumed(talk, name)).epoch
    owner = await asyncpg.connect(servers.database_url())
    await owner.execute(
        "DELETE FROM message.messages WHERE tenant_id = $1 AND sequence < 6", *[talk.tenant]
    )
    await owner.execute(
        "UPDATE message.conversations SET first_sequence = 6 WHERE tenant_id = $1", talk.tenant
    )

    assert (await resumed(talk, name, 5, epoch)).recovered
    for after in (0, 4):
        answer = await resumed(talk, name, after, epoch)
        assert (answer.recovered, numbers(answer)) == (False, [6, 7, 8, 9, 10])
    assert not (await listed(talk, name)).more

    # A rebuilt copy is another one, though its numbers look the same.
    await owner.execute(
        "UPDATE message.conversations SET epoch = gen_random_uuid() WHERE tenant_id = $1",
        talk.tenant,
    )
    await owner.close()
    assert not (await resumed(talk, name, 8, epoch)).recovered


async def test_marks_move_forward_only_and_are_told(talk: Talk) -> None:
    name = await talk.start("hello")
    await talk.send(name, *map(str, range(2, 6)))

    async def mark(delivered: int, read: int, who: tuple[str, str] = CUSTOMER) -> tuple[int, int]:
        request = pb.MarkMessagesRequest(
            conversation_id=name, delivered_sequence=delivered, read_sequence=read
        )
        moved = await talk("MarkMessages", request, who)
        return moved.delivered_sequence, moved.read_sequence

    assert await mark(0, 0) == (0, 0)
    assert await mark(3, 2) == (3, 2)
    assert await mark(1, 1) == (3, 2)
    assert await mark(0, 5) == (5, 5)
    [tail] = await tails(talk, name)
    assert (tail.last_sequence, tail.marks_version) == (5, 2)
    assert await refused(mark(6, 0)) == ("INVALID_ARGUMENT", "SEQUENCE_UNKNOWN")
    assert await refused(mark(1, 1, ("bob", "customer"))) == NOT_FOUND
    assert await refused(mark(1, 1, ("sue", "supervisor"))) == (
        "PERMISSION_DENIED",
        "NOT_A_PARTICIPANT",
    )
    found = [event for event in await talk.events(name) if isinstance(event, MessageRead)]
    assert [(event.reader.id, event.read_sequence) for event in found] == [("ann", 2), ("ann", 5)]
    await talk.send(name, "6")
    assert len(await talk.events(name)) == 8


async def test_submitted_marks_are_coalesced_and_bad_ones_left_out(talk: Talk) -> None:
    name, other = await talk.start("1"), await talk.start("1")
    await talk.assign(name)
    await talk.send(name, "4", "5")

    def one(conversation_id: str, kind: int, who: str, delivered: int, read: int) -> pb.ReaderMark:
        return pb.ReaderMark(
            conversation_id=conversation_id,
            mark={
                "reader": {"kind": kind, "id": who},
                "delivered_sequence": delivered,
                "read_sequence": read,
            },
        )

    marks = [
        one(name, 1, "ann", 1, 0),
        one(name, 1, "ann", 4, 2),
        one(name, 1, "ann", 3, 3),
        one(name, 2, "ana", 5, 0),
        one(other, 1, "ann", 1, 1),
        one(name, 1, "ann", 6, 0),
        one(name, 1, "bob", 1, 1),
        one(name, 2, "bea", 1, 1),
        one(name, 3, "default", 1, 1),
        one(name, 1, "ann", -1, 0),
        one("no id", 1, "ann", 1, 1),
        one(str(uuid4()), 1, "ann", 1, 1),
    ]

    for moved in (3, 0):
        answer = await talk("SubmitMarks", pb.SubmitMarksRequest(marks=marks), GATEWAY)
        assert answer.moved_count == moved
    found = (await resumed(talk, name)).marks
    assert {(m.reader.id, m.delivered_sequence, m.read_sequence) for m in found} == {
        ("ann", 4, 3),
        ("ana", 5, 0),
    }
    read = [event for event in await talk.events(name) if isinstance(event, MessageRead)]
    assert [(event.reader.id, event.read_sequence) for event in read] == [("ann", 3)]
    calling = talk("SubmitMarks", pb.SubmitMarksRequest(marks=marks * 100), GATEWAY)
    assert (await refused(calling))[1] == "BATCH_SIZE_INVALID"


async def test_tails_are_those_of_known_conversations(talk: Talk) -> None:
    name, other = await talk.start("hello"), await talk.start()
    await talk.assign(other)

    found = {tail.conversation_id: tail for tail in await tails(talk, name, other, "x", new_id())}

    assert {key: tail.last_sequence for key, tail in found.items()} == {name: 1, other: 2}
    assert (found[other].customer_id, found[other].agent_id) == ("ann", "ana")
    request = pb.ListTailsRequest(conversation_ids=[name] * 5_001)
    assert (await refused(talk("ListTails", request, GATEWAY)))[1] == "BATCH_SIZE_INVALID"


@pytest.mark.parametrize("asked", [{"after_sequence": -1}, {"page_size": 501}])
async def test_requests_out_of_bounds_are_refused(talk: Talk, asked: dict[str, int]) -> None:
    name = await talk.start()
    assert (await refused(listed(talk, name, **asked)))[0] == "INVALID_ARGUMENT"
    assert (await refused(listed(talk, "no id")))[0] == "INVALID_ARGUMENT"
