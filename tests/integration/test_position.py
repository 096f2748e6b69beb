"""Positions on real Postgres: what is applied, in which order, and who may see it."""

import asyncio
import random
from collections.abc import AsyncIterator

import asyncpg
import pytest

from services.common import deadline
from services.common.errors import FailedPrecondition, InvalidArgument, NotFound
from services.position.watch import Watches
from services.stack.stack import Stack
from tests.integration.test_position_scene import Scene
from tests.unit.test_position_fills import FIFO, random_events
from tests.unit.test_position_scene import MICROS, Feed, MemoryBooks, apply


@pytest.fixture
async def scene(servers: Stack) -> AsyncIterator[Scene]:
    scene = await Scene.open(servers)
    yield scene
    await scene.database.close()


async def test_postgres_holds_what_the_books_in_memory_do(scene: Scene) -> None:
    events, memory = random_events(1, 300), MemoryBooks()
    await apply(memory, events)

    await scene.apply(events, size=37)

    held = {
        (row[0], row[1], row[2]): row[3:]
        for row in await scene.held(
            "tenant_id, account_id, instrument_id, currency, quantity, open_cost, realized, version"
        )
    }
    assert held == memory.held
    lots: dict[object, list[tuple[int, int, int]]] = {key: [] for key in memory.open}
    for row in await scene.admin("SELECT * FROM position.lots ORDER BY opened"):
        lots[tuple(row[:3])].append((row["quantity"], row["open_cost"], row["opened"]))
    assert lots == memory.open


async def test_changes_are_numbered_per_account_without_gaps(scene: Scene) -> None:
    await scene.apply(random_events(2, 200), size=50)

    rows = await scene.admin(
        "SELECT account_id, array_agg(sequence ORDER BY sequence) AS numbers, "
        "(SELECT sequence FROM position.accounts AS a WHERE a.account_id = c.account_id) AS last "
        "FROM position.changes AS c GROUP BY account_id"
    )
    assert len(rows) == 4
    for row in rows:
        assert row["numbers"] == list(range(1, row["last"] + 1))


async def test_position_events_are_numbered_per_account_without_gaps(scene: Scene) -> None:
    await scene.apply(random_events(3, 200), size=50)

    rows = await scene.admin(
        "SELECT e.key, array_agg(e.sequence ORDER BY o.id, e.at) AS numbers "
        "FROM position.outbox AS o, "
        "unnest(o.keys, o.sequences) WITH ORDINALITY AS e(key, sequence, at) GROUP BY e.key"
    )
    assert len(rows) == 4
    for row in rows:
        assert row["numbers"] == list(range(1, len(row["numbers"]) + 1))


async def test_repeated_events_are_applied_once(scene: Scene) -> None:
    feed = Feed()
    first, second = feed.trade(10, 100), feed.trade(5, 60)

    await scene.apply([first, second])
    await scene.apply([first, second])
    await scene.apply([second])

    assert await scene.held() == [("XYZ", 15 * MICROS, 160)]


async def test_late_event_is_waited_for_and_applied_in_order(scene: Scene) -> None:
    feed = Feed(FIFO)
    one, two, three = feed.trade(10, 100), feed.trade(10, 300), feed.trade(-10, 500)

    await scene.apply([three])
    await scene.apply([two])
    assert await scene.held() == []
    await scene.apply([one])
    await scene.applier.tend()

    assert await scene.held("instrument_id, quantity, realized") == [("XYZ", 10 * MICROS, 400)]


async def test_missing_event_comes_from_the_event_store(scene: Scene) -> None:
    feed = Feed()
    one, two = feed.trade(10, 100), feed.trade(10, 100)
    await scene.store([one, two])

    await scene.apply([two])
    await asyncio.sleep(1.1)
    await scene.applier.tend()

    assert await scene.held() == [("XYZ", 20 * MICROS, 200)]


async def test_overflow_parks_its_account_and_no_other(scene: Scene) -> None:
    feed = Feed()
    most = (1 << 63) - 1

    await scene.apply(
        [feed.trade(1, most), feed.trade(1, most), feed.trade(1, 7), feed.trade(1, 9, account="B")]
    )

    assert await scene.held("account_id, quantity, open_cost") == [
        ("A", MICROS, most),
        ("B", MICROS, 9),
    ]
    (parked,) = await scene.admin("SELECT key, state, reason FROM position.parked_keys")
    assert (parked["key"], parked["state"]) == ("A", "POISONED")
    assert "exceeds 64 bits" in parked["reason"]


async def test_api_role_sees_its_own_tenant_only(scene: Scene) -> None:
    feed = Feed(FIFO)
    await scene.apply([feed.trade(1, 10), feed.trade(1, 10, tenant="other")])

    async with scene.database.tenant("demo", read_only=True) as connection:
        for table in ("accounts", "positions", "changes"):
            rows = await connection.fetch(f"SELECT tenant_id FROM position.{table}")
            assert [row["tenant_id"] for row in rows] == ["demo"], table
    async with scene.database.tenant("third", read_only=True) as connection:
        assert await connection.fetch("SELECT FROM position.positions") == []


async def test_api_role_without_a_tenant_sees_nothing(scene: Scene) -> None:
    await scene.apply([Feed().trade(1, 10)])
    connection = await asyncpg.connect(
        scene.settings.database_url.replace("//", "//position_api@"),
        password=scene.settings.password,
    )
    try:
        for table in ("accounts", "positions", "changes"):
            assert await connection.fetch(f"SELECT FROM position.{table}") == []
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("DELETE FROM position.positions")
    finally:
        await connection.close()


async def test_position_that_was_never_traded_is_not_found(scene: Scene) -> None:
    await scene.apply([Feed().trade(1, 10, tenant="other")])

    with pytest.raises(NotFound) as raised:
        await scene.queries.position("demo", "A", "XYZ", 0)
    assert raised.value.reason == "POSITION_NOT_FOUND"


async def test_flat_position_is_found_with_its_profit(scene: Scene) -> None:
    feed = Feed()
    await scene.apply([feed.trade(10, 100), feed.trade(-10, 130)])

    row = await scene.queries.position("demo", "A", "XYZ", 0)

    assert (row.quantity, row.open_cost, row.realized, row.version) == (0, 0, 30, 2)


async def test_read_waits_for_the_trade_it_must_include(scene: Scene) -> None:
    feed = Feed()
    await scene.apply([feed.trade(10, 100)])
    waiting = asyncio.create_task(scene.queries.position("demo", "A", "XYZ", 2))
    await asyncio.sleep(0.1)
    assert not waiting.done()

    await scene.apply([feed.trade(10, 100)])

    assert (await waiting).quantity == 20 * MICROS


async def test_read_fails_before_the_deadline_of_the_call(scene: Scene) -> None:
    deadline.enter(0.3)
    with pytest.raises(FailedPrecondition) as raised:
        await scene.queries.positions("demo", "A", 1, None, 10)
    assert raised.value.reason == "NOT_YET_APPLIED"
    assert (deadline.remaining() or 0) > 0
    deadline.enter(None)


async def test_minimum_sequence_over_all_accounts_is_refused(scene: Scene) -> None:
    with pytest.raises(InvalidArgument):
        await scene.queries.positions("demo", "-", 1, None, 10)


async def test_pages_hold_every_position_once(scene: Scene) -> None:
    feed, rng = Feed(), random.Random(1)
    wanted = {(f"A{rng.randrange(9)}", f"I{rng.randrange(9)}") for _ in range(60)}
    await scene.apply([feed.trade(1, 10, account, instrument) for account, instrument in wanted])

    found: list[tuple[str, str]] = []
    after = None
    while rows := await scene.queries.positions("demo", "-", 0, after, 7):
        found += [(row.account_id, row.instrument_id) for row in rows]
        after = found[-1]

    assert found == sorted(wanted)


async def test_history_is_newest_first_and_shows_the_position_after_each(scene: Scene) -> None:
    feed = Feed()
    await scene.apply([feed.trade(10, 100), feed.trade(1, 5, instrument="ABC"), feed.trade(-4, 60)])

    rows = await scene.queries.changes("demo", "A", "XYZ", None, 10)
    older = await scene.queries.changes("demo", "A", "XYZ", rows[0].position.sequence, 10)

    assert [(row.position.sequence, row.quantity_change) for row in rows] == [
        (3, -4 * MICROS),
        (1, 10 * MICROS),
    ]
    assert (rows[0].position.quantity, rows[0].position.open_cost) == (6 * MICROS, 60)
    assert (rows[0].source_topic, rows[0].source_sequence) == ("trade-events", 3)
    assert older == rows[1:]


async def test_watermark_counts_trades_and_transfers_apart(scene: Scene) -> None:
    feed = Feed()
    await scene.apply([feed.account(), feed.transfer(1, 1), feed.trade(1, 10)])

    reached = await scene.queries.watermark("demo", "A", {"trade-events": 1, "account-events": 2})

    assert reached == {"trade-events": 1, "account-events": 2}


async def test_watcher_sees_what_another_instance_applied(scene: Scene) -> None:
    feed = Feed()
    watches = Watches(scene.reads, asyncio.Event())
    await scene.apply([feed.trade(10, 100), feed.trade(1, 1, instrument="ABC")])
    stream = watches.watch("demo", "A")
    assert len(await anext(stream)) == 2

    await scene.apply([feed.trade(10, 100), feed.trade(1, 1, account="B")])
    async with asyncio.timeout(5):
        rows = await anext(stream)

    assert [(row.instrument_id, row.quantity) for row in rows] == [("XYZ", 20 * MICROS)]
    await stream.aclose()
