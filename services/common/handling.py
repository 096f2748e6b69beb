"""Hands events to a service's handler, and puts apart what it can't apply."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeAlias, TypeVar
from uuid import uuid4

import asyncpg
import structlog
from prometheus_client import Counter

from services.common import telemetry
from services.common.admission import key_id
from services.common.db import Connection, savepoint
from services.common.events import Event, EventColumns, EventTypes, Undecodable
from services.common.inbox import Inbox
from services.common.outbox import lock_numbers
from services.common.work import UnitOfWork, Work

log = structlog.get_logger()

R = TypeVar("R")
R_contra = TypeVar("R_contra", contravariant=True)

TRANSIENT = (
    OSError,
    asyncio.TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the first use of a connection whose server died
    asyncpg.PostgresConnectionError,
    asyncpg.TransactionRollbackError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,  # a primary that was demoted
    asyncpg.IdleInTransactionSessionTimeoutError,
)
"""Faults of the surroundings: the same batch may succeed later."""

POISONED = Counter("inbox_poisoned_total", "Events that could not be applied", ["service"])

DeadLetter: TypeAlias = tuple[str, bytes, bytes, str]
"""Topic, raw key, raw value and reason of a message that is no event."""


def describe(error: Exception) -> str:
    """Return what an error says, without the row that Postgres would add to it."""
    if isinstance(error, asyncpg.PostgresError):
        name = getattr(error, "constraint_name", None)
        return f"{type(error).__name__}: {error.args[0]}" + (f" ({name})" if name else "")
    return f"{type(error).__name__}: {error}"


class Handler(Protocol[R_contra]):
    """Applies events, in order, within a unit of work."""

    async def __call__(self, events: Sequence[Event], *, work: Work[R_contra]) -> None:
        """Apply; whatever is raised parks the key of the event that caused it."""
        ...


Prepare: TypeAlias = Callable[[Sequence[Event]], Awaitable[Sequence[tuple[str, str]]]]
"""Gets ready for decoded events before their transaction begins, and returns the
(tenant, key) pairs that their handler writes events of, where a request may as well."""


async def unprepared(events: Sequence[Event]) -> Sequence[tuple[str, str]]:
    """Prepare nothing: only the consumer of this service writes events."""
    return ()


class Handling(Generic[R]):
    """Runs the handler of one service within the transaction of a batch."""

    def __init__(
        self,
        inbox: Inbox,
        unit: UnitOfWork[R],
        types: EventTypes,
        handler: "Handler[R]",
        prepare: Prepare = unprepared,
    ) -> None:
        self._inbox = inbox
        self._unit = unit
        self._types = types
        self._handler = handler
        self._prepare = prepare

    async def prepare(self, events: Sequence[Event]) -> list[int]:
        """Get ready for events; return the locks to take before the first write, sorted."""
        if self._prepare is unprepared:
            return []
        wanted = [event for event in events if self._decoded(event)]
        keys: defaultdict[str, list[str]] = defaultdict(list)
        for tenant_id, key in await self._prepare(wanted):
            keys[tenant_id].append(key)
        service = self._inbox.service
        return sorted({n for tenant in keys for n in lock_numbers(service, tenant, keys[tenant])})

    def _decoded(self, event: Event) -> bool:
        try:
            self._types.decode(event)
        except Undecodable:
            return False  # `handle` meets it again, and parks it
        return event.message is not None

    async def handle(self, connection: Connection, events: Sequence[Event]) -> None:
        """Decode events, apply them, and write the events that they cause."""
        for event in events:
            if event.message is None:
                self._types.decode(event)
        work = self._unit.joined(connection)
        wanted = [event for event in events if event.message is not None]
        if wanted:
            await self._handler(wanted, work=work)
        await self._unit.flush(work, connection, telemetry.inject())

    async def attempt(self, connection: Connection, events: Sequence[Event]) -> str | None:
        """Apply events; return why they can't be, with everything undone."""
        try:
            async with savepoint(connection):
                await self.handle(connection, events)
        except TRANSIENT:
            raise
        except Exception as error:
            return describe(error)
        return None

    async def poison(self, connection: Connection, event: Event, reason: str) -> None:
        """Park the key of an event that can't be applied, and dead-letter the event."""
        log.error(
            "event parked",
            service=self._inbox.service,
            tenant=event.tenant_id,
            topic=event.topic,
            key=event.key,
            sequence=event.sequence,
            reason=reason,
        )
        POISONED.labels(self._inbox.service).inc()
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

    async def bury(self, connection: Connection, dead: Sequence[DeadLetter]) -> None:
        """Dead-letter messages that are no events: they have no key to block."""
        for topic, key, value, reason in dead:
            log.error("message is no event", topic=topic, reason=reason)
            POISONED.labels(self._inbox.service).inc()
            columns = EventColumns("unknown", topic + ".dead", reason=reason)
            name = key.decode(errors="replace").replace("\0", "") or "none"
            columns.extend("unknown", 1, [str(uuid4())], [name], [0], [value])
            await self._send(connection, columns)

    async def _send(self, connection: Connection, columns: EventColumns) -> None:
        work = self._unit.joined(connection)
        work.outbox.add(columns)
        await self._unit.flush(work, connection, None)
