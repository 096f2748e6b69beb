"""What disk and Postgres do without any work around it: the references of the figures."""

import io
import os
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg

BLOCK = 4_000
"""Trades a transaction, as many as a consumer applies at once."""
TRADES_MAX = 20_000

TABLES = {
    "trade.trades": ("trade_id", 1),
    "trade.external_keys": ("external_id", 1),
    "position.changes": ("account_id, sequence", 1),
    "ledger.journals": ("journal_id", 1),
    "ledger.entries": ("journal_id, leg", 4),
}
"""What a trade leaves behind: tables, their order, and rows a trade."""


async def copy_rate(connection: "asyncpg.Connection[asyncpg.Record]", trades: int) -> float:
    """Return trades/s when Postgres only has to COPY the rows that trades left behind.

    Into tables with the same columns, checks and indexes, without triggers,
    partitions and policies, one connection, `BLOCK` trades a transaction.
    """
    trades = min(trades, TRADES_MAX)
    blocks = [
        [
            (table, await _copied(connection, table, order, first * rows, BLOCK * rows))
            for table, (order, rows) in TABLES.items()
        ]
        for first in range(0, trades, BLOCK)
    ]
    await connection.execute("DROP SCHEMA IF EXISTS bare CASCADE; CREATE SCHEMA bare")
    for table in TABLES:
        name = _name(table)
        await connection.execute(f"CREATE TABLE bare.{name} (LIKE {table} INCLUDING ALL)")
    began = time.perf_counter()
    for block in blocks:
        async with connection.transaction():
            for table, rows in block:
                await connection.copy_to_table(
                    _name(table), schema_name="bare", source=_source(rows), format="binary"
                )
    seconds = time.perf_counter() - began
    await connection.execute("DROP SCHEMA bare CASCADE")
    return trades / seconds


async def commit_ms(connection: "asyncpg.Connection[asyncpg.Record]", count: int) -> float:
    """Return the median of inserting a row of eight bytes and committing it."""
    await connection.execute("CREATE TABLE IF NOT EXISTS public.bench_commits (at bigint)")
    took = []
    for number in range(count):
        began = time.perf_counter()
        await connection.execute("INSERT INTO public.bench_commits VALUES ($1)", number)
        took.append(time.perf_counter() - began)
    await connection.execute("DROP TABLE public.bench_commits")
    return 1000 * statistics.median(took)


def fsync_ms(folder: Path, count: int) -> float:
    """Return the median of writing 8 KiB to the end of a file and of fdatasync."""
    path = folder / "bench.fsync"
    took = []
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    try:
        for _ in range(count):
            began = time.perf_counter()
            os.write(descriptor, bytes(8192))
            os.fdatasync(descriptor)
            took.append(time.perf_counter() - began)
    finally:
        os.close(descriptor)
        path.unlink()
    return 1000 * statistics.median(took)


async def _copied(
    connection: "asyncpg.Connection[asyncpg.Record]", table: str, order: str, skip: int, rows: int
) -> bytes:
    output = io.BytesIO()
    await connection.copy_from_query(
        f"SELECT * FROM {table} ORDER BY {order} OFFSET {skip} LIMIT {rows}",
        output=output,
        format="binary",
    )
    return output.getvalue()


async def _source(rows: bytes) -> AsyncIterator[bytes]:
    yield rows


def _name(table: str) -> str:
    return table.replace(".", "_")
