"""Keys that wait: fetches what is missing, applies what was released."""

import time
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog
from prometheus_client import Gauge

from services.common.admission import KeyId, contiguous
from services.common.db import Connection, Database
from services.common.event_store import EventSource
from services.common.events import Event
from services.common.handling import Handling
from services.common.inbox import Inbox
from services.common.outbox import lock

log = structlog.get_logger()

R = TypeVar("R")

PARKED = Gauge("inbox_parked_keys", "Keys that wait", ["service"])

DRAIN_MAX = 1_000
"""Parked events of a key that are applied in one transaction."""
LOOK_S = 0.5
"""How often parked keys are looked for, where this process knows of none: another
one may have parked them, and gone."""
FETCH_S = 2.0
"""No further key is fetched for in one round after so long; Kafka waits meanwhile."""
STORE_PAUSE_S = 15.0
"""How long the event store is left alone after a fault."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What the event store has of the events that a key misses."""

    missing: range
    events: list[Event]


class Tender(Generic[R]):
    """Looks after the parked keys of one service."""

    def __init__(
        self,
        database: Database,
        inbox: Inbox,
        handling: Handling[R],
        source: EventSource,
        gap_wait_ms: int,
    ) -> None:
        self._database = database
        self._inbox = inbox
        self._handling = handling
        self._source = source
        self._gap_wait_ms = gap_wait_ms
        self.any_parked = True
        self._look_at = 0.0
        self._fetch_at = 0.0

    async def tend(self) -> None:
        """Work on parked keys: fetch what is missing, apply what was released."""
        if not self.any_parked and time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + LOOK_S
        # Outside of the transaction: its locks would stall every relay.
        fetched = await self._fetch() if time.monotonic() >= self._fetch_at else {}
        async with self._database.pipeline() as connection:
            for row in await self._inbox.waiting(connection):
                key = (row["tenant_id"], row["topic"], row["key"])
                await self._tend_key(connection, key, row["state"], fetched.get(key))
            parked = await self._inbox.parked_keys(connection)
        self.any_parked = bool(parked)
        PARKED.labels(self._database.service).set(len(parked))

    async def _fetch(self) -> dict[KeyId, Fetched]:
        """Fetch what keys have missed for long enough from the event store."""
        async with self._database.pipeline() as connection:
            gaps = await self._inbox.gaps(connection, self._gap_wait_ms)
        until = time.monotonic() + FETCH_S
        fetched = {}
        for key, last, following in gaps:
            missing = range(last + 1, min(following, last + 1 + DRAIN_MAX))
            try:
                events = await self._source.read(key, missing.start, missing.stop - 1)
            except Exception as error:
                # Whatever is wrong with the store, the key waits and the others go on.
                log.error("event store failed", topic=key[1], key=key[2], error=repr(error))
                self._fetch_at = time.monotonic() + STORE_PAUSE_S
                break
            fetched[key] = Fetched(missing, events)
            if time.monotonic() > until:
                break
        return fetched

    async def _tend_key(
        self, connection: Connection, key: KeyId, state: str, fetched: Fetched | None
    ) -> None:
        last = (await self._inbox.sequences(connection, [key])).get(key, 0)
        events = await self._inbox.parked_events(connection, key, DRAIN_MAX)
        if state == "SKIP" and events:
            # The event that can't be applied, or those that are nowhere.
            last = max(last + 1, events[0].sequence - 1)
            log.warning("event skipped", tenant=key[0], topic=key[1], key=key[2], sequence=last)
        ready = contiguous(events, last)
        if state == "GAP" and events and not ready and fetched and fetched.missing[0] == last + 1:
            ready = await self._fill(connection, key, events, fetched)
        # Late, for the transaction has written already: an event may be published ahead
        # of the one before it, and waits a moment at who follows.
        await lock(connection, await self._handling.prepare(ready))
        # Together: one by one they would hold the transaction, and every relay, for long.
        if ready and await self._handling.attempt(connection, ready) is None:
            last, ready = ready[-1].sequence, []
        for event in ready:
            reason = await self._handling.attempt(connection, [event])
            if reason is not None:
                await self._handling.poison(connection, event, reason)
                break
            last = event.sequence
        await self._inbox.store_sequences(connection, {key: last})
        if not await self._inbox.unpark(connection, key, last) and state != "GAP":
            await self._settle(connection, key)

    async def _settle(self, connection: Connection, key: KeyId) -> None:
        """Let a released key that still has events go on, unless it is poisoned again."""
        if (await self._inbox.parked_keys(connection)).get(key) != "POISONED":
            await self._inbox.set_state(connection, key, "GAP", "released, draining")

    async def _fill(
        self, connection: Connection, key: KeyId, events: list[Event], fetched: Fetched
    ) -> list[Event]:
        """Join what was fetched with what waits; poison the key when the store lacks it."""
        missing = fetched.missing
        filled = contiguous([*fetched.events, *events], missing.start - 1)
        if not filled:
            reason = f"events {missing.start} to {missing.stop - 1} are not in the event store"
            log.error("gap stays", tenant=key[0], topic=key[1], key=key[2], reason=reason)
            await self._inbox.set_state(connection, key, "POISONED", reason)
        return filled
