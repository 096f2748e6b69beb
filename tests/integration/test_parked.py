"""Operators see the keys that wait and let them go on; the running service takes it up."""

import asyncio
import time
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from interchange.trade.v1.trade_events_pb2 import TradeBooked

import tests.integration.echo as module
from services.common import db, parked, upcasters
from services.common.applier import Applier
from services.common.db import Database
from services.common.event_store import EventStore
from services.common.events import Event, EventColumns, EventTypes
from services.common.outbox import lock_keys
from services.common.parked import NotParked, ParkedKey
from services.common.work import Work
from services.stack.stack import Stack
from tests.integration.echo import (
    Echo,
    Notes,
    create_database,
    create_topics,
    nothing,
    running,
    service_settings,
)


@pytest.fixture
async def echo(servers: Stack) -> AsyncIterator[Echo]:
    await create_database(servers)
    settings = service_settings(servers)
    database = await Database.open(settings, "echo")
    yield Echo(settings, database, "echo-events")
    await database.close()


async def listed(echo: Echo) -> list[ParkedKey]:
    async with echo.database.pipeline() as connection:
        return await parked.listed(connection, "echo")


async def release(echo: Echo, key: ParkedKey, *, skip: bool = False) -> None:
    connection = await db.connect(echo.settings, "echo_pipeline")
    try:
        await parked.release(connection, key, skip=skip)
    finally:
        await connection.close()


async def park_poison(echo: Echo, key: str = "K1") -> ParkedKey:
    await echo.applier.apply([echo.event(n, key) for n in (1, -2, 3)], [], nothing)
    [found] = [one for one in await listed(echo) if one.key == key]
    return found


async def within(seconds: float, echo: Echo, expected: list[int]) -> None:
    began = time.monotonic()
    assert await echo.until("K1", expected, seconds) == expected
    assert time.monotonic() - began < seconds


async def test_list_shows_what_waits_and_why(echo: Echo) -> None:
    await park_poison(echo)
    await echo.applier.apply([echo.event(5, "K2", "acme")], [], nothing)

    poisoned, gap = await listed(echo)

    assert (poisoned.tenant_id, poisoned.topic, poisoned.key) == ("demo", "echo-events", "K1")
    assert (poisoned.state, poisoned.reason) == ("POISONED", "ValueError: version was -1")
    assert (poisoned.waiting, poisoned.first_waiting, poisoned.next_sequence) == (2, 2, 2)
    assert poisoned.skipped == f"event 2 ({module.TYPE})"
    assert (gap.tenant_id, gap.key, gap.state, gap.waiting) == ("acme", "K2", "GAP", 1)
    assert gap.skipped == "events 1 to 4, which are missing"


async def test_skip_of_a_poisoned_event_is_taken_up_within_a_second(echo: Echo) -> None:
    key = await park_poison(echo)
    await asyncio.to_thread(create_topics, echo.settings, echo.topic)
    async with running(echo.consumer):
        await asyncio.sleep(2)
        await release(echo, key, skip=True)
        await within(1.5, echo, [1, 3])

    assert await listed(echo) == []


async def test_release_is_taken_up_by_a_service_that_parked_nothing_itself(
    echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It saw no parked key when it looked, and another instance parked one since."""
    idle = Echo(echo.settings, echo.database, echo.topic)
    await idle.applier.tend()
    key = await park_poison(echo)
    monkeypatch.setattr(module, "POISON", -99)
    await release(echo, key)

    async with asyncio.timeout(1):
        while await echo.notes() != [1, 2, 3]:
            await idle.applier.tend()
            await asyncio.sleep(0.05)
    assert await listed(echo) == []


async def test_release_during_downtime_is_taken_up_by_the_restarted_service(
    echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await park_poison(echo)
    monkeypatch.setattr(module, "POISON", -99)
    await release(echo, key)

    restarted = Echo(echo.settings, echo.database, echo.topic)
    await restarted.applier.tend()

    assert await echo.notes() == [1, 2, 3]


async def test_released_event_that_still_fails_is_parked_again(echo: Echo) -> None:
    await release(echo, await park_poison(echo))
    await echo.applier.tend()

    [again] = await listed(echo)

    assert (again.state, again.next_sequence) == ("POISONED", 2)
    assert await echo.notes() == [1]


async def test_skip_of_a_gap_leaves_out_the_missing_events_alone(echo: Echo) -> None:
    await echo.applier.apply([echo.event(1), echo.event(4), echo.event(5)], [], nothing)
    await asyncio.sleep(0.3)
    await echo.applier.tend()
    [key] = await listed(echo)
    assert (key.state, key.reason) == ("POISONED", "events 2 to 3 are not in the event store")

    await release(echo, key, skip=True)
    await echo.applier.tend()

    assert await echo.notes() == [1, 4, 5]
    assert await listed(echo) == []


async def test_skip_of_another_event_than_the_one_shown_is_refused(echo: Echo) -> None:
    key = await park_poison(echo)
    await release(echo, key, skip=True)
    await echo.applier.tend()
    await echo.applier.apply([echo.event(-4)], [], nothing)

    with pytest.raises(NotParked, match="a skip would now drop event 4"):
        await release(echo, key, skip=True)


async def test_release_of_what_went_on_by_itself_is_refused(echo: Echo) -> None:
    await echo.applier.apply([echo.event(2)], [], nothing)
    [key] = await listed(echo)
    await echo.applier.apply([echo.event(1)], [], nothing)
    await echo.applier.tend()

    with pytest.raises(NotParked, match="not parked any more"):
        await release(echo, key)


async def test_released_key_is_not_starved_by_keys_that_wait_for_the_store(echo: Echo) -> None:
    for number in range(110):
        await echo.applier.apply([echo.event(9, f"G{number}")], [], nothing)
    key = await park_poison(echo)
    await release(echo, key, skip=True)

    echo.applier._tender._fetch_at = time.monotonic() + 60
    await echo.applier.tend()
    await echo.applier.tend()

    assert await echo.notes() == [1, 3]


async def test_old_event_from_kafka_reaches_the_handler_lifted(echo: Echo) -> None:
    """Version 1 of TradeBooked has no gross amount."""
    seen: list[TradeBooked] = []

    async def note(events: list[Event], *, work: Work[Notes]) -> None:
        seen.extend(event.message for event in events if isinstance(event.message, TradeBooked))
        await work.repository.note(events)

    echo.topic = f"echo-{uuid4().hex[:8]}-events"
    await asyncio.to_thread(create_topics, echo.settings, echo.topic)
    types = EventTypes([TradeBooked], upcasters.UPCASTERS, upcasters.VERSIONS)
    consumer = Echo(echo.settings, echo.database, echo.topic).consumer
    consumer._applier = Applier(
        echo.database, echo.units, types, note, EventStore(echo.settings), 200
    )
    old = TradeBooked(trade_id="T1", currency="USD", quantity_micros=3_000_000, price_e8=33_500_000)
    new = TradeBooked(trade_id="T2", currency="USD", gross_minor=7)
    async with echo.units.tenant("demo") as work:
        await lock_keys(work.repository.connection, "echo", "demo", ["K1"])
        columns = EventColumns("demo", echo.topic)
        for version, message in ((1, old), (2, new)):
            columns.extend(
                TradeBooked.DESCRIPTOR.full_name,
                version,
                [str(uuid4())],
                ["K1"],
                [version],
                [message.SerializeToString()],
            )
        work.outbox.add(columns)

    async with running(echo.relay, consumer):
        assert await echo.until("K1", [1, 2]) == [1, 2]

    assert [(trade.trade_id, trade.gross_minor) for trade in seen] == [("T1", 100), ("T2", 7)]
