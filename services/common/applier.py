"""Applies batches of events: each key in order, each event once, poison apart."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Generic, Protocol, TypeAlias, TypeVar
from uuid import uuid4

import asyncpg
import structlog
from prometheus_client import Counter, Gauge

from services.common import telemetry
from services.common.admission import Admission, KeyId, admit, contiguous, key_id
from services.common.db import Connection, Database, savepoint
from services.common.event_store import EventSource
from services.common.events import Event, EventColumns, EventTypes, Undecodable
from services.common.inbox import Inbox
from services.common.work import UnitOfWork, Work

log = structlog.get_logger()

R = TypeVar("R")
R_contra = TypeVar("R_contra", contravariant=True)

TRANSIENT = (
    OSError,
    asyncio.TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.TransactionRollbackError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.LockNotAvailableError,
)
"""Faults of the surroundings: the same batch may succeed later."""

APPLIED = Counter("inbox_applied_total", "Events applied", ["service"])
REPEATED = Counter("inbox_repeated_total", "Events that had been applied already", ["service"])
PARKED = Gauge("inbox_parked_keys", "Keys that wait", ["service"])
POISONED = Counter("inbox_poisoned_total", "Events that could not be applied", ["service"])

DRAIN_MAX = 1_000
"""Parked events of a key that are applied in one transaction."""
LOOK_S = 0.5
"""How often parked keys are looked for, where this process knows of none: another
one may have parked them, and gone."""
FETCH_S = 2.0
"""No further key is fetched for in one round after so long; Kafka waits meanwhile."""
STORE_PAUSE_S = 15.0
"""How long the event store is left alone after a fault."""

DeadLetter: TypeAlias = tuple[str, bytes, bytes, str]
"""Topic, raw key, raw value and reason of a message that is no event."""


class Handler(Protocol[R_contra]):
    """Applies events, in order, within a unit of work."""

    async def __call__(self, events: Sequence[Event], *, work: Work[R_contra]) -> None:
        """Apply; whatever is raised parks the key of the event that caused it."""
        ...


class Applier(Generic[R]):
    """Applies events to one service, exactly once in effect."""

    def __init__(
        self,
        database: Database,
        unit: UnitOfWork[R],
        types: EventTypes,
        handler: "Handler[R]",
        source: EventSource,
        gap_wait_ms: int,
    ) -> None:
        self._database = database
        self._unit = unit
        self._types = types
        self._handler = handler
        self._source = source
        self._gap_wait_ms = gap_wait_ms
        self._inbox = Inbox(database.service)
        self._any_parked = True
        self._look_at = 0.0
        self._fetch_at = 0.0

    async def apply(
        self,
        events: Sequence[Event],
        dead: Sequence[DeadLetter],
        advance: Callable[[Connection], Awaitable[None]],
    ) -> None:
        """Apply a batch and move its offsets, in one transaction."""
        try:
            await self._attempt(events, dead, advance, self._together)
        except TRANSIENT:
            raise
        except Exception as error:
            # One event spoils the batch: find it by halves, and park its key.
            log.warning("batch failed", service=self._database.service, error=repr(error))
            await self._attempt(events, dead, advance, self._by_halves)

    async def _attempt(
        self,
        events: Sequence[Event],
        dead: Sequence[DeadLetter],
        advance: Callable[[Connection], Awaitable[None]],
        run: "Callable[[Connection, Admission], Awaitable[None]]",
    ) -> None:
        async with self._database.pipeline() as connection, _spans(self._database, events):
            await advance(connection)
            keys = {key_id(event) for event in events}
            current = await self._inbox.sequences(connection, keys)
            parked = await self._inbox.parked_keys(connection)
            admission = admit(events, current, parked)
            await run(connection, admission)
            if admission.sequences:
                await self._inbox.store_sequences(connection, admission.sequences)
            if admission.parked:
                gaps = {key: ("GAP", reason) for key, reason in admission.gaps.items()}
                await self._inbox.park(connection, admission.parked, gaps)
            await self._bury(connection, dead)
        self._any_parked = bool(parked or admission.parked)
        APPLIED.labels(self._database.service).inc(len(admission.ready))
        REPEATED.labels(self._database.service).inc(admission.repeats)

    async def _together(self, connection: Connection, admission: Admission) -> None:
        if not admission.ready:
            return
        for event in admission.ready:
            self._types.decode(event)
        await self._handle(connection, admission.ready)

    async def _by_halves(self, connection: Connection, admission: Admission) -> None:
        """Apply what can be; the first failure of a key parks the rest of it."""
        stopped: dict[KeyId, str] = {}
        ready, admission.ready = admission.ready, []
        await self._part(connection, ready, admission, stopped)
        for key in stopped:
            admission.gaps.pop(key, None)

    async def _part(
        self,
        connection: Connection,
        events: Sequence[Event],
        admission: Admission,
        stopped: dict[KeyId, str],
    ) -> None:
        """Apply a part of the batch, left half before right, so that keys keep their order."""
        admission.parked += [event for event in events if key_id(event) in stopped]
        events = [event for event in events if key_id(event) not in stopped]
        if not events:
            return
        reason = await self._try(connection, events)
        if reason is None:
            admission.ready += events
        elif len(events) == 1:
            [event] = events
            stopped[key_id(event)] = reason
            admission.parked.append(event)
            admission.sequences[key_id(event)] = event.sequence - 1
            await self._poison(connection, event, reason)
        else:
            middle = len(events) // 2
            await self._part(connection, events[:middle], admission, stopped)
            await self._part(connection, events[middle:], admission, stopped)

    async def _try(self, connection: Connection, events: Sequence[Event]) -> str | None:
        """Apply events; return why they can't be, with everything undone."""
        try:
            async with savepoint(connection):
                for event in events:
                    self._types.decode(event)
                await self._handle(connection, events)
        except TRANSIENT:
            raise
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return None

    async def _handle(self, connection: Connection, events: Sequence[Event]) -> None:
        work = self._unit.joined(connection)
        wanted = [event for event in events if event.message is not None]
        if wanted:
            await self._handler(wanted, work=work)
        await self._unit.flush(work, connection, telemetry.inject())

    async def _poison(self, connection: Connection, event: Event, reason: str) -> None:
        log.error(
            "event parked",
            service=self._database.service,
            tenant=event.tenant_id,
            topic=event.topic,
            key=event.key,
            sequence=event.sequence,
            reason=reason,
        )
        POISONED.labels(self._database.service).inc()
        await self._inbox.park(connection, (), {key_id(event): ("POISONED", reason)})
        columns = EventColumns(event.tenant_id, event.topic + ".dead", reason=reason)
        columns.extend(
            event.type,
            event.version,
            [event.event_id],
            [event.key],
            [event.sequence],
            [event.payload],
        )
        await self._send(connection, columns)

    async def _bury(self, connection: Connection, dead: Sequence[DeadLetter]) -> None:
        """Dead-letter messages that are no events: they have no key to block."""
        for topic, key, value, reason in dead:
            log.error("message is no event", topic=topic, reason=reason)
            POISONED.labels(self._database.service).inc()
            columns = EventColumns("unknown", topic + ".dead", reason=reason)
            name = key.decode(errors="replace").replace("\0", "") or "none"
            columns.extend("unknown", 1, [str(uuid4())], [name], [0], [value])
            await self._send(connection, columns)

    async def _send(self, connection: Connection, columns: EventColumns) -> None:
        work = self._unit.joined(connection)
        work.outbox.add(columns)
        await self._unit.flush(work, connection, None)

    async def tend(self) -> None:
        """Work on parked keys: fetch what is missing, apply what was released."""
        if not self._any_parked and time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + LOOK_S
        # Outside of the transaction: its locks would stall every relay.
        fetched = await self._fetch() if time.monotonic() >= self._fetch_at else {}
        async with self._database.pipeline() as connection:
            for row in await self._inbox.waiting(connection):
                key = (row["tenant_id"], row["topic"], row["key"])
                await self._tend_key(connection, key, row["state"], fetched.get(key))
            parked = await self._inbox.parked_keys(connection)
        self._any_parked = bool(parked)
        PARKED.labels(self._database.service).set(len(parked))

    async def _fetch(self) -> "dict[KeyId, Fetched]":
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
        self, connection: Connection, key: KeyId, state: str, fetched: "Fetched | None"
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
        for event in ready:
            reason = await self._try(connection, [event])
            if reason is not None:
                await self._poison(connection, event, reason)
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
        self, connection: Connection, key: KeyId, events: list[Event], fetched: "Fetched"
    ) -> list[Event]:
        """Join what was fetched with what waits; poison the key when the store lacks it."""
        missing = fetched.missing
        filled = contiguous([*fetched.events, *events], missing.start - 1)
        if not filled:
            reason = f"events {missing.start} to {missing.stop - 1} are not in the event store"
            log.error("gap stays", tenant=key[0], topic=key[1], key=key[2], reason=reason)
            await self._inbox.set_state(connection, key, "POISONED", reason)
        return filled


@dataclass(frozen=True, slots=True)
class Fetched:
    """What the event store has of the events that a key misses."""

    missing: range
    events: list[Event]


def _spans(database: Database, events: Sequence[Event]) -> AsyncExitStack:
    """Open a span for each trace that has an event in the batch."""
    stack = AsyncExitStack()
    for traceparent in sorted({e.traceparent for e in events if e.traceparent})[:16]:
        stack.enter_context(telemetry.span_from(traceparent, f"{database.service} apply events"))
    return stack


__all__ = ["TRANSIENT", "Applier", "Handler", "Undecodable"]
