"""Fills the ledger's tables on the server, by their own rules.

All triggers work: each journal is checked and each balance is kept by the
database. Only the events are missing that would have caused the journals, so
the accounts are apart from those that trade.
"""

import time

import asyncpg

from tests.load.scene import TENANT, Scene

ACCOUNTS = 500
INSTRUMENTS = 20
BLOCK = 125_000
"""Journals a statement: each touches every balance, so a few large ones cost least."""
LEGS = 4

# UUIDv7, a millisecond apart, so that they grow as posted ones do.
_MADE = """
CREATE TEMPORARY TABLE made AS
SELECT (lpad(to_hex($2::bigint + n), 12, '0') || '7' || lpad(to_hex(n % 4096), 3, '0') || '8'
        || lpad(to_hex(n), 15, '0'))::uuid AS journal_id,
       format('FILL%s', n * 7919 % $4) AS account_id,
       format('US%s', n / $4 % $5) AS security,
       (1 + n % 1000) * 1000000 * CASE WHEN n % 2 = 0 THEN 1 ELSE -1 END AS quantity,
       (1 + n % 1000) * 15000 * CASE WHEN n % 2 = 0 THEN 1 ELSE -1 END AS gross,
       n / $4 + 1 AS sequence
FROM generate_series($1::bigint, $1::bigint + $3 - 1) AS n
"""
_ACCOUNTS = """
INSERT INTO ledger.accounts AS a (tenant_id, account_id, last_sequence)
SELECT $1, account_id, count(*) FROM made GROUP BY account_id
ON CONFLICT (tenant_id, account_id) DO UPDATE
SET last_sequence = a.last_sequence + excluded.last_sequence
"""
_JOURNALS = """
INSERT INTO ledger.journals
    (tenant_id, account_id, journal_id, source_id, source_sequence, posted_at, effective_date, kind)
SELECT $1, account_id, journal_id, journal_id, sequence, now(), current_date, 1 FROM made
ORDER BY journal_id
"""
# Securities and cash, each of the account (sub-account 1) against the street (3).
_ENTRIES = """
INSERT INTO ledger.entries (tenant_id, account_id, journal_id, leg, sub_account, asset_kind,
                            asset, amount, instrument_id, posted_at)
SELECT $1, account_id, journal_id, leg, CASE leg % 2 WHEN 0 THEN 1 ELSE 3 END,
       CASE WHEN leg < 2 THEN 2 ELSE 1 END, CASE WHEN leg < 2 THEN security ELSE 'USD' END,
       CASE leg WHEN 0 THEN quantity WHEN 1 THEN -quantity WHEN 2 THEN -gross ELSE gross END,
       security, now()
FROM made CROSS JOIN generate_series(0, 3) AS leg
ORDER BY journal_id, leg
"""


def account(number: int) -> str:
    """Return the name of an account of the fill."""
    return f"FILL{number % ACCOUNTS}"


def security(number: int) -> str:
    """Return the name of an instrument of the fill."""
    return f"US{number % INSTRUMENTS}"


async def fill(scene: Scene, entries: int) -> int:
    """Fill until the ledger holds so many entries, a tenth of them at least from here.

    Return how many it holds.
    """
    connection = await scene.admin()
    try:
        held = await connection.fetchval(
            "SELECT coalesce(sum(entry_count), 0)::bigint FROM ledger.balances"
        )
        missing = -(-max(entries - held, entries // 10) // LEGS)
        began_ms, began = time.time_ns() // 1_000_000 - missing, time.perf_counter()
        for first in range(0, missing, BLOCK):
            count = min(BLOCK, missing - first)
            await _block(connection, first, began_ms, count)
            if first // BLOCK % 4 == 3:
                scene.say(f"{held + LEGS * (first + count):,} entries")
        seconds = time.perf_counter() - began
        await connection.execute(
            "VACUUM ANALYZE ledger.entries, ledger.journals, ledger.balances", timeout=600
        )
        total = int(await connection.fetchval("SELECT count(*) FROM ledger.entries", timeout=600))
        rate = LEGS * missing / seconds
        scene.say(f"filled to {total:,} entries, {rate:,.0f} entries/s, triggers on")
        return total
    finally:
        await connection.close()


async def _block(
    connection: "asyncpg.Connection[asyncpg.Record]", first: int, began_ms: int, count: int
) -> None:
    async with connection.transaction():
        await connection.execute(_MADE, first, began_ms, count, ACCOUNTS, INSTRUMENTS)
        for statement in (_ACCOUNTS, _JOURNALS, _ENTRIES):
            await connection.execute(statement, TENANT, timeout=120)
        await connection.execute("DROP TABLE made")
