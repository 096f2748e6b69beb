"""Time posting and reading: `python -m tests.load.bench_ledger [admin URL]`.

Posting is one transaction of the pipeline role: numbers, journals, entries, and
what the database does with them (check and balances). It is compared with COPY
of the same entry rows into an identical table without a trigger, turn by turn,
so that the machine's other work meets both. Trades spread evenly over 100
accounts and 20 instruments, without fees.

The URL, with a user who may create databases, is that of the running stack
where none is given. All is done in the database `ledger_bench`, made anew.
"""

import argparse
import asyncio
import itertools
import os
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import numpy as np
from interchange.ledger.v1 import ledger_service_pb2 as pb
from interchange.trade.v1.trade_events_pb2 import TradeBooked
from interchange.trade.v1.trade_pb2 import SIDE_BUY, SIDE_SELL

from services.common import pagination
from services.common.config import Settings
from services.common.db import Connection, Database
from services.common.events import Event
from services.common.identity import Caller, enter
from services.common.ids import Uuid7
from services.common.migrate import migrate
from services.common.watermarks import Watermarks
from services.common.work import UnitOfWork
from services.ledger import bookings, domain, writing
from services.ledger.consumer import TRADES
from services.ledger.domain import (
    CURRENCY,
    KIND_TRADE,
    NO_ASSET,
    SECURITY,
    Asset,
    Headers,
    Journals,
)
from services.ledger.repository import PostgresBooks
from services.ledger.servicer import LedgerServicer

DATABASE = "ledger_bench"
TENANT = "acme"
ACCOUNTS = 100
INSTRUMENTS = 20
RARE = "RARE"
RARE_SHARE = 1e-4
"""Share of the trades in an instrument that hardly anybody trades."""
BATCHES = (4_000, 16_000)
LIMIT_RATIO = 0.6
LIMIT_READ_MS = 10.0
AIM_ENTRIES = 200_000
FILL_TRADES = 16_000
READS = 400

RAW = """
CREATE SCHEMA raw;
GRANT USAGE ON SCHEMA raw TO ledger_pipeline;
CREATE TABLE raw.entries (LIKE ledger.entries INCLUDING ALL) PARTITION BY RANGE (journal_id);
DO $$
DECLARE
    child record;
BEGIN
    FOR child IN SELECT relname, pg_get_expr(relpartbound, oid) AS bound FROM pg_class
                 JOIN pg_inherits ON inhrelid = oid WHERE inhparent = 'ledger.entries'::regclass
    LOOP
        EXECUTE format('CREATE TABLE raw.%I PARTITION OF raw.entries %s',
                       child.relname, child.bound);
    END LOOP;
END $$;
GRANT INSERT ON raw.entries TO ledger_pipeline;
"""

CONTEXT: Any = None
"""The servicer does not look at it."""

ids = Uuid7()
sequences = itertools.count(1)
random = np.random.default_rng(20_260_101)


def now_us() -> int:
    return time.time_ns() // 1000


def events(count: int) -> list[Event]:
    """Return decoded TradeBooked of random trades."""
    accounts = [f"ACC{number:05}" for number in random.integers(0, ACCOUNTS, count).tolist()]
    securities = [f"US{number:010}" for number in random.integers(0, INSTRUMENTS, count).tolist()]
    quantities = random.integers(1, 1000, count).tolist()
    found = []
    for at, event_id in enumerate(ids.batch(count, now_us())):
        message = TradeBooked(
            event_id=event_id,
            trade_id=event_id,
            account_id=accounts[at],
            instrument_id=securities[at],
            side=SIDE_BUY if at % 2 else SIDE_SELL,
            quantity_micros=quantities[at] * 10**6,
            currency="USD",
            gross_minor=quantities[at] * 15_000,
            trade_day=20_500,
        )
        name = message.DESCRIPTOR.full_name
        found.append(
            Event(
                TENANT, TRADES, accounts[at], next(sequences), event_id, name, 2, b"", None, message
            )
        )
    return found


def journals(count: int) -> Journals:
    """Return the journals of random trades, made from columns at once."""
    event_ids = ids.batch(count, now_us())
    security = random.integers(2, 2 + INSTRUMENTS, count)
    security[random.random(count) < RARE_SHARE] = 2 + INSTRUMENTS
    names = [f"US{number:010}" for number in range(INSTRUMENTS)]
    assets = [NO_ASSET, Asset(CURRENCY, "USD"), *(Asset(SECURITY, name) for name in (*names, RARE))]
    quantity = random.integers(1, 1000, count) * random.choice([-1, 1], count) * 10**6
    fee = np.zeros(count, np.int64)
    trades = domain.Trades(security, np.ones(count, np.int64), quantity, quantity // 70, fee)
    account = random.integers(0, ACCOUNTS, count)
    headers = Headers(
        KIND_TRADE,
        account,
        event_ids,
        event_ids,
        np.array([next(sequences) for _ in event_ids]),
        np.full(count, 20_500, np.int32),
    )
    accounts = [(TENANT, f"ACC{number:05}") for number in range(ACCOUNTS)]
    return Journals(accounts, assets, headers, domain.trade_legs(trades))


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of the turns of posting one size of batch."""

    raw: list[float]
    posting: list[float]
    columns: list[float]

    @property
    def ratio(self) -> float:
        """Median over the turns of how fast posting is, COPY being 1."""
        return statistics.median(
            raw / posting for raw, posting in zip(self.raw, self.posting, strict=True)
        )


async def time_posting(connection: Connection, trades: int, turns: int) -> Timing:
    """Post and copy by turns; the first turn warms up and does not count."""
    timing = Timing([], [], [])
    for turn in range(turns + 1):
        batch = events(trades)
        began = time.perf_counter()
        (booked,) = bookings.read(batch)
        columns = time.perf_counter() - began
        posting = await timed(post(connection, booked))
        raw = await timed(copy_raw(connection, booked))
        if turn:
            timing.raw.append(raw)
            timing.posting.append(posting)
            timing.columns.append(columns)
    return timing


async def timed(action: Awaitable[object]) -> float:
    began = time.perf_counter()
    await action
    return time.perf_counter() - began


async def post(connection: Connection, booked: Journals) -> None:
    books = PostgresBooks(connection)
    async with connection.transaction():
        await books.number(booked.accounts)
        await books.post(booked, now_us())


async def copy_raw(connection: Connection, booked: Journals) -> None:
    payload = writing.encode_entries(booked, now_us())

    async def source() -> AsyncIterator[bytes]:
        yield payload

    async with connection.transaction():
        await connection.copy_to_table(
            "entries",
            schema_name="raw",
            columns=writing.ENTRY_COLUMNS,
            source=source(),
            format="binary",
        )


async def fill(connection: Connection, held: int, entries: int) -> list[str]:
    """Post until the ledger holds so many entries; return some journals' ids."""
    some: list[str] = []
    began, first = time.perf_counter(), held
    while held < entries or not some:
        batch = journals(max(1_000, min(FILL_TRADES, (entries - held) // 4)))
        await post(connection, batch)
        some += batch.headers.event_ids[:: FILL_TRADES // 20]
        held += len(batch.legs)
    seconds = time.perf_counter() - began
    if held > first:
        print(f"filled to {held:,} entries at {(held - first) / seconds:,.0f} entries/s")
    return some


async def time_reads(servicer: LedgerServicer, some: list[str]) -> list[tuple[str, float]]:
    """Return the p95 of each read in milliseconds."""

    def account() -> str:
        return f"ACC{random.integers(0, ACCOUNTS):05}"

    def asset() -> str:
        return f"US{random.integers(0, INSTRUMENTS):010}"

    def journal() -> str:
        return some[random.integers(0, len(some))]

    def entries(**fields: Any) -> Callable[[], Awaitable[object]]:
        return lambda: servicer.ListEntries(
            pb.ListEntriesRequest(account_id=account(), **fields), CONTEXT
        )

    async def paged() -> object:
        """Return the entries before one that lies somewhere."""
        name = account()
        filters = {"account": name, "asset": ""}
        token = pagination.page_token([journal(), 0], filters)
        return await servicer.ListEntries(
            pb.ListEntriesRequest(account_id=name, page_token=token), CONTEXT
        )

    reads: dict[str, Callable[[], Awaitable[object]]] = {
        "GetJournal": lambda: servicer.GetJournal(
            pb.GetJournalRequest(journal_id=journal()), CONTEXT
        ),
        "ListEntries, first 100": lambda: entries()(),
        "ListEntries, 100 somewhere": paged,
        "ListEntries, 100 of an asset": lambda: entries(asset=asset())(),
        "ListEntries of a rare asset": lambda: entries(asset=RARE)(),
        "ListEntries of all accounts": lambda: servicer.ListEntries(
            pb.ListEntriesRequest(account_id="-"), CONTEXT
        ),
        "GetBalance": lambda: servicer.GetBalance(
            pb.GetBalanceRequest(account_id=account(), asset=asset()), CONTEXT
        ),
        "ListBalances": lambda: servicer.ListBalances(
            pb.ListBalancesRequest(account_id=account()), CONTEXT
        ),
        "GetTrialBalance": lambda: servicer.GetTrialBalance(pb.GetTrialBalanceRequest(), CONTEXT),
    }
    found = []
    for name, read in reads.items():
        times = [await timed(read()) for _ in range(READS)]
        found.append((name, statistics.quantiles(times[READS // 20 :], n=20)[-1] * 1000))
    return found


async def check(servicer: LedgerServicer) -> None:
    began = time.perf_counter()
    found = await servicer.CheckLedger(pb.CheckLedgerRequest(), CONTEXT)
    seconds = time.perf_counter() - began
    right = not (found.unbalanced_journal_ids or found.differences or found.duplicate_journal_count)
    print(
        f"CheckLedger: {found.entry_count:,} entries, {found.journal_count:,} journals, "
        f"{found.balance_count:,} balances in {seconds:.1f} s: {'right' if right else 'WRONG'}"
    )


@asynccontextmanager
async def scratch(admin_url: str) -> AsyncIterator[str]:
    """Make the scratch database, and drop it in the end."""
    server = admin_url.rpartition("/")[0]
    connection = await asyncpg.connect(server + "/postgres")
    drop = f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)"
    try:
        await connection.execute(drop)
        # No password: those of the roles stay as they are.
        await asyncio.to_thread(migrate, f"{server}/{DATABASE}", ["ledger"], "")
        yield f"{server}/{DATABASE}"
    finally:
        await connection.execute(drop)
        await connection.close()


async def as_role(url: str, role: str) -> "asyncpg.Pool[asyncpg.Record]":
    """Return connections that an admin opened and gave to a service's role."""

    async def become(connection: Connection) -> None:
        await connection.execute(f"SET ROLE {role}")

    async def keep(connection: Connection) -> None:
        """Leave the role as it is."""

    return await asyncpg.create_pool(
        url, min_size=1, max_size=4, setup=become, reset=keep, server_settings={"jit": "off"}
    )


async def bench(url: str, entries: int, turns: int) -> bool:
    """Print all figures; tell whether each is within its limit."""
    async with AsyncExitStack() as opened:
        admin = await asyncpg.connect(url)
        opened.push_async_callback(admin.close)
        await admin.execute(RAW)
        api, pipeline = [await as_role(url, role) for role in ("ledger_api", "ledger_pipeline")]
        database = Database("ledger", api, pipeline)
        opened.push_async_callback(database.close)
        async with pipeline.acquire() as connection:
            good = await bench_posting(connection, turns)
            posted = await admin.fetchval("SELECT sum(entry_count)::bigint FROM ledger.balances")
            some = await fill(connection, posted, entries)
        await admin.execute("VACUUM ANALYZE ledger.entries, ledger.journals, ledger.balances")
        return await bench_reads(database, some) and good


async def bench_posting(connection: Connection, turns: int) -> bool:
    ratios = []
    for trades in BATCHES:
        timing = await time_posting(connection, trades, turns)
        report(trades, timing)
        ratios.append(timing.ratio)
    return min(ratios) >= LIMIT_RATIO


async def bench_reads(database: Database, some: list[str]) -> bool:
    enter(Caller(TENANT, "bench", ("auditor",)))
    units = UnitOfWork(database, Settings(), PostgresBooks, [])
    servicer = LedgerServicer(units, Watermarks(database))
    slowest = 0.0
    for name, p95_ms in await time_reads(servicer, some):
        slowest = max(slowest, p95_ms)
        print(f"{name:30} p95 {p95_ms:6.2f} ms (limit {LIMIT_READ_MS:.0f})")
    await check(servicer)
    return slowest < LIMIT_READ_MS


def report(trades: int, timing: Timing) -> None:
    posting, raw = statistics.median(timing.posting), statistics.median(timing.raw)
    print(
        f"{trades:6,} trades: posting {4 * trades / posting:9,.0f} entries/s "
        f"(aim {AIM_ENTRIES:,}), raw COPY {4 * trades / raw:9,.0f}, ratio {timing.ratio:.2f} "
        f"(limit {LIMIT_RATIO}); "
        f"best {4 * trades / min(timing.posting):,.0f} of {4 * trades / min(timing.raw):,.0f}; "
        f"columns from messages {statistics.median(timing.columns) * 1000:.1f} ms"
    )


def stack_url() -> str:
    """Return the admin's URL of the stack of this folder's settings."""
    from services.stack.stack import Stack

    return Stack().database_url()


async def run(options: argparse.Namespace) -> bool:
    admin_url = options.url or os.environ.get("INTERCHANGE_DATABASE_ADMIN_URL") or stack_url()
    async with scratch(admin_url) as url:
        return await bench(url, options.entries, options.turns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url", nargs="?", help="postgresql://admin:password@host:port/any")
    parser.add_argument("--entries", type=int, default=10_000_000, help="size for the reads")
    parser.add_argument("--turns", type=int, default=20, help="turns of posting and COPY")
    raise SystemExit(0 if asyncio.run(run(parser.parse_args())) else 1)


if __name__ == "__main__":
    main()
