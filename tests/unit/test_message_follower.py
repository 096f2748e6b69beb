"""What the consumer leaves to be told, and forgets when its transaction failed."""

from collections.abc import Sequence
from typing import Any

import pytest
from interchange.conversation.v1.conversation_events_pb2 import (
    ConversationHandedOff,
    ConversationStarted,
)
from interchange.conversation.v1.conversation_pb2 import STATUS_WITH_BOT

from services.common.events import Event
from services.common.outbox import Outbox
from services.common.work import Work
from services.message.consumer import Follower
from services.message.repository import Messages
from tests.unit.test_message_scene import TENANT, Desk

NAME = "019c0000-0000-7000-8000-000000000000"


def event(number: int, message: Any) -> Event:
    name = message.DESCRIPTOR.full_name
    return Event(TENANT, "conversation-events", NAME, number, "", name, 1, b"", None, message)


STARTED = event(
    1,
    ConversationStarted(
        event_id="1", conversation_id=NAME, customer_id="ann", status=STATUS_WITH_BOT
    ),
)
HANDED_OFF = event(2, ConversationHandedOff(event_id="2", conversation_id=NAME, hand_off=1))


class Scene:
    def __init__(self) -> None:
        self.desk = Desk()
        self.woken = 0
        self.follower = Follower(self.desk.keys, self.desk.push, self.wake)

    def wake(self) -> None:
        self.woken += 1

    async def apply(self, *events: Event) -> None:
        work: Work[Messages] = Work(self.desk.memory, Outbox("message", 1))
        await self.follower.apply(events, work=work)

    @property
    def told(self) -> Sequence[int]:
        return [push.message.sequence for push in self.desk.pushed]


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_keys_and_locks_are_those_of_the_batch(scene: Scene) -> None:
    assert await scene.follower.prepare([STARTED, HANDED_OFF]) == [(TENANT, NAME)] * 2
    assert list(scene.desk.keys.seals) == ["ann"]


async def test_followers_are_told_after_the_commit_and_once(scene: Scene) -> None:
    await scene.follower.prepare([STARTED, HANDED_OFF])
    await scene.apply(STARTED, HANDED_OFF)
    assert scene.told == []

    for _ in range(2):
        scene.follower.applied()

    assert scene.told == [1]
    assert scene.woken == 2


async def test_what_was_rolled_back_is_never_told(scene: Scene) -> None:
    await scene.follower.prepare([STARTED, HANDED_OFF])
    await scene.apply(STARTED, HANDED_OFF)
    # The commit failed: nothing is called until the batch comes again.
    scene.desk.memory.known.clear()
    scene.desk.memory.rows.clear()
    await scene.follower.prepare([STARTED])
    await scene.apply(STARTED)

    scene.follower.applied()

    assert scene.told == []


async def test_batch_that_fails_leaves_nothing_to_tell(scene: Scene) -> None:
    await scene.follower.prepare([HANDED_OFF])
    with pytest.raises(ValueError, match="changed before it started"):
        await scene.apply(HANDED_OFF)

    scene.follower.applied()

    assert scene.told == []
