"""Applies batches of events: each key in order, each event once, poison apart."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Generic, TypeVar

import structlog
from prometheus_client import Counter

from services.common import telemetry
from services.common.admission import Admission, KeyId, admit, key_id
from services.common.db import Connection, Database
from services.common.event_store import EventSource
from services.common.events import Event, EventTypes
from services.common.handling import TRANSIENT, DeadLetter, Handler, Handling, Prepare, unprepared
from services.common.inbox import Inbox
from services.common.tending import Tender
from services.common.work import UnitOfWork

log = structlog.get_logger()

R = TypeVar("R")

APPLIED = Counter("inbox_applied_total", "Events applied", ["service"])
REPEATED = Counter("inbox_repeated_total", "Events that had been applied already", ["service"])


class Applier(Generic[R]):
    """Applies events to one service, exactly once in effect.

    `on_applied` is called after each commit: readers of this process wait for it.
    `prepare` is called before each transaction: a service that also writes events of
    the same keys for requests must take their locks before its first write, which
    the offsets are, else the events of a key are published out of order.
    """

    def __init__(
        self,
        database: Database,
        unit: UnitOfWork[R],
        types: EventTypes,
        handler: "Handler[R]",
        source: EventSource,
        gap_wait_ms: int,
        on_applied: Callable[[], None] = lambda: None,
        prepare: Prepare = unprepared,
    ) -> None:
        self._database = database
        self._on_applied = on_applied
        self._applied = APPLIED.labels(database.service)
        self._repeated = REPEATED.labels(database.service)
        self._inbox = Inbox(database.service)
        self._handling = Handling(self._inbox, unit, types, handler, prepare)
        self._tender = Tender(database, self._inbox, self._handling, source, gap_wait_ms)

    async def apply(
        self,
        events: Sequence[Event],
        dead: Sequence[DeadLetter],
        advance: Callable[[Connection], Awaitable[None]],
    ) -> None:
        """Apply a batch and move its offsets, in one transaction."""
        try:
            locks = await self._handling.prepare(events)
            await self._attempt(events, dead, advance, self._together, locks)
        except TRANSIENT:
            raise
        except Exception as error:
            # One event spoils the batch: find it by halves, and park its key.
            log.warning("batch failed", service=self._database.service, error=repr(error))
            locks = await self._locks(events)
            await self._attempt(events, dead, advance, self._by_halves, locks)

    async def _attempt(
        self,
        events: Sequence[Event],
        dead: Sequence[DeadLetter],
        advance: Callable[[Connection], Awaitable[None]],
        run: "Callable[[Connection, Admission], Awaitable[None]]",
        locks: Sequence[int],
    ) -> None:
        # Spans around the transaction: they end with its commit.
        async with _spans(self._database, events), self._database.pipeline(locks) as connection:
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
            await self._handling.bury(connection, dead)
        self._tender.any_parked = bool(parked or admission.parked)
        self._on_applied()
        self._applied.inc(len(admission.ready))
        self._repeated.inc(admission.repeats)

    async def _locks(self, events: Sequence[Event]) -> list[int]:
        """Return the locks of a batch that one event spoils, none when even that can't be told."""
        try:
            return await self._handling.prepare(events)
        except TRANSIENT:
            raise
        except Exception as error:
            log.error("not prepared", service=self._database.service, error=repr(error))
            return []

    async def _together(self, connection: Connection, admission: Admission) -> None:
        if admission.ready:
            await self._handling.handle(connection, admission.ready)

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
        reason = await self._handling.attempt(connection, events)
        if reason is None:
            admission.ready += events
        elif len(events) == 1:
            [event] = events
            stopped[key_id(event)] = reason
            admission.parked.append(event)
            admission.sequences[key_id(event)] = event.sequence - 1
            await self._handling.poison(connection, event, reason)
        else:
            middle = len(events) // 2
            await self._part(connection, events[:middle], admission, stopped)
            await self._part(connection, events[middle:], admission, stopped)

    async def tend(self) -> None:
        """Work on parked keys: fetch what is missing, apply what was released."""
        await self._tender.tend()


def _spans(database: Database, events: Sequence[Event]) -> AsyncExitStack:
    """Open a span for each trace that has an event in the batch."""
    stack = AsyncExitStack()
    for traceparent in sorted({e.traceparent for e in events if e.traceparent})[:16]:
        stack.enter_context(telemetry.span_from(traceparent, f"{database.service} apply events"))
    return stack
