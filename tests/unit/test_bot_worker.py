"""The worker over fakes: tenants apart, patience, and what happens when things fail."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from interchange.bot.v1 import bot_pb2
from interchange.message.v1.message_events_pb2 import MessageBody
from interchange.nlu.v1.nlu_service_pb2 import DetectIntentRequest

from services.bot.domain import Detection
from services.bot.repository import Bots, ConversationId, Known, StoredBot
from services.bot.turns import Queue, Turn
from services.bot.understanding import Understanding
from services.bot.worker import GIVE_UP_AFTER, Patience, Worker
from services.common.clock import ManualClock
from services.common.ids import uuid7_batch
from services.common.outbox import Outbox
from services.common.personal import Keys, Seal, Unreadable
from services.common.work import Work, WorkUnits

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
SEAL = Seal(bytes(32))
CLERK = bot_pb2.Bot(
    bot_id="default",
    fallback_reply="pardon?",
    intents=[bot_pb2.Intent(name="hours", replies=["nine"])],
)
PATIENCE = Patience(attempts_max=3, pause_ms=100)


class FakeQueue(Queue):
    """Hands out what was put in, and takes back what is postponed."""

    def __init__(self) -> None:
        self.waiting: list[Turn] = []
        self.postponed: list[tuple[str, int]] = []
        self.faults: list[Exception] = []

    async def claim(self, busy: Collection[str], tenants_max: int) -> Mapping[str, Sequence[Turn]]:
        assert tenants_max > 0
        if self.faults:
            raise self.faults.pop()
        found: dict[str, list[Turn]] = {}
        for turn in self.waiting:
            if turn.tenant_id not in busy:
                found.setdefault(turn.tenant_id, []).append(turn)
        self.waiting = [turn for turn in self.waiting if turn.tenant_id in busy]
        return found

    async def postpone(
        self, tenant_id: str, turns: Sequence[Turn], pauses_ms: Sequence[int]
    ) -> None:
        self.postponed += zip([turn.event_id for turn in turns], pauses_ms, strict=True)


class FakeBots(Bots):
    """Bots, contexts and turns in memory; finishing what is in `poison` fails."""

    def __init__(self) -> None:
        self.known: dict[str, Known] = {}
        self.finished: list[str] = []
        self.poison: set[str] = set()

    async def put(self, tenant_id: str, bot_id: str, body: bytes) -> int:
        raise NotImplementedError

    async def newer(
        self, tenant_id: str, known: Mapping[str, int]
    ) -> Mapping[str, tuple[int, bytes | None]]:
        if "default" not in known:
            return {}
        return {"default": (1, None if known["default"] == 1 else CLERK.SerializeToString())}

    async def page(self, tenant_id: str, after: str, limit: int) -> Sequence[tuple[str, StoredBot]]:
        raise NotImplementedError

    async def contexts(
        self, tenant_id: str, conversation_ids: Collection[str]
    ) -> Mapping[str, Known]:
        return {one: self.known[one] for one in conversation_ids if one in self.known}

    async def store(self, tenant_id: str, known: Mapping[str, Known]) -> None:
        self.known |= known

    async def finish(self, tenant_id: str, turns: Sequence[Turn]) -> set[tuple[str, int]]:
        if self.poison.intersection(turn.event_id for turn in turns):
            raise ValueError("poison")
        self.finished += [turn.event_id for turn in turns]
        return {(turn.conversation_id, turn.sequence) for turn in turns}

    async def add(self, turns: Sequence[Turn]) -> None:
        raise NotImplementedError

    async def close(self, stints: Mapping[ConversationId, int]) -> None:
        raise NotImplementedError


class FakeUnits(WorkUnits[Bots]):
    def __init__(self) -> None:
        self.repository = FakeBots()
        self.kinds: list[str] = []

    @asynccontextmanager
    async def tenant(self, tenant_id: str, lock: Sequence[str] = ()) -> AsyncIterator[Work[Bots]]:
        outbox = Outbox("bot", 1)
        yield Work(self.repository, outbox)
        for columns in outbox.columns:
            self.kinds += [name.rpartition(".")[2] for name in columns.types]

    @asynccontextmanager
    async def reading(self, tenant_id: str) -> AsyncIterator[Bots]:
        yield self.repository


class FakeUnderstanding(Understanding):
    """Understands `hours`; `fails` fails, and a tenant that is `slow` waits."""

    def __init__(self) -> None:
        self.slow = asyncio.Event()
        self.calls: list[tuple[str, list[str]]] = []

    async def detect(
        self, tenant_id: str, requests: Sequence[DetectIntentRequest]
    ) -> Sequence[Detection | None]:
        texts = [request.text for request in requests]
        self.calls.append((tenant_id, texts))
        if tenant_id == "slow":
            await self.slow.wait()
        return [None if text == "fails" else Detection(text, 900, 1) for text in texts]


class FakeKeys(Keys):
    """A key for everybody but who was erased; that of `damaged` can't be unwrapped."""

    async def of(self, tenant_id: str, customer_ids: Collection[str]) -> Mapping[str, Seal]:
        if "damaged" in customer_ids:
            raise Unreadable("another master key")
        return {one: SEAL for one in customer_ids if one != "erased"}


class Scene:
    """A worker at work, and what it works with."""

    def __init__(self) -> None:
        self.queue, self.uow, self.understanding = FakeQueue(), FakeUnits(), FakeUnderstanding()
        self.worker = Worker(
            self.queue,
            self.uow,
            self.understanding,
            FakeKeys(),
            ManualClock(NOW),
            PATIENCE,
            poll_ms=1,
        )
        self._ids = iter(uuid7_batch(1_000, ManualClock(NOW).now_us()))

    def turn(self, text: str = "hours", tenant: str = "demo", **changes: Any) -> Turn:
        conversation_id = next(self._ids)
        body = MessageBody(text=text).SerializeToString()
        values = {
            "tenant_id": tenant,
            "conversation_id": conversation_id,
            "sequence": 1,
            "event_id": next(self._ids),
            "customer_id": "cleo",
            "bot_id": "default",
            "hand_off": 0,
            "sealed_body": SEAL.seal(body, conversation_id),
            "lease": UUID(int=1),
            "attempts": 1,
        }
        turn = Turn(**(values | changes))
        self.queue.waiting.append(turn)
        return turn

    async def until(self, *turns: Turn) -> None:
        """Wait until turns are finished."""
        async with asyncio.timeout(10):
            while not {turn.event_id for turn in turns} <= set(self.uow.repository.finished):
                await asyncio.sleep(0)

    def reply_to(self, turn: Turn) -> int:
        return self.uow.repository.known[turn.conversation_id].last_sequence


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    task = asyncio.create_task(scene.worker.run())
    yield scene
    scene.understanding.slow.set()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_turns_that_came_together_are_asked_together(scene: Scene) -> None:
    turns = [scene.turn() for _ in range(5)]
    greeting = scene.turn(sequence=0, sealed_body=b"")
    await scene.until(*turns, greeting)

    assert scene.understanding.calls == [("demo", ["hours"] * 5)]
    assert scene.uow.kinds == ["BotReplied"] * 5


async def test_a_slow_tenant_makes_no_other_wait(scene: Scene) -> None:
    held = scene.turn(tenant="slow")
    await asyncio.sleep(0.01)
    for _ in range(20):
        await scene.until(scene.turn(tenant="quick"))
    assert held.event_id not in scene.uow.repository.finished

    scene.understanding.slow.set()
    await scene.until(held)


async def test_a_slow_tenant_has_two_batches_at_once_and_no_more(scene: Scene) -> None:
    turns = []
    for _ in range(5):
        turns.append(scene.turn(tenant="slow"))
        await asyncio.sleep(0.01)
    assert len(scene.understanding.calls) == 2

    scene.understanding.slow.set()
    await scene.until(*turns)
    assert [len(texts) for _, texts in scene.understanding.calls] == [1, 1, 3]


async def test_one_that_is_not_understood_waits_alone_and_longer_each_time(scene: Scene) -> None:
    good = scene.turn()
    first, second = scene.turn("fails"), scene.turn("fails", attempts=2)
    await scene.until(good)
    async with asyncio.timeout(10):
        while len(scene.queue.postponed) < 2:
            await asyncio.sleep(0)

    assert scene.queue.postponed == [(first.event_id, 100), (second.event_id, 200)]


async def test_in_the_end_it_is_handed_over(scene: Scene) -> None:
    last = scene.turn("fails", attempts=3)
    await scene.until(last)

    assert scene.uow.kinds == ["BotReplied", "HandoffRequested"]
    assert scene.reply_to(last) == 2


async def test_one_that_nobody_gets_through_is_handed_over_unread(scene: Scene) -> None:
    """Nothing can be said to whose key is unreadable; a person is asked all the same."""
    good, damaged = scene.turn(), scene.turn(customer_id="damaged")
    await scene.until(good)
    async with asyncio.timeout(10):
        while not scene.queue.postponed:
            await asyncio.sleep(0)
    assert scene.queue.postponed == [(damaged.event_id, 100)]
    scene.uow.kinds.clear()

    tried = PATIENCE.attempts_max + GIVE_UP_AFTER
    last = scene.turn(customer_id="damaged", attempts=tried + 1)
    await scene.until(last)
    assert scene.uow.kinds == ["HandoffRequested"]


async def test_poison_takes_no_other_along(scene: Scene) -> None:
    turns = [scene.turn() for _ in range(9)]
    scene.uow.repository.poison = {turns[4].event_id}
    await scene.until(*turns[:4], *turns[5:])

    assert turns[4].event_id not in scene.uow.repository.finished


async def test_what_nobody_can_read_is_handed_over(scene: Scene) -> None:
    damaged = scene.turn(sealed_body=b"\x01garbage")
    place = scene.turn().conversation_id
    no_body = scene.turn(
        conversation_id=place, sequence=2, sealed_body=SEAL.seal(b"\xff\xff", place)
    )
    await scene.until(damaged, no_body)

    assert scene.uow.kinds.count("HandoffRequested") == 2


async def test_an_erased_customer_is_not_answered(scene: Scene) -> None:
    await scene.until(scene.turn(customer_id="erased"))

    assert scene.uow.kinds == []


async def test_a_database_that_is_away_is_tried_again(scene: Scene) -> None:
    scene.queue.faults = [
        OSError("away"),
        asyncpg.ConnectionDoesNotExistError("gone"),
        TimeoutError(),
    ]
    await scene.until(scene.turn())


async def test_a_worker_that_leaves_finishes_what_it_began() -> None:
    scene = Scene()
    task = asyncio.create_task(scene.worker.run())
    held = scene.turn(tenant="slow")
    async with asyncio.timeout(10):
        while not scene.understanding.calls:
            await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    scene.understanding.slow.set()
    await asyncio.gather(task, return_exceptions=True)

    assert scene.uow.repository.finished == [held.event_id]
