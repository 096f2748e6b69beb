"""What the database refuses, whoever writes: unbalanced, changed, foreign."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeAlias

import asyncpg
import pytest

from services.common import db
from services.common.db import Connection
from tests.integration.test_ledger_scene import (
    Scene,
    copy,
    empty,
    entry,
    insert,
    new_id,
    opened,
    trade,
    transfer,
)

Write: TypeAlias = Callable[[Connection, Sequence[tuple[object, ...]]], Awaitable[None]]

BALANCED = [entry(0, 5), entry(1, -5)]
BROKEN = {
    "unbalanced": [entry(0, 5), entry(1, -4)],
    "one leg": [entry(0, 5)],
    "balanced over two assets": [entry(0, 5), entry(1, -5, asset="EUR")],
    "balanced over two kinds of asset": [entry(0, 5), entry(1, -5, asset_kind=2)],
    "balanced over two tenants": [entry(0, 5), entry(1, -5, tenant_id="other")],
    "balanced over two journals": [entry(0, 5), entry(1, -5, journal_id=new_id())],
    "one of two": [*BALANCED, entry(0, 5, journal_id=new_id())],
    "without its first leg": [entry(2, 5), entry(3, -5)],
    "asset on odd legs": [*BALANCED, entry(3, 5, asset="EUR"), entry(5, -5, asset="EUR")],
    "wraps around 64 bits": [entry(leg, 2**62) for leg in range(4)],
}


@pytest.fixture(scope="module")
async def ledger(request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    async with opened(request) as scene:
        yield scene


@pytest.fixture
async def books(ledger: Scene) -> Scene:
    await empty(ledger)
    return ledger


@asynccontextmanager
async def connected(books: Scene, role: str) -> AsyncIterator[Connection]:
    if role == "owner":
        async with books.owner() as connection:
            yield connection
        return
    connection = await db.connect(books.settings, role)
    await connection.execute("SET app.tenant_id = 'acme'")
    try:
        yield connection
    finally:
        await connection.close()


async def counts(books: Scene) -> tuple[int, int]:
    row = await books.fetch(
        "SELECT (SELECT count(*) FROM ledger.entries), (SELECT count(*) FROM ledger.balances)"
    )
    return row[0][0], row[0][1]


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("write", [insert, copy])
@pytest.mark.parametrize("role", ["owner", "ledger_pipeline"])
async def test_broken_journal_is_refused(
    books: Scene, role: str, write: Write, broken: str
) -> None:
    async with connected(books, role) as connection:
        with pytest.raises(asyncpg.CheckViolationError):
            await write(connection, BROKEN[broken])

    assert await counts(books) == (0, 0)


@pytest.mark.parametrize("write", [insert, copy])
@pytest.mark.parametrize("role", ["owner", "ledger_pipeline"])
async def test_balanced_journal_by_hand_reaches_the_balances(
    books: Scene, role: str, write: Write
) -> None:
    async with connected(books, role) as connection:
        await write(connection, BALANCED)

    assert await counts(books) == (2, 2)
    assert await books.amount("USD", 1) == 5


@pytest.mark.parametrize("write", [insert, copy])
async def test_existing_journal_is_not_extended(books: Scene, write: Write) -> None:
    async with connected(books, "owner") as connection:
        await write(connection, BALANCED)
        for extension in ([entry(2, 1), entry(3, -1)], [entry(0, 1), entry(5, -1)]):
            with pytest.raises(asyncpg.IntegrityConstraintViolationError):
                await write(connection, extension)

    assert await counts(books) == (2, 2)


@pytest.mark.parametrize("write", [insert, copy])
async def test_requests_cannot_write_entries(books: Scene, write: Write) -> None:
    async with connected(books, "ledger_api") as connection:
        with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.FeatureNotSupportedError)):
            await write(connection, BALANCED)

    assert await counts(books) == (0, 0)


@pytest.mark.parametrize("table", ["entries", "journals"])
@pytest.mark.parametrize(
    "change", ["UPDATE ledger.{} SET account_id = 'B'", "DELETE FROM ledger.{}"]
)
@pytest.mark.parametrize("role", ["owner", "ledger_pipeline", "ledger_api"])
async def test_what_is_booked_is_never_changed(
    books: Scene, role: str, change: str, table: str
) -> None:
    await books.apply(trade(1))
    partition = await books.value(f"SELECT tableoid::regclass::text FROM ledger.{table} LIMIT 1")

    for name in (table, partition.removeprefix("ledger.")):
        async with connected(books, role) as connection:
            with pytest.raises(
                (asyncpg.RestrictViolationError, asyncpg.InsufficientPrivilegeError)
            ):
                await connection.execute(change.format(name))


@pytest.mark.parametrize("table", ["entries", "journals"])
@pytest.mark.parametrize("role", ["owner", "ledger_pipeline", "ledger_api"])
async def test_books_are_never_truncated(books: Scene, role: str, table: str) -> None:
    await books.apply(trade(1))

    async with connected(books, role) as connection:
        with pytest.raises((asyncpg.RestrictViolationError, asyncpg.InsufficientPrivilegeError)):
            await connection.execute(f"TRUNCATE ledger.{table}")


@pytest.mark.parametrize("role", ["ledger_pipeline", "ledger_api"])
@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO {partition} SELECT * FROM ledger.entries",
        "SELECT * FROM {partition}",
        "UPDATE ledger.balances SET amount = 0",
        "DELETE FROM ledger.balances",
        "INSERT INTO ledger.balances SELECT * FROM ledger.balances",
    ],
)
async def test_partitions_and_balances_are_out_of_reach(
    books: Scene, role: str, statement: str
) -> None:
    await books.apply(trade(1))
    partition = await books.value("SELECT tableoid::regclass::text FROM ledger.entries LIMIT 1")

    async with connected(books, role) as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement.format(partition=partition))


@pytest.mark.parametrize("table", ["entries", "journals", "balances"])
async def test_requests_see_their_own_tenant_only(books: Scene, table: str) -> None:
    await books.apply(trade(1), transfer(1), trade(1, tenant="other"))
    query = f"SELECT DISTINCT tenant_id FROM ledger.{table}"

    async with connected(books, "ledger_api") as connection:
        seen = {}
        for tenant in ("acme", "other", "third", ""):
            await connection.execute("SELECT set_config('app.tenant_id', $1, false)", tenant)
            seen[tenant] = [row[0] for row in await connection.fetch(query)]
        await connection.execute("RESET app.tenant_id")
        seen["none"] = [row[0] for row in await connection.fetch(query)]

    assert seen == {"acme": ["acme"], "other": ["other"], "third": [], "": [], "none": []}


async def test_check_finds_what_was_done_behind_the_triggers(books: Scene) -> None:
    events = [trade(1), trade(2), transfer(1)]
    await books.apply(*events)
    async with books.owner() as connection, connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute(
            "UPDATE ledger.entries SET amount = amount + 1 WHERE journal_id = $1 AND leg = 0",
            events[0].event_id,
        )
        await connection.execute(
            "DELETE FROM ledger.journals WHERE journal_id = $1", events[2].event_id
        )
        await connection.execute("UPDATE ledger.balances SET entry_count = 9 WHERE sub_account = 4")

    check = await books.check()

    assert sorted(check.unbalanced) == sorted([events[0].event_id, events[2].event_id])
    found = {(row.asset, row.sub_account, row.stored - row.recomputed) for row in check.differences}
    assert found == {("XYZ", 1, -1), ("USD", 4, 0)}


async def test_check_finds_an_event_that_was_posted_twice(books: Scene) -> None:
    await books.apply(trade(1))
    async with books.owner() as connection:
        await connection.execute(
            "INSERT INTO ledger.journals SELECT source_sequence, posted_at, effective_date, kind, "
            "$1, source_id, tenant_id, account_id FROM ledger.journals",
            new_id(),
        )

    check = await books.check()

    assert (check.journal_count, check.trade_count, check.duplicate_count) == (2, 1, 1)
    assert len(check.unbalanced) == 1
