"""The way from outboxes to appliers, in memory, in place of relay, Kafka and consumer.

A lane is a partition: what is in it stays, in its order. Its reader keeps to the
offsets in the database. Faults of the way put events into the lane late, twice,
out of order, broken, or never.
"""

import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

import asyncpg

from services.common.events import Event
from services.common.relay import NEXT, Cursor
from tests.sim.chance import Chance
from tests.sim.house import House
from tests.sim.weather import Weather

PARTITIONS = 3
SHARD = 0
DELAY_MAX = 40
"""Steps that an event may be late."""
ROWS_MAX = 5
MANGLED_MAX = 2
"""Events of a run that are mangled, for each subscriber."""

LaneId: TypeAlias = tuple[str, int]
"""Topic and partition."""
EventId: TypeAlias = tuple[str, str, str, int]
"""Tenant, topic, key and sequence."""
Mangle: TypeAlias = Callable[[Event, Chance], Event | None]
"""Returns an event as no service can apply it; None where nobody could skip it."""

# The relay's own query, but for the bound: nothing else writes here, and a stranger's
# transaction in the same cluster would make one run differ from the next.
_BOUND = "AND transaction_id < pg_snapshot_xmin(pg_current_snapshot())"
assert _BOUND in NEXT


def event_id(event: Event) -> EventId:
    """Return what names an event, whatever its payload."""
    return event.tenant_id, event.topic, event.key, event.sequence


@dataclass(slots=True)
class Subscription:
    """The lanes of one subscriber, and what happens to its events on the way."""

    service: str
    topics: tuple[str, ...]
    mangle: Mangle
    lanes: dict[LaneId, list[Event | None]] = field(default_factory=dict)
    """None is a message that is no event."""
    late: list[tuple[int, Event]] = field(default_factory=list)
    """Events with the step in which they come."""
    mangled: set[EventId] = field(default_factory=set)
    lost: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lanes = {(topic, n): [] for topic in self.topics for n in range(PARTITIONS)}

    def publish(self, event: Event, step: int, chance: Chance, weather: Weather) -> None:
        """Put an event into its lane, or lose, delay, repeat, swap or mangle it."""
        lane = self._lane(event)
        if chance.happens(weather.lost):
            chance.note("lost", self.service, *event_id(event))
            self.lost.append(event)
            return
        event = self._maybe_mangle(event, chance, weather)
        if chance.happens(weather.repeated):
            self.late.append((step + chance.between(0, DELAY_MAX), event))
        if chance.happens(weather.delayed):
            self.late.append((step + chance.between(1, DELAY_MAX), event))
            return
        lane.append(event)
        if len(lane) > 1 and chance.happens(weather.swapped):
            lane[-2:] = reversed(lane[-2:])
        if chance.happens(weather.strangers):
            lane.append(None)

    def arrive(self, step: int) -> None:
        """Put what is due into its lane."""
        due = [event for at, event in self.late if at <= step]
        self.late = [(at, event) for at, event in self.late if at > step]
        for event in due:
            self._lane(event).append(event)

    def find_lost(self) -> None:
        """Put what was lost into its lane after all."""
        for event in self.lost:
            self._lane(event).append(event)
        self.lost = []

    def _lane(self, event: Event) -> list[Event | None]:
        return self.lanes[
            event.topic, zlib.crc32(f"{event.tenant_id}:{event.key}".encode()) % PARTITIONS
        ]

    def _maybe_mangle(self, event: Event, chance: Chance, weather: Weather) -> Event:
        known = event_id(event) in self.mangled
        if known or len(self.mangled) >= MANGLED_MAX or not chance.happens(weather.mangled):
            return event
        broken = self.mangle(event, chance)
        if broken is None:
            return event
        chance.note("mangled", *event_id(event))
        self.mangled.add(event_id(event))
        return broken


def keep(event: Event, chance: Chance) -> Event | None:
    """Mangle nothing."""
    return None


class Relay:
    """Reads the outbox of a service in the relay's order: (transaction id, id)."""

    def __init__(self, house: House, service: str) -> None:
        self._house = house
        self._query = NEXT.replace(_BOUND, "").format(service=service)
        self._cursor = Cursor()

    async def run(
        self, to: Iterable[Subscription], step: int, chance: Chance, weather: Weather
    ) -> int:
        """Publish some rows; return how many. A relay that dies will publish them again."""
        cursor = self._cursor
        limit = chance.between(1, ROWS_MAX)
        rows = await self._house.owner.fetch(
            self._query, SHARD, cursor.transaction_id, cursor.id, limit
        )
        for row in rows:
            for event in events(row):
                for subscription in to:
                    if event.topic in subscription.topics:
                        subscription.publish(event, step, chance, weather)
        if rows and chance.happens(weather.relay_dies):
            chance.note("relay dies after publishing", len(rows))
        elif rows:
            self._cursor = Cursor(rows[-1]["transaction_id"], rows[-1]["id"])
        return len(rows)


def events(row: asyncpg.Record) -> Iterable[Event]:
    """Yield the events that a row of an outbox packs."""
    columns = ("keys", "sequences", "event_ids", "types", "versions", "payloads")
    for values in zip(*(row[name] for name in columns), strict=True):
        yield Event(row["tenant_id"], row["topic"], *values)
