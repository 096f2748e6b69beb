"""What callers read, by the api role: row-level security shows it one tenant."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from services.common.db import Connection

ALL_ACCOUNTS = "-"


class PositionRow(NamedTuple):
    """One position, scaled integers."""

    account_id: str
    instrument_id: str
    currency: str
    quantity: int
    open_cost: int
    realized: int
    version: int
    sequence: int
    recorded_at: datetime


class ChangeRow(NamedTuple):
    """One change, and the position after it."""

    event_id: str
    source_topic: str
    source_sequence: int
    quantity_change: int
    position: PositionRow


class PositionReads(Protocol):
    """The port to what is read of one tenant."""

    async def one(self, tenant_id: str, account_id: str, instrument_id: str) -> PositionRow | None:
        """Return a position; None when it was never traded."""
        ...

    async def page(
        self, tenant_id: str, account_id: str, after: tuple[str, str], limit: int
    ) -> list[PositionRow]:
        """Return positions after (account, instrument), in that order; `-` is all accounts."""
        ...

    async def of_account(self, tenant_id: str, account_id: str) -> list[PositionRow]:
        """Return all positions of an account."""
        ...

    async def changed(
        self, tenant_id: str, accounts: Sequence[str], seen: Sequence[int]
    ) -> list[PositionRow]:
        """Return the positions that changed after `seen` changes of their account."""
        ...

    async def changes(
        self, tenant_id: str, account_id: str, instrument_id: str, before: int, limit: int
    ) -> list[ChangeRow]:
        """Return changes of a position numbered below `before`, newest first."""
        ...


_COLUMNS = """p.account_id, p.instrument_id, p.currency, p.quantity, p.open_cost, p.realized,
    p.version, p.sequence, p.recorded_at"""
_ONE = f"""
SELECT {_COLUMNS} FROM position.positions AS p
WHERE p.tenant_id = $1 AND p.account_id = $2 AND p.instrument_id = $3
"""
_PAGE = f"""
SELECT {_COLUMNS} FROM position.positions AS p
WHERE p.tenant_id = $1 AND p.account_id = $2 AND p.instrument_id > $3
ORDER BY p.instrument_id LIMIT $4
"""
_PAGE_OF_ALL = f"""
SELECT {_COLUMNS} FROM position.positions AS p
WHERE p.tenant_id = $1 AND (p.account_id, p.instrument_id) > ($2, $3)
ORDER BY p.account_id, p.instrument_id LIMIT $4
"""
_OF_ACCOUNT = f"""
SELECT {_COLUMNS} FROM position.positions AS p
WHERE p.tenant_id = $1 AND p.account_id = $2
"""
# Accounts that stand still cost one look at their row.
_CHANGED = f"""
SELECT {_COLUMNS} FROM unnest($2::text[], $3::bigint[]) AS w(account_id, seen)
JOIN position.accounts AS a
  ON a.tenant_id = $1 AND a.account_id = w.account_id AND a.sequence > w.seen
JOIN position.positions AS p
  ON p.tenant_id = $1 AND p.account_id = a.account_id AND p.sequence > w.seen
"""
# The currency is looked up once: a join would hide the order of the index.
_CHANGES = """
SELECT c.event_id::text, c.source_topic, c.source_sequence, c.quantity_change, c.account_id,
    c.instrument_id,
    (SELECT p.currency FROM position.positions AS p
     WHERE p.tenant_id = $1 AND p.account_id = $2 AND p.instrument_id = $3),
    c.quantity, c.open_cost, c.realized, c.version, c.sequence, c.recorded_at
FROM position.changes AS c
WHERE c.tenant_id = $1 AND c.account_id = $2 AND c.instrument_id = $3 AND c.sequence < $4
ORDER BY c.sequence DESC LIMIT $5
"""


class PostgresReads(PositionReads):
    """Reads within a transaction of one tenant."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def one(self, tenant_id: str, account_id: str, instrument_id: str) -> PositionRow | None:
        """Return a position; None when it was never traded."""
        rows = await self._rows(_ONE, tenant_id, account_id, instrument_id)
        return rows[0] if rows else None

    async def page(
        self, tenant_id: str, account_id: str, after: tuple[str, str], limit: int
    ) -> list[PositionRow]:
        """Return positions after (account, instrument), in that order; `-` is all accounts."""
        if account_id == ALL_ACCOUNTS:
            return await self._rows(_PAGE_OF_ALL, tenant_id, *after, limit)
        return await self._rows(_PAGE, tenant_id, account_id, after[1], limit)

    async def of_account(self, tenant_id: str, account_id: str) -> list[PositionRow]:
        """Return all positions of an account."""
        return await self._rows(_OF_ACCOUNT, tenant_id, account_id)

    async def changed(
        self, tenant_id: str, accounts: Sequence[str], seen: Sequence[int]
    ) -> list[PositionRow]:
        """Return the positions that changed after `seen` changes of their account."""
        return await self._rows(_CHANGED, tenant_id, list(accounts), list(seen))

    async def changes(
        self, tenant_id: str, account_id: str, instrument_id: str, before: int, limit: int
    ) -> list[ChangeRow]:
        """Return changes of a position numbered below `before`, newest first."""
        rows = await self._connection.fetch(
            _CHANGES, tenant_id, account_id, instrument_id, before, limit
        )
        return [ChangeRow(row[0], row[1], row[2], row[3], PositionRow(*row[4:])) for row in rows]

    async def _rows(self, query: str, *arguments: object) -> list[PositionRow]:
        return [PositionRow(*row) for row in await self._connection.fetch(query, *arguments)]
