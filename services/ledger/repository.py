"""All SQL of the ledger service, but for its checks (see checks.py)."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

from services.common.db import Connection
from services.ledger import checks, writing
from services.ledger.domain import AccountId, Journals
from services.ledger.rows import (
    BalanceKey,
    BalanceRow,
    CheckRow,
    EntryKey,
    EntryRow,
    JournalRow,
    TrialRow,
)

_ENTRY = (
    "e.journal_id::text, e.leg, e.account_id, e.sub_account, e.asset, e.asset_kind, e.amount, "
    "e.instrument_id, e.posted_at"
)
_BALANCE = "account_id, asset, asset_kind, sub_account, amount, entry_count, updated_at"

_NUMBER = """
INSERT INTO ledger.accounts AS a (tenant_id, account_id, last_sequence)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[])
ON CONFLICT (tenant_id, account_id) DO UPDATE
SET last_sequence = a.last_sequence + excluded.last_sequence
RETURNING tenant_id, account_id, last_sequence
"""

# The journals that hold a page's entries are found in the index of first legs,
# then their legs by primary key. A journal has two legs at least. Limits are
# literals: of a parameter the planner would expect a tenth of the table, distrust
# the plan that it keeps, and plan anew for each call, which takes longer than it.
_ACCOUNT_ENTRIES = f"""
SELECT {_ENTRY} FROM (
    SELECT journal_id FROM ledger.entries
    WHERE tenant_id = $1 AND account_id = $2 AND leg = 0 AND journal_id <= $3
    ORDER BY journal_id DESC LIMIT {{journals}}
) AS found
JOIN ledger.entries AS e ON e.tenant_id = $1 AND e.journal_id = found.journal_id
WHERE (e.journal_id, e.leg) < ($3, $4)
ORDER BY e.journal_id DESC, e.leg DESC LIMIT {{entries}}
"""
_ACCOUNT_ASSET_ENTRIES = f"""
SELECT {_ENTRY} FROM (
    SELECT DISTINCT journal_id FROM ledger.entries
    WHERE tenant_id = $1 AND account_id = $2 AND asset = $5 AND leg % 2 = 0 AND journal_id <= $3
    ORDER BY journal_id DESC LIMIT {{journals}}
) AS found
JOIN ledger.entries AS e
    ON e.tenant_id = $1 AND e.journal_id = found.journal_id AND e.asset = $5
WHERE (e.journal_id, e.leg) < ($3, $4)
ORDER BY e.journal_id DESC, e.leg DESC LIMIT {{entries}}
"""
_ALL_ENTRIES = f"""
SELECT {_ENTRY} FROM ledger.entries AS e
WHERE tenant_id = $1 AND journal_id <= $2 AND (journal_id, leg) < ($2, $3) {{asset}}
ORDER BY e.journal_id DESC, e.leg DESC LIMIT {{entries}}
"""


class Books(Protocol):
    """What the handlers need of the database."""

    async def number(self, accounts: Sequence[AccountId]) -> Mapping[AccountId, int]:
        """Take a number for each mention of an account; return the last of each.

        Locks the accounts, in sorted order, until the end of the transaction.
        """
        ...

    async def post(self, journals: Journals, posted_us: int) -> None:
        """Write journals with their entries; the database adds them to the balances."""
        ...

    async def journal(self, tenant_id: str, journal_id: str) -> JournalRow | None:
        """Return a journal, None when there is none."""
        ...

    async def entries(
        self, tenant_id: str, account_id: str | None, asset: str | None, after: EntryKey, limit: int
    ) -> list[EntryRow]:
        """Return entries after a key, newest first; None for all accounts or assets."""
        ...

    async def balance(
        self, tenant_id: str, account_id: str, asset: str, sub_account: int
    ) -> BalanceRow | None:
        """Return a balance, None when nothing was ever booked."""
        ...

    async def balances(
        self, tenant_id: str, account_id: str | None, after: BalanceKey | None, limit: int
    ) -> list[BalanceRow]:
        """Return balances in the order of their keys; None for all accounts."""
        ...

    async def trial_balance(self, tenant_id: str) -> list[TrialRow]:
        """Return the sums over all accounts by asset and sub-account."""
        ...

    async def check(self, tenant_id: str, timeout_s: float | None) -> CheckRow:
        """Recompute the tenant's books from the entries, as of one moment."""
        ...


class PostgresBooks(Books):
    """The books in Postgres, within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def number(self, accounts: Sequence[AccountId]) -> Mapping[AccountId, int]:
        """Take a number for each mention of an account; return the last of each."""
        counts: dict[AccountId, int] = {}
        for account in accounts:
            counts[account] = counts.get(account, 0) + 1
        ordered = sorted(counts)
        rows = await self._connection.fetch(
            _NUMBER,
            [tenant_id for tenant_id, _ in ordered],
            [account_id for _, account_id in ordered],
            [counts[account] for account in ordered],
        )
        return {(row[0], row[1]): row[2] for row in rows}

    async def post(self, journals: Journals, posted_us: int) -> None:
        """Write journals with their entries; the database adds them to the balances."""
        headers = writing.encode_journals(journals, posted_us)
        await self._copy("journals", writing.JOURNAL_COLUMNS, headers)
        entries = writing.encode_entries(journals, posted_us)
        await self._copy("entries", writing.ENTRY_COLUMNS, entries)

    async def _copy(self, table: str, columns: Sequence[str], payload: bytes) -> None:
        await self._connection.copy_to_table(
            table, schema_name="ledger", columns=columns, source=_once(payload), format="binary"
        )

    async def journal(self, tenant_id: str, journal_id: str) -> JournalRow | None:
        """Return a journal, None when there is none."""
        header = await self._connection.fetchrow(
            "SELECT journal_id::text, account_id, kind, source_id::text, source_sequence, "
            "effective_date, posted_at FROM ledger.journals "
            "WHERE tenant_id = $1 AND journal_id = $2",
            tenant_id,
            journal_id,
        )
        if header is None:
            return None
        rows = await self._connection.fetch(
            f"SELECT {_ENTRY} FROM ledger.entries AS e "
            "WHERE tenant_id = $1 AND journal_id = $2 ORDER BY leg",
            tenant_id,
            journal_id,
        )
        return JournalRow(**header, entries=[EntryRow(*row) for row in rows])

    async def entries(
        self, tenant_id: str, account_id: str | None, asset: str | None, after: EntryKey, limit: int
    ) -> list[EntryRow]:
        """Return entries after a key, newest first; None for all accounts or assets."""
        given: list[object] = [tenant_id, *after]
        if account_id is None:
            # Of one asset it reads on until the page is full: fast for what is
            # traded, slow for what hardly is. Nobody lists that without an account.
            query = _ALL_ENTRIES
        else:
            query = _ACCOUNT_ENTRIES if asset is None else _ACCOUNT_ASSET_ENTRIES
            given.insert(1, account_id)
        if asset is not None:
            given.append(asset)
        filtered = "" if asset is None else "AND asset = $4"
        query = query.format(entries=limit, journals=limit // 2 + 2, asset=filtered)
        return [EntryRow(*row) for row in await self._connection.fetch(query, *given)]

    async def balance(
        self, tenant_id: str, account_id: str, asset: str, sub_account: int
    ) -> BalanceRow | None:
        """Return a balance; of an instrument that bears a currency's name, the currency's."""
        row = await self._connection.fetchrow(
            f"SELECT {_BALANCE} FROM ledger.balances WHERE tenant_id = $1 AND account_id = $2 "
            "AND asset = $3 AND sub_account = $4 ORDER BY asset_kind LIMIT 1",
            tenant_id,
            account_id,
            asset,
            sub_account,
        )
        return None if row is None else BalanceRow(*row)

    async def balances(
        self, tenant_id: str, account_id: str | None, after: BalanceKey | None, limit: int
    ) -> list[BalanceRow]:
        """Return balances in the order of their keys; None for all accounts."""
        conditions, arguments = ["tenant_id = $1"], [tenant_id, limit, *(after or ())]
        if after is not None:
            conditions.append("(account_id, asset, asset_kind, sub_account) > ($3, $4, $5, $6)")
        if account_id is not None:
            arguments.append(account_id)
            conditions.append(f"account_id = ${len(arguments)}")
        rows = await self._connection.fetch(
            f"SELECT {_BALANCE} FROM ledger.balances WHERE {' AND '.join(conditions)} "
            "ORDER BY account_id, asset, asset_kind, sub_account LIMIT $2",
            *arguments,
        )
        return [BalanceRow(*row) for row in rows]

    async def trial_balance(self, tenant_id: str) -> list[TrialRow]:
        """Return the sums over all accounts by asset and sub-account."""
        rows = await self._connection.fetch(
            "SELECT asset, asset_kind, sub_account, sum(debit), sum(credit), sum(amount), "
            "sum(entry_count) FROM ledger.balances WHERE tenant_id = $1 "
            "GROUP BY asset, asset_kind, sub_account ORDER BY asset, asset_kind, sub_account",
            tenant_id,
        )
        return [TrialRow(*row[:3], *map(int, row[3:])) for row in map(tuple, rows)]

    async def check(self, tenant_id: str, timeout_s: float | None) -> CheckRow:
        """Recompute the tenant's books from the entries, as of one moment."""
        return await checks.recompute(self._connection, tenant_id, timeout_s)


async def _once(payload: bytes) -> AsyncIterator[bytes]:
    yield payload
