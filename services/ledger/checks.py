"""Recomputing the books from their entries: a full read of a tenant."""

from services.common.db import Connection
from services.ledger.domain import KIND_TRADE
from services.ledger.rows import CheckRow, DifferenceRow

FOUND_MAX = 100
WORK_MEMORY = "64MB"
TIMEOUT_MS = 600_000
"""Of one statement where the call has no deadline; the pool's is for quick reads."""

_JOURNALS = """
SELECT count(*), count(DISTINCT source_id) FILTER (WHERE kind = $2),
       count(*) - count(DISTINCT (kind, account_id, source_sequence))
FROM ledger.journals WHERE tenant_id = $1
"""

# A journal without entries and entries without their journal are found as well.
_SUMS = """
WITH summed AS (
    SELECT journal_id, sum(n) AS n, bool_and(total = 0) AS balanced, min(account_id) AS first,
           max(account_id) AS last
    FROM (
        SELECT journal_id, count(*) AS n, sum(amount) AS total, min(account_id) AS account_id
        FROM ledger.entries WHERE tenant_id = $1
        GROUP BY journal_id, account_id, asset, asset_kind
    ) AS by_asset GROUP BY journal_id
), compared AS (
    SELECT coalesce(s.journal_id, j.journal_id) AS journal_id, s.n,
           s.balanced AND s.first = j.account_id AND s.last = j.account_id AS right
    FROM summed AS s FULL JOIN (
        SELECT journal_id, account_id FROM ledger.journals WHERE tenant_id = $1
    ) AS j USING (journal_id)
)
SELECT coalesce(sum(n), 0)::bigint,
       coalesce((array_agg(journal_id::text) FILTER (WHERE "right" IS NOT TRUE))[1:$2], '{}')
FROM compared
"""

_DIFFERENCES = """
WITH summed AS (
    SELECT account_id, asset, asset_kind, sub_account, sum(amount) AS amount, count(*) AS n,
           coalesce(sum(amount) FILTER (WHERE amount > 0), 0) AS debit
    FROM ledger.entries WHERE tenant_id = $1
    GROUP BY account_id, asset, asset_kind, sub_account
), compared AS (
    SELECT account_id, asset, asset_kind, sub_account, coalesce(b.amount, 0) AS stored,
           coalesce(s.amount, 0) AS recomputed, count(b.*) OVER () AS balance_count,
           (b.amount, b.entry_count, b.debit, b.credit)
               IS DISTINCT FROM (s.amount, s.n, s.debit, s.debit - s.amount) AS wrong
    FROM summed AS s FULL JOIN (SELECT * FROM ledger.balances WHERE tenant_id = $1) AS b
        USING (account_id, asset, asset_kind, sub_account)
)
SELECT * FROM compared ORDER BY wrong DESC LIMIT $2
"""


async def recompute(connection: Connection, tenant_id: str, timeout_s: float | None) -> CheckRow:
    """Return what recomputing found, as of one moment."""
    # Before the first query: all see what one snapshot holds, however long they take.
    await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    timeout_ms = TIMEOUT_MS if timeout_s is None else max(1, int(timeout_s * 1000))
    await connection.execute(
        f"SET LOCAL statement_timeout = {timeout_ms}; SET LOCAL work_mem = '{WORK_MEMORY}'"
    )
    journals = await connection.fetchrow(_JOURNALS, tenant_id, KIND_TRADE)
    sums = await connection.fetchrow(_SUMS, tenant_id, FOUND_MAX)
    compared = await connection.fetch(_DIFFERENCES, tenant_id, FOUND_MAX)
    assert journals is not None
    assert sums is not None
    differences = [
        DifferenceRow(row[0], row[1], row[2], row[3], int(row[4]), int(row[5]))
        for row in compared
        if row["wrong"]
    ]
    return CheckRow(
        journal_count=journals[0],
        trade_count=journals[1],
        duplicate_count=journals[2],
        entry_count=sums[0],
        unbalanced=sums[1],
        balance_count=compared[0]["balance_count"] if compared else 0,
        differences=differences,
    )
