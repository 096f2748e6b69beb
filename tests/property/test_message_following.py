"""Whatever conversations and bots do, and however it is batched, one stream comes of it."""

import asyncio
from collections.abc import Sequence

from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st
from interchange.bot.v1.bot_events_pb2 import BotReplied
from interchange.conversation.v1.conversation_events_pb2 import (
    ConversationAssigned,
    ConversationEnded,
    ConversationHandedOff,
    ConversationReopened,
    ConversationStarted,
)
from interchange.conversation.v1.conversation_pb2 import STATUS_WITH_BOT
from interchange.message.v1.message_events_pb2 import MessageSent

from services.common.events import Event
from services.common.outbox import Outbox
from services.common.work import Work
from services.message.consumer import Follower
from services.message.repository import Messages
from tests.unit.test_message_scene import TENANT, Desk

NAMES = [f"019c0000-0000-7000-8000-00000000000{n}" for n in range(3)]
STEPS = st.lists(st.sampled_from("HAER"), max_size=12)


def seal(desk: Desk, name: str, text: str) -> bytes:
    return asyncio.run(desk.keys.of(TENANT, ["ann"]))["ann"].seal(text.encode(), name)


def life(desk: Desk, name: str, steps: Sequence[str]) -> list[Message]:
    """Return the events of a conversation from its start."""
    sealed = seal(desk, name, "hello")
    events: list[Message] = [
        ConversationStarted(
            event_id=f"{name}/0",
            conversation_id=name,
            customer_id="ann",
            status=STATUS_WITH_BOT,
            message_id=f"{name}/m",
            sealed_text=sealed,
        )
    ]
    return events + [_change(name, step, number) for number, step in enumerate(steps, 1)]


def _change(name: str, step: str, number: int) -> Message:
    event_id = f"{name}/{number}"
    if step == "H":
        return ConversationHandedOff(event_id=event_id, conversation_id=name, hand_off=number)
    if step == "A":
        return ConversationAssigned(
            event_id=event_id, conversation_id=name, hand_off=number, agent_id="ana"
        )
    if step == "E":
        return ConversationEnded(event_id=event_id, conversation_id=name)
    return ConversationReopened(event_id=event_id, conversation_id=name, status=STATUS_WITH_BOT)


def replies(desk: Desk, name: str, count: int) -> list[Message]:
    return [
        BotReplied(
            event_id=f"{name}/b{n}",
            conversation_id=name,
            customer_id="ann",
            bot_id="default",
            sealed_text=seal(desk, name, f"reply {n}"),
        )
        for n in range(count)
    ]


def numbered(name: str, topic: str, messages: Sequence[Message]) -> list[Event]:
    return [
        Event(TENANT, topic, name, number, "", message.DESCRIPTOR.full_name, 1, b"", None, message)
        for number, message in enumerate(messages, 1)
    ]


async def follow(desk: Desk, follower: Follower, batch: Sequence[Event]) -> None:
    await follower.prepare(batch)
    work: Work[Messages] = Work(desk.memory, Outbox("message", 1))
    await follower.apply(batch, work=work)
    desk.units.keep(work)
    follower.applied()


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_streams_are_whole_and_in_order(data: st.DataObject) -> None:
    desk = Desk()
    follower = Follower(desk.keys, desk.push, lambda: None)
    lives = {name: life(desk, name, data.draw(STEPS)) for name in NAMES}
    said = {name: replies(desk, name, data.draw(st.integers(0, 4))) for name in NAMES}
    queues = [numbered(name, "conversation-events", lives[name]) for name in NAMES]
    queues += [numbered(name, "bot-events", said[name]) for name in NAMES]
    order: list[Event] = []
    while any(queues):
        queue = data.draw(st.sampled_from([queue for queue in queues if queue]))
        order.append(queue.pop(0))
    while order:
        size = data.draw(st.integers(1, len(order)))
        asyncio.run(follow(desk, follower, order[:size]))
        order = order[size:]

    assert not desk.memory.early
    for name in NAMES:
        rows = desk.memory.of(name)
        assert [row.sequence for row in rows] == list(range(1, len(rows) + 1))
        assert desk.units.numbers[name] == list(range(1, len(rows) + 1))
        ids = [row.message_id for row in rows]
        changes = [event.event_id for event in lives[name][1:]]  # type: ignore[attr-defined]
        assert ids[0] == f"{name}/m"
        assert [one for one in ids if one in changes] == changes
        bot = [one for one in ids if "/b" in one]
        assert bot == sorted(bot)
        if not any(isinstance(event, ConversationEnded) for event in lives[name]):
            assert len(bot) == len(said[name])
        assert len(set(ids)) == len(ids)
        told = [p.message.sequence for p in desk.pushed if p.conversation_id == name]
        assert told == list(range(1, len(rows) + 1))
    sent = [MessageSent.FromString(payload) for _, payload in desk.units.payloads]
    assert all(bool(one.sealed_body) != one.HasField("system") for one in sent)
