"""A consumer that writes events of keys which requests write as well."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import asyncpg
import pytest
from interchange.position.v1.position_events_pb2 import PositionChanged

from services.common.applier import Applier
from services.common.db import Database
from services.common.event_store import EventStore
from services.common.events import Event, EventTypes
from services.common.outbox import lock_numbers
from services.stack.stack import Stack
from tests.integration.echo import (
    Echo,
    apply,
    create_database,
    nothing,
    service_settings,
)

WAITING = """
SELECT backend_xid FROM pg_stat_activity
WHERE datname = 'mesh_tests' AND wait_event_type = 'Lock' AND wait_event = 'advisory'
"""


@pytest.fixture
async def echo(servers: Stack) -> AsyncIterator[Echo]:
    await create_database(servers)
    settings = service_settings(servers)
    database = await Database.open(settings, "echo")
    yield Echo(settings, database, "echo-events")
    await database.close()


def prepared(echo: Echo, seen: list[int]) -> Applier[object]:
    async def prepare(events: Sequence[Event]) -> Sequence[tuple[str, str]]:
        seen.extend(event.sequence for event in events if event.message is not None)
        return [(event.tenant_id, event.key) for event in events]

    return Applier(  # type: ignore[return-value]
        echo.database,
        echo.units,
        EventTypes([PositionChanged], {}, {}),
        apply,
        EventStore(echo.settings),
        200,
        prepare=prepare,
    )


async def test_it_waits_for_the_key_before_it_takes_a_transaction_id(
    servers: Stack, echo: Echo
) -> None:
    """Else its event, numbered later, would be published before the request's."""
    seen: list[int] = []
    applier = prepared(echo, seen)
    owner = await asyncpg.connect(servers.database_url().rpartition("/")[0] + "/mesh_tests")
    async with echo.database.tenant("demo", locks=lock_numbers("echo", "demo", ["K1"])):
        applying = asyncio.create_task(applier.apply([echo.event(1)], [], nothing))
        async with asyncio.timeout(10):
            while not (waiting := await owner.fetch(WAITING)):
                await asyncio.sleep(0.01)
        assert [row["backend_xid"] for row in waiting] == [None]
        assert not applying.done()
    await applying
    await owner.close()
    assert seen == [1]
    assert await echo.notes() == [1]


async def test_it_is_prepared_again_for_events_that_had_to_wait(echo: Echo) -> None:
    seen: list[int] = []
    applier = prepared(echo, seen)
    await applier.apply([echo.event(2)], [], nothing)
    assert await echo.notes() == []
    await applier.apply([echo.event(1)], [], nothing)
    seen.clear()
    async with asyncio.timeout(10):
        while await echo.notes() != [1, 2]:
            await applier.tend()
            await asyncio.sleep(0.05)
    assert seen == [2]


async def test_what_can_not_be_read_is_parked_and_not_prepared(echo: Echo) -> None:
    seen: list[int] = []
    broken = echo.event(1)
    broken.payload = b"\xff\xff"
    await prepared(echo, seen).apply([broken, echo.event(1, key="K2")], [], nothing)
    assert [row["key"] for row in await echo.parked()] == ["K1"]
    assert await echo.notes("K2") == [1]
    assert set(seen) == {1}


async def test_one_event_that_can_not_be_prepared_parks_its_key_alone(echo: Echo) -> None:
    async def prepare(events: Sequence[Event]) -> Sequence[tuple[str, str]]:
        raise ValueError("as if a key could not be read")

    async def refusing(events: Sequence[Event], *, work: Any) -> None:
        if any(event.key == "K1" for event in events):
            raise ValueError("was not prepared")
        await apply(events, work=work)

    applier = Applier(
        echo.database,
        echo.units,
        EventTypes([PositionChanged], {}, {}),
        refusing,
        EventStore(echo.settings),
        200,
        prepare=prepare,
    )
    await applier.apply([echo.event(1), echo.event(1, key="K2")], [], nothing)

    assert [row["key"] for row in await echo.parked()] == ["K1"]
    assert await echo.notes("K2") == [1]
