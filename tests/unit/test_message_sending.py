"""Sending over fakes: numbers, ids given by senders, who may, and what is told when."""

import asyncio

import pytest
from interchange.message.v1.message_events_pb2 import HANDLER_AGENT, HANDLER_QUEUE, MessageSent

from services.common.errors import InvalidArgument
from services.message import outgoing
from services.message.domain import Sender
from tests.unit.test_message_scene import ANA, ANN, TENANT, Desk, conversation, draft

OLD = "019c0000-0000-7000-8000-000000000000"
"""A conversation of an earlier month, of which nobody knows."""


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_messages_are_numbered_per_conversation(desk: Desk) -> None:
    first, second = desk.start(), desk.start(last_sequence=7, event_sequence=9)

    told = await desk.send(draft(first, "a", "1"), draft(second, "b", "1"), draft(first, "c", "2"))

    assert told == ["1:a", "8:b", "2:c"]
    assert desk.units.numbers == {first: [1, 2], second: [10]}
    assert desk.units.locked == [sorted([first, second])]
    assert [push.message.sequence for push in desk.pushed] == [1, 8, 2]
    assert {push.tenant_id for push in desk.pushed} == {TENANT}


async def test_repeats_within_and_after_a_batch_get_the_first_answer(desk: Desk) -> None:
    name = desk.start()

    told = await desk.send(draft(name), draft(name), draft(name, "other"), draft(name, "b", "2"))

    assert told == ["1:hello", "1:hello", "CLIENT_MESSAGE_ID_REUSED", "2:b"]
    assert await desk.send(draft(name), draft(name, "other")) == [
        "1:hello",
        "CLIENT_MESSAGE_ID_REUSED",
    ]
    assert desk.units.numbers == {name: [1, 2]}
    assert len(desk.pushed) == 2


async def test_refused_message_uses_up_neither_number_nor_id(desk: Desk) -> None:
    over, name = desk.start(ended=True), desk.start()
    wrong = InvalidArgument.of("text", "TEXT_EMPTY", "was empty")

    told = await desk.send(wrong, draft(over), draft(name), draft(name, sender=ANA))

    assert told == ["TEXT_EMPTY", "CONVERSATION_ENDED", "1:hello", "CONVERSATION_NOT_FOUND"]
    desk.memory.known[over].ended = False
    assert await desk.send(draft(over)) == ["1:hello"]


async def test_batch_of_nothing_but_refusals_opens_no_transaction(desk: Desk) -> None:
    wrong = InvalidArgument.of("text", "TEXT_EMPTY", "was empty")

    assert await desk.send(wrong, draft(OLD)) == [
        "TEXT_EMPTY",
        "CONVERSATION_NOT_FOUND",
    ]
    assert not desk.units.locked


async def test_nothing_is_pushed_that_was_not_committed(desk: Desk) -> None:
    name = desk.start()
    desk.units.fails = True

    with pytest.raises(ConnectionError):
        await desk.send(draft(name))

    assert not desk.pushed


async def test_event_says_who_is_to_answer_and_is_sealed(desk: Desk) -> None:
    name = desk.start(handler=HANDLER_AGENT, agent_id="ana", hand_off=2)

    await desk.send(draft(name, "secret", sender=ANA))

    [(_, payload)] = desk.units.payloads
    event = MessageSent.FromString(payload)
    assert (event.handler, event.agent_id, event.hand_off) == (HANDLER_AGENT, "ana", 2)
    assert (event.sender.id, event.customer_id, event.bot_id) == ("ana", "ann", "default")
    assert b"secret" not in payload
    assert desk.keys.seals["ann"].open(event.sealed_body, name) == b"secret"


async def test_customer_whose_key_is_gone_is_written_to_no_more(desk: Desk) -> None:
    name, other = desk.start(), desk.start(customer_id="bob")
    desk.keys.erased.add("ann")

    told = await desk.send(draft(name), draft(other, sender=Sender(1, "bob")))

    assert told == ["CUSTOMER_ERASED", "1:hello"]


async def test_customer_of_a_conversation_is_asked_for_once(desk: Desk) -> None:
    name = desk.start()
    await desk.send(draft(name))
    looks = desk.memory.looks

    await desk.send(draft(name, "b", "2"))

    assert desk.memory.looks == looks + 1  # the one under the lock


async def test_message_ahead_of_its_conversation_waits_outside_of_the_batch(desk: Desk) -> None:
    late, name = desk.new_id(), desk.start()
    sending = asyncio.create_task(desk.outgoing.one(TENANT, draft(late)))
    await asyncio.sleep(0)

    assert (await desk.outgoing.one(TENANT, draft(name))).sequence == 1
    desk.memory.known[late] = conversation(late)
    desk.arrivals.wake()

    assert (await sending).sequence == 1


async def test_agent_ahead_of_his_assignment_waits_for_it(desk: Desk) -> None:
    name = desk.start(handler=HANDLER_QUEUE)
    sending = asyncio.create_task(desk.outgoing.one(TENANT, draft(name, sender=ANA)))
    await asyncio.sleep(0)

    desk.memory.known[name].assign("ana", 1)
    desk.arrivals.wake()

    assert (await sending).sequence == 1


async def test_agent_who_is_not_chosen_waits_no_longer(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outgoing, "ASSIGNED_S", 60)
    name = desk.start(handler=HANDLER_QUEUE)
    sending = asyncio.create_task(desk.send(draft(name, sender=ANA)))
    await asyncio.sleep(0)

    desk.memory.known[name].assign("bea", 1)
    desk.arrivals.wake()

    assert await sending == ["CONVERSATION_NOT_FOUND"]


async def test_what_does_not_come_is_said_to_be_unknown_and_the_rest_is_sent(desk: Desk) -> None:
    name = desk.start()

    told = await desk.send(draft(desk.new_id()), draft(name), draft(OLD))

    assert told == ["CONVERSATION_NOT_YET_KNOWN", "1:hello", "CONVERSATION_NOT_FOUND"]


async def test_sender_who_is_too_fast_is_told_when_to_go_on() -> None:
    desk = Desk(rate_per_s=1, burst=3)
    name, other = desk.start(), desk.start(customer_id="bob")
    batch = [draft(name, f"{n}", f"{n}") for n in range(5)]

    told = await desk.send(*batch, draft(other, sender=Sender(1, "bob")))

    assert told == ["1:0", "2:1", "3:2", "MESSAGE_RATE", "MESSAGE_RATE", "1:hello"]


async def test_callers_at_once_share_a_transaction(desk: Desk) -> None:
    name = desk.start()

    sent = await asyncio.gather(
        *(desk.outgoing.one(TENANT, draft(name, f"{n}", f"{n}")) for n in range(20))
    )

    assert sorted(one.sequence for one in sent) == list(range(1, 21))
    assert len(desk.units.locked) < 5
    assert ANN.id == sent[0].sender.id
