"""The event store is one, whether an event is in the table, in a file or in both."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from services.common import event_store
from services.common.db import Database
from services.common.event_feed import stream
from services.common.event_store import EventStore
from services.stack.stack import Stack
from tests.integration.archive_scene import PARTITIONS, TOPIC, Past, past, streamed
from tests.integration.echo import Echo, create_database, nothing, service_settings

KEY = ("demo", TOPIC, "K1")


@pytest.fixture
async def store(servers: Stack, tmp_path: Path) -> AsyncIterator[Past]:
    await create_database(servers)
    async with past(servers, tmp_path) as found:
        await found.year()
        yield found


@pytest.fixture
async def echo(store: Past, servers: Stack) -> AsyncIterator[Echo]:
    settings = service_settings(servers, archive_dir=store.folder)
    database = await Database.open(settings, "echo")
    yield Echo(settings, database, TOPIC)
    await database.close()


async def numbers(echo: Echo, first: int, last: int, key: str = "K1") -> list[int]:
    events = await EventStore(echo.settings).read((KEY[0], TOPIC, key), first, last)
    return [event.sequence for event in events]


async def test_feed_is_the_same_from_table_files_and_both(store: Past, echo: Echo) -> None:
    everything = await streamed(echo.settings)
    assert [e.sequence for e in everything if e.key == "K1"] == list(range(1, 15))
    assert {e.tenant_id for e in everything} == {"demo", "acme"}

    await store.archive(keep=True)
    assert await streamed(echo.settings) == everything
    await store.archive("2026-02")
    assert await streamed(echo.settings) == everything
    await store.archive()
    assert await streamed(echo.settings) == everything
    assert await store.partitions() == []


async def test_feed_of_one_tenant_has_no_event_of_another(store: Past, echo: Echo) -> None:
    await store.archive()

    assert {event.key for event in await streamed(echo.settings, "acme")} == {"K2"}
    assert await streamed(echo.settings, "nobody") == []


async def test_feed_merges_months_and_shards_that_overlap(store: Past, echo: Echo) -> None:
    """A transaction that begins before midnight can get its id after one that begins later."""
    for number, at in enumerate(["02-28", "03-01", "01-31", "02-01", "01-15"]):
        await store.record(f"2026-{at} 00:00+00", [number + 1], "K3", shard=number % 3)
    await store.publish()
    everything = await streamed(echo.settings)

    await store.archive("2026-03")

    assert await streamed(echo.settings) == everything
    assert [e.sequence for e in everything if e.key == "K3"] == [1, 2, 3, 4, 5]


async def test_partition_dropped_during_a_feed_waits_for_it(store: Past, echo: Echo) -> None:
    everything = await streamed(echo.settings)
    feed = stream(echo.settings, TOPIC)
    found = await anext(feed)
    dropping = asyncio.create_task(store.archive("2026-02"))
    while not (store.folder / "echo" / "outbox_2026_01.json").exists():
        await asyncio.sleep(0.05)
    async for row in feed:
        found = [*found, *row]
    await dropping

    assert found == everything
    assert await store.partitions() == PARTITIONS[1:]


async def test_feed_that_is_given_up_lets_the_store_go(store: Past, echo: Echo) -> None:
    feed = stream(echo.settings, TOPIC)
    await anext(feed)
    await feed.aclose()  # type: ignore[attr-defined]

    await store.archive()

    assert await store.partitions() == []


async def test_missing_events_are_found_wherever_they_are(store: Past, echo: Echo) -> None:
    for before in ("2026-01", "2026-02", "2026-03", "2026-04"):
        await store.archive(before)
        assert await numbers(echo, 1, 14) == list(range(1, 15))
        assert await numbers(echo, 4, 9) == [4, 5, 6, 7, 8, 9]
        assert await numbers(echo, 13, 99) == [13, 14]
        assert await numbers(echo, 20, 30) == []
        assert await numbers(echo, 1, 5, "K2") == []


async def test_event_from_the_archive_is_whole(store: Past, echo: Echo) -> None:
    [before] = await EventStore(echo.settings).read(KEY, 5, 5)

    await store.archive()

    assert await EventStore(echo.settings).read(KEY, 5, 5) == [before]
    assert before.traceparent == "00-trace"


async def test_gap_is_filled_from_the_archive(store: Past, echo: Echo) -> None:
    await store.archive()
    await echo.applier.apply([echo.event(15)], [], nothing)
    await asyncio.sleep(0.3)
    await echo.applier.tend()

    assert await echo.notes() == list(range(1, 16))
    assert await echo.parked() == []


async def test_recent_event_is_found_without_reading_what_is_old(
    store: Past, echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = []
    generate = event_store._windows

    def watched(oldest: datetime, now: datetime):  # type: ignore[no-untyped-def]
        for window in generate(oldest, now):
            windows.append(window)
            yield window

    monkeypatch.setattr(event_store, "_windows", watched)
    assert await numbers(echo, 13, 13) == [13]
    assert len(windows) == 1

    # One that is nowhere: its predecessor is in the first window, the search ends after the next.
    await store.record(str(datetime.now(UTC)), [16])
    windows.clear()
    assert await numbers(echo, 15, 15) == []
    assert len(windows) == 2


def test_windows_cover_all_time_once() -> None:
    now = datetime(2026, 11, 21, tzinfo=UTC)
    oldest = now - timedelta(days=400)

    windows = list(event_store._windows(oldest, now))

    assert windows[0][0] == now - event_store.WINDOW
    assert windows[-1][0] == oldest
    assert all(later[0] == earlier[1] for later, earlier in itertools.pairwise(windows))
    assert len(windows) < 10
    assert list(event_store._windows(None, now)) == []


async def test_slow_search_ends_and_the_others_go_on(
    store: Past, echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = event_store._READ.replace("WHERE", "WHERE pg_sleep(1) IS NOT NULL AND")
    monkeypatch.setattr(event_store, "_READ", slow)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        await EventStore(echo.settings, 0.2).read(KEY, 1, 2)
    assert time.monotonic() - began < 1

    monkeypatch.setattr(event_store, "BUDGET_S", 0.2)
    echo.applier._tender._source = EventStore(echo.settings, 0.2)
    await echo.applier.apply([echo.event(15), echo.event(1, "K9")], [], nothing)
    await asyncio.sleep(0.3)
    await echo.applier.tend()

    assert await echo.notes("K9") == [1]
    [parked] = await echo.parked()
    assert (parked["key"], parked["state"]) == ("K1", "GAP")


async def test_reading_a_key_uses_the_index(store: Past) -> None:
    await store.connection.execute("SET enable_seqscan = off")
    now = datetime.now(UTC)
    plan = await store.connection.fetch(
        "EXPLAIN " + event_store._READ.format(service="echo"),
        *KEY,
        1,
        2,
        now - timedelta(days=500),
        now,
    )

    conditions = [row[0] for row in plan if "Index Cond" in row[0]]
    assert len(conditions) >= len(PARTITIONS)
    assert all("tenant_id" in text and "recorded_at" in text for text in conditions)


async def test_reader_sees_outboxes_only(store: Past, echo: Echo) -> None:
    url = store.url.rpartition("@")[2]
    password = echo.settings.password
    reader = await asyncpg.connect(f"postgresql://event_reader:{password}@{url}")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await reader.fetch("SELECT * FROM echo.notes")
    await reader.close()
