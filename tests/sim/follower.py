"""A service that follows events: the real applier and handler, in a world of faults."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import asyncpg

from services.common import upcasters
from services.common.applier import Applier
from services.common.db import Connection
from services.common.event_store import EventStore
from services.common.events import Event, EventTypes
from services.common.handling import DeadLetter, Handler, Prepare, unprepared
from services.common.inbox import Inbox, LostPartition
from services.common.work import UnitOfWork, Work
from tests.sim.chance import Chance
from tests.sim.house import Crash, House
from tests.sim.weather import Weather
from tests.sim.wire import EventId, LaneId, Mangle, Subscription, event_id, keep

BATCH_MAX = 12
REFUSED_MAX = 2
FAULTS: tuple[type[BaseException], ...] = (
    Crash,
    OSError,
    asyncpg.SerializationError,
    RuntimeError,
)


class NotCorrectedYet(Exception):
    """A fault of the code that the next deployment corrects."""


@dataclass(frozen=True, slots=True)
class Consumer:
    """What a service consumes, and how."""

    service: str
    topics: tuple[str, ...]
    messages: Sequence[type[Any]]
    repository: Callable[[Connection], Any]
    handler: Handler[Any]
    prepare: Prepare = unprepared
    on_applied: Callable[[], None] = lambda: None


class Follower:
    """One instance of a service that consumes events.

    `consumer` is made anew at every start: what it remembers dies with the process.
    """

    def __init__(
        self,
        house: House,
        chance: Chance,
        consumer: Callable[[], Consumer],
        mangle: Mangle = keep,
    ) -> None:
        self._new_consumer = consumer
        self._consumer = consumer()
        self.service = service = self._consumer.service
        self.subscription = Subscription(service, self._consumer.topics, mangle)
        self.refused: set[EventId] = set()
        """Events that the code can't apply yet."""
        self.blamed: set[EventId] = set()
        """Events that were alone when a passing fault of the code struck."""
        self._had_refused = 0
        self.weather = Weather()
        self._house, self._chance = house, chance
        self._database = house.databases[service]
        self._inbox = Inbox(service)
        self._stumble: tuple[str, type[BaseException]] | None = None
        self._applier = self._new_applier()
        self._read = dict.fromkeys(self.subscription.lanes, 0)
        self._stored: dict[LaneId, int] = {}

    async def start(self) -> None:
        """Begin as a new process does: with the offsets of the database."""
        self._consumer = self._new_consumer()
        self._applier = self._new_applier()
        async with self._house.owner.transaction():
            lanes = list(self.subscription.lanes)
            self._stored = await self._inbox.offsets(self._house.owner, lanes)
        self._read = dict(self._stored)

    def rewind(self) -> None:
        """Read everything again: Kafka was rebuilt."""
        self._chance.note(self.service, "reads all again")
        self._read = dict.fromkeys(self._read, 0)

    @property
    def waiting(self) -> int:
        """How many messages are not read yet."""
        lanes = self.subscription.lanes
        return sum(len(lane) - self._read[name] for name, lane in lanes.items())

    async def deliver(self) -> None:
        """Read a batch, cut anywhere, and apply it; start again when it dies."""
        following = self._cut()
        if not following:
            return
        expected = {name: self._stored[name] for name in following}
        if self._chance.happens(self.weather.stumbles):
            self._stumble = (self._chance.pick(("before", "after")), self._chance.pick(FAULTS))
        if self._chance.happens(self.weather.zombies):
            await self._apply_as_zombie(following)
        try:
            await self._apply(following, expected)
        except (Crash, OSError, asyncpg.SerializationError) as error:
            self._chance.note(self.service, "dies of", type(error).__name__)
            await self.start()
        else:
            self._read |= following
            self._stored |= following
        self._stumble = None

    async def tend(self) -> None:
        """Work on parked keys."""
        try:
            await self._applier.tend()
        except Crash:
            self._chance.note(self.service, "dies while it tends")
            await self.start()

    async def age_gaps(self) -> None:
        """Let an hour pass for what waits."""
        await self._house.owner.execute(
            f"UPDATE {self.service}.parked_keys SET parked_at = parked_at - interval '2 hours'"
        )

    def _cut(self) -> dict[LaneId, int]:
        """Return up to where each lane is read, of some lanes."""
        following = {}
        left = self._chance.between(1, BATCH_MAX)
        for name, lane in self.subscription.lanes.items():
            ready = min(len(lane) - self._read[name], left)
            count = self._chance.between(0, ready)
            if count:
                following[name] = self._read[name] + count
                left -= count
        return following

    def _batch(self, following: dict[LaneId, int]) -> tuple[list[Event], list[DeadLetter]]:
        """Return the messages of the lanes, mixed: each lane keeps its order."""
        queues = [
            [(name, one) for one in self.subscription.lanes[name][self._read[name] : end]]
            for name, end in following.items()
        ]
        events: list[Event] = []
        dead: list[DeadLetter] = []
        while queues:
            queue = self._chance.pick(queues)
            (topic, _), one = queue.pop(0)
            if one is None:
                dead.append((topic, b"?", b"junk", "message is no event"))
            else:
                events.append(replace(one))
            queues = [queue for queue in queues if queue]
        return events, dead

    async def _apply(self, following: dict[LaneId, int], expected: dict[LaneId, int]) -> None:
        async def advance(connection: Any) -> None:
            await self._inbox.advance(connection, expected, following)

        events, dead = self._batch(following)
        self._maybe_refuse(events)
        self._chance.note(self.service, "applies", [_short(event) for event in events])
        await self._applier.apply(events, dead, advance)

    async def _apply_as_zombie(self, following: dict[LaneId, int]) -> None:
        """Apply as one whose offsets have been moved on by another: it must fail."""
        ahead = {name: self._stored[name] + 1 for name in following}
        stumble, self._stumble = self._stumble, None
        try:
            await self._apply(following, ahead)
        except LostPartition:
            self._chance.note(self.service, "sends a zombie away")
        except Crash:
            self._chance.note(self.service, "loses a zombie")
        else:
            raise AssertionError(f"a zombie of {self.service} applied a batch")
        self._stumble = stumble

    def _maybe_refuse(self, events: list[Event]) -> None:
        for event in events:
            if self._had_refused < REFUSED_MAX and self._chance.happens(self.weather.refused):
                self._chance.note(self.service, "can't apply", *event_id(event))
                self.refused.add(event_id(event))
                self._had_refused += 1

    async def _handle(self, events: Sequence[Event], *, work: Work[Any]) -> None:
        for event in events:
            if event_id(event) in self.refused:
                raise NotCorrectedYet(event_id(event))
        self._fall("before", events)
        await self._consumer.handler(events, work=work)
        self._fall("after", events)

    def _fall(self, moment: str, events: Sequence[Event]) -> None:
        if self._stumble is not None and self._stumble[0] == moment:
            _, error = self._stumble
            self._stumble = None
            self._chance.note(self.service, "stumbles", moment, error.__name__)
            if error is RuntimeError and len(events) == 1:
                self.blamed.add(event_id(events[0]))
            raise error

    def _new_applier(self) -> Applier[Any]:
        settings, consumer = self._house.settings, self._consumer
        return Applier(
            self._database,
            UnitOfWork(self._database, settings, consumer.repository, []),
            EventTypes(consumer.messages, upcasters.UPCASTERS, upcasters.VERSIONS),
            self._handle,
            EventStore(settings),
            settings.consumer_gap_wait_ms,
            consumer.on_applied,
            consumer.prepare,
        )


def _short(event: Event) -> str:
    topic = event.topic.partition("-")[0]
    return f"{event.tenant_id}:{topic}:{event.key[-12:]}.{event.sequence}"
