"""The partitions of the coming months are made by the services themselves."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from services.common import upkeep
from services.common.db import Database
from services.stack.stack import Stack
from tests.integration.archive_scene import Past, past
from tests.integration.echo import create_database, running, service_settings

_COUNT = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'echo.outbox'::regclass"


class Upkeep:
    """The task, as a host runs it."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def run(self) -> None:
        await upkeep.keep_partitions(self.database)


@pytest.fixture
async def store(servers: Stack, tmp_path: Path) -> AsyncIterator[Past]:
    await create_database(servers)
    async with past(servers, tmp_path) as found:
        yield found


@pytest.fixture
async def database(store: Past, servers: Stack) -> AsyncIterator[Database]:
    found = await Database.open(service_settings(servers), "echo")
    yield found
    await found.close()


async def drop_last(store: Past) -> None:
    query = (
        "SELECT max(inhrelid::regclass::text) FROM pg_inherits "
        "WHERE inhparent = 'echo.outbox'::regclass AND inhrelid::regclass::text ~ '_20'"
    )
    await store.connection.execute(f"DROP TABLE {await store.connection.fetchval(query)}")


async def until(store: Past, expected: int) -> None:
    async with asyncio.timeout(5):
        while await store.connection.fetchval(_COUNT) != expected:
            await asyncio.sleep(0.02)


async def test_missing_partition_is_made_at_the_start_and_again(
    store: Past, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "DAY_S", 0.1)
    expected = await store.connection.fetchval(_COUNT)
    await drop_last(store)
    async with running(Upkeep(database)):
        await until(store, expected)
        await drop_last(store)
        await until(store, expected)


async def test_failure_is_tried_again(
    store: Past, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "RETRY_S", 0.1)
    monkeypatch.setattr(upkeep, "LOCK_TIMEOUT_MS", 100)
    expected = await store.connection.fetchval(_COUNT)
    await drop_last(store)
    reader = await asyncpg.connect(store.url)
    async with running(Upkeep(database)):
        async with reader.transaction():
            await reader.execute("LOCK TABLE echo.outbox_default IN ACCESS SHARE MODE")
            await asyncio.sleep(0.5)
            assert await store.connection.fetchval(_COUNT) == expected - 1
        await until(store, expected)
    await reader.close()
