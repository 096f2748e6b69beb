"""Postgres: two pools a service, and transactions that know their tenant."""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from services.common.config import Settings

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

TENANT_ID = re.compile(r"[a-z][a-z0-9-]{0,31}")


def role_url(settings: Settings, role: str) -> str:
    """Return the URL of the database for one role, without password."""
    parts = urlsplit(settings.database_url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{role}@{host}"))


async def connect(settings: Settings, role: str) -> "asyncpg.Connection[asyncpg.Record]":
    """Open a connection of its own, outside of any pool, as `role`."""
    return await asyncpg.connect(
        role_url(settings, role), password=settings.password, timeout=30, **_parameters(settings)
    )


def _parameters(settings: Settings) -> dict[str, Any]:
    idle_ms = settings.database_idle_in_transaction_timeout_ms
    return {
        "server_settings": {
            "application_name": "interchange",
            "statement_timeout": str(settings.database_statement_timeout_ms),
            "idle_in_transaction_session_timeout": str(idle_ms),
            "jit": "off",
        }
    }


async def _keep_as_is(connection: object) -> None:
    """Do nothing on release: all our state is local to the transaction."""


async def _pool(settings: Settings, role: str, size: int) -> Pool:
    return await asyncpg.create_pool(
        role_url(settings, role),
        password=settings.password,
        min_size=min(5, size),
        max_size=size,
        max_inactive_connection_lifetime=600,
        timeout=30,
        reset=_keep_as_is,
        **_parameters(settings),
    )


class Database:
    """The database of one service, as its api role and as its pipeline role.

    `<service>_api` serves requests and is bound by row-level security;
    `<service>_pipeline` serves consumers and relays, whose batches span
    tenants, and is never reachable from a request.
    """

    def __init__(self, service: str, api: Pool, pipeline: Pool) -> None:
        self.service = service
        self._api = api
        self._pipeline = pipeline

    @classmethod
    async def open(cls, settings: Settings, service: str) -> "Database":
        """Open both pools of a service."""
        api = await _pool(settings, f"{service}_api", settings.database_pool_size)
        size = settings.database_pipeline_pool_size
        return cls(service, api, await _pool(settings, f"{service}_pipeline", size))

    async def close(self) -> None:
        """Close both pools, waiting for what is in use."""
        await self._api.close()
        await self._pipeline.close()

    async def check(self) -> None:
        """Raise when the database does not answer."""
        await self._api.fetchval("SELECT 1", timeout=3)

    @asynccontextmanager
    async def tenant(
        self, tenant_id: str, *, read_only: bool = False, locks: Sequence[int] = ()
    ) -> AsyncIterator[Connection]:
        """Open a transaction that sees the rows of one tenant, and commit it.

        It holds the advisory `locks`, taken in the given order.
        """
        if TENANT_ID.fullmatch(tenant_id) is None:
            raise ValueError(f"tenant_id was {tenant_id!r}, expected {TENANT_ID.pattern}")
        # One round trip instead of three; the pattern above makes the literal safe.
        mode = "READ ONLY" if read_only else "READ WRITE"
        begin = f"BEGIN {mode}; SET LOCAL app.tenant_id = '{tenant_id}'" + _locking(locks)
        async with self._api.acquire() as connection, _transaction(connection, begin):
            yield connection

    @asynccontextmanager
    async def pipeline(self, locks: Sequence[int] = ()) -> AsyncIterator[Connection]:
        """Open a transaction of the pipeline role, across tenants, and commit it.

        It holds the advisory `locks`, taken in the given order.
        """
        begin = "BEGIN" + _locking(locks)
        async with self._pipeline.acquire() as connection, _transaction(connection, begin):
            yield connection


def _locking(locks: Sequence[int]) -> str:
    if not locks:
        return ""
    numbers = ",".join(map(str, locks))
    return f"; SELECT pg_advisory_xact_lock(n) FROM unnest('{{{numbers}}}'::bigint[]) n"


@asynccontextmanager
async def _transaction(connection: Connection, begin: str) -> AsyncIterator[None]:
    await connection.execute(begin)
    try:
        yield
    except BaseException:
        if not connection.is_closed():
            await connection.execute("ROLLBACK")
        raise
    await connection.execute("COMMIT")


@asynccontextmanager
async def savepoint(connection: Connection) -> AsyncIterator[None]:
    """Undo what the block did when it raises, and keep the transaction alive."""
    await connection.execute("SAVEPOINT block")
    try:
        yield
    except Exception:
        await connection.execute("ROLLBACK TO SAVEPOINT block; RELEASE SAVEPOINT block")
        raise
    # A task that is cancelled leaves the rest to the transaction, which it ends as well:
    # a statement here would fail, and its error would take the cancellation's place.
    await connection.execute("RELEASE SAVEPOINT block")
