"""A unit of work: one transaction, its repository and the events it causes."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from services.common import telemetry
from services.common.config import Settings
from services.common.db import Connection, Database
from services.common.outbox import Outbox, lock_numbers
from services.common.relay import Relay

R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Work(Generic[R_co]):
    """An open transaction as a handler sees it."""

    repository: R_co
    outbox: Outbox


class WorkUnits(Protocol[R_co]):
    """Opens units of work; the fake of the unit tests subclasses it."""

    def tenant(
        self, tenant_id: str, lock: Sequence[str] = ()
    ) -> AbstractAsyncContextManager[Work[R_co]]:
        """Open a transaction of one tenant, committed with its events.

        Other writers of the keys `lock` wait until it ends.
        """
        ...

    def reading(self, tenant_id: str) -> AbstractAsyncContextManager[R_co]:
        """Open a read-only transaction of one tenant."""
        ...


class UnitOfWork(WorkUnits[R_co], Generic[R_co]):
    """Opens transactions on the real database.

    After a commit with events the relays of this process look at once.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        repository: Callable[[Connection], R_co],
        relays: Sequence[Relay],
    ) -> None:
        self._database = database
        self._shards = settings.outbox_shards
        self._repository = repository
        self._relays = relays

    @asynccontextmanager
    async def tenant(self, tenant_id: str, lock: Sequence[str] = ()) -> AsyncIterator[Work[R_co]]:
        """Open a transaction of one tenant, committed with its events."""
        locks = lock_numbers(self._database.service, tenant_id, lock)
        async with self._database.tenant(tenant_id, locks=locks) as connection:
            work = Work(self._repository(connection), self._outbox())
            yield work
            added = await work.outbox.flush(connection, telemetry.inject())
        self._published(added)

    @asynccontextmanager
    async def reading(self, tenant_id: str) -> AsyncIterator[R_co]:
        """Open a read-only transaction of one tenant."""
        async with self._database.tenant(tenant_id, read_only=True) as connection:
            yield self._repository(connection)

    def joined(self, connection: Connection) -> Work[R_co]:
        """Return a unit of work within the transaction of a consumer."""
        return Work(self._repository(connection), self._outbox())

    async def flush(
        self, work: Work[object], connection: Connection, traceparent: str | None
    ) -> None:
        """Write the events of a joined unit of work."""
        await work.outbox.flush(connection, traceparent)

    def _outbox(self) -> Outbox:
        return Outbox(self._database.service, self._shards)

    def _published(self, added: bool) -> None:
        if added:
            for relay in self._relays:
                relay.wake()
