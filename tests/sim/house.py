"""The databases of a simulation: real, opened once, empty at the start of each run."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from services.common.config import Settings
from services.common.db import Connection, Database
from services.common.migrate import migrate
from services.stack.stack import Stack

GAP_WAIT_MS = 3_600_000
"""Longer than any run: a gap is old when the simulation says so, see `Follower.age_gaps`."""

LOST, UNHEARD, HEARD = "lost", "unheard", "heard"


class Crash(BaseException):
    """The process is gone, as by SIGKILL: nothing may catch it but who started it."""


def hear(service: str) -> str:
    """Let every commit happen, and be heard of."""
    return HEARD


class MortalDatabase(Database):
    """A database whose clients may die: before a commit, or before they hear of it."""

    fate: Callable[[str], str] = staticmethod(hear)

    @asynccontextmanager
    async def tenant(
        self, tenant_id: str, *, read_only: bool = False, locks: Sequence[int] = ()
    ) -> AsyncIterator[Connection]:
        fate = HEARD if read_only else self.fate(self.service)
        async with super().tenant(tenant_id, read_only=read_only, locks=locks) as connection:
            yield connection
            if fate == LOST:
                raise Crash
        if fate == UNHEARD:
            raise Crash

    @asynccontextmanager
    async def pipeline(self, locks: Sequence[int] = ()) -> AsyncIterator[Connection]:
        fate = self.fate(self.service)
        async with super().pipeline(locks) as connection:
            yield connection
            if fate == LOST:
                raise Crash
        if fate == UNHEARD:
            raise Crash


@dataclass(frozen=True, slots=True)
class House:
    """The databases of all services, and their owner."""

    settings: Settings
    owner: "asyncpg.Connection[Any]"
    databases: dict[str, MortalDatabase]
    tables: list[str]

    @classmethod
    async def open(cls, stack: Stack, name: str, services: Sequence[str], **more: Any) -> "House":
        """Make the schemas where they are missing, and connect.

        `name` is the database's; `more` are settings of the services.
        """
        server = stack.database_url().rpartition("/")[0]
        url, password = f"{server}/{name}", stack.database_password()
        await asyncio.to_thread(migrate, url, services, password)
        settings = Settings.model_validate(
            {
                "database_url": f"postgresql://{server.rpartition('@')[2].rpartition('/')[2]}/{name}",
                "database_password": password,
                "database_pool_size": 1,
                "database_pipeline_pool_size": 2,
                "consumer_gap_wait_ms": GAP_WAIT_MS,
                **more,
            }
        )
        databases = {}
        for service in services:
            database = await MortalDatabase.open(settings, service)
            assert isinstance(database, MortalDatabase)
            databases[service] = database
        owner = await asyncpg.connect(url)
        tables = await owner.fetch(
            "SELECT c.oid::regclass::text FROM pg_class AS c JOIN pg_namespace AS n "
            "ON n.oid = c.relnamespace WHERE n.nspname = ANY ($1) AND c.relkind IN ('r', 'p') "
            "AND NOT c.relispartition ORDER BY 1",
            services,
        )
        return cls(settings, owner, databases, [row[0] for row in tables])

    async def close(self) -> None:
        """Close all connections."""
        await self.owner.close()
        for database in self.databases.values():
            await database.close()

    async def empty(self) -> None:
        """Forget the run before: its leftovers would be tended in the next one."""
        for database in self.databases.values():
            database.fate = hear
        async with self.owner.transaction():
            # Books refuse to be deleted, as they should; the owner of the server insists.
            await self.owner.execute("SET LOCAL session_replication_role = replica")
            await self.owner.execute("; ".join(f"DELETE FROM {table}" for table in self.tables))
