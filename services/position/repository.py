"""The books in Postgres, written by the pipeline role.

That role bypasses row-level security: every statement names the tenant.
"""

from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO

import asyncpg
import numpy as np

from services.common.db import Connection
from services.position import encoding
from services.position.books import Books, trade_sequences
from services.position.domain import Accounts, Folded, Positions, Unappliable
from services.position.fills import AccountId, Fills
from services.position.lots import Flags, Lots

# The rows are locked in sorted order, so that two batches can't wait for each other.
_LOCK = """
SELECT a.tenant_id, a.account_id, a.fifo, a.sequence, a.event_sequence, a.trade_sequence
FROM position.accounts AS a
JOIN unnest($1::text[], $2::text[]) AS w(tenant_id, account_id)
  USING (tenant_id, account_id)
ORDER BY a.tenant_id, a.account_id FOR NO KEY UPDATE OF a
"""
_OPEN = """
INSERT INTO position.accounts (tenant_id, account_id, fifo)
SELECT * FROM unnest($1::text[], $2::text[], $3::bool[]) ON CONFLICT DO NOTHING
"""
_POSITIONS = """
SELECT w.at - 1, p.currency, p.quantity, p.open_cost, p.realized, p.version
FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY
     AS w(tenant_id, account_id, instrument_id, at)
JOIN position.positions AS p USING (tenant_id, account_id, instrument_id)
"""
_LOTS = """
SELECT w.at - 1, l.quantity, l.open_cost, l.opened
FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY
     AS w(tenant_id, account_id, instrument_id, at)
JOIN position.lots AS l USING (tenant_id, account_id, instrument_id)
ORDER BY w.at, l.opened
"""
_UPSERT = """
INSERT INTO position.positions AS p (tenant_id, account_id, instrument_id, currency, quantity,
    open_cost, realized, version, sequence, recorded_at)
SELECT tenant_id, account_id, instrument_id, currency, quantity, open_cost, realized, version,
    sequence, timestamptz 'epoch' + recorded_us * interval '1 microsecond'
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[],
            $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[])
     AS n(tenant_id, account_id, instrument_id, currency, quantity, open_cost, realized, version,
          sequence, recorded_us)
ON CONFLICT (tenant_id, account_id, instrument_id) DO UPDATE SET currency = excluded.currency,
    quantity = excluded.quantity, open_cost = excluded.open_cost, realized = excluded.realized,
    version = excluded.version, sequence = excluded.sequence, recorded_at = excluded.recorded_at
"""
_ADVANCE = """
UPDATE position.accounts AS a SET sequence = n.sequence, event_sequence = n.event_sequence,
    trade_sequence = n.trade_sequence
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[])
     AS n(tenant_id, account_id, sequence, event_sequence, trade_sequence)
WHERE a.tenant_id = n.tenant_id AND a.account_id = n.account_id
"""
_CLOSE_LOTS = """
DELETE FROM position.lots AS l
USING unnest($1::text[], $2::text[], $3::text[], $4::bigint[])
      AS n(tenant_id, account_id, instrument_id, opened)
WHERE l.tenant_id = n.tenant_id AND l.account_id = n.account_id
  AND l.instrument_id = n.instrument_id AND l.opened = n.opened
"""
_WRITE_LOTS = """
INSERT INTO position.lots (tenant_id, account_id, instrument_id, opened, quantity, open_cost)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[])
ON CONFLICT (tenant_id, account_id, instrument_id, opened)
DO UPDATE SET quantity = excluded.quantity, open_cost = excluded.open_cost
"""


class PostgresBooks(Books):
    """The books of all tenants within a transaction of the pipeline role."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def lock(
        self, accounts: Sequence[AccountId], methods: Mapping[AccountId, bool]
    ) -> Accounts:
        """Lock accounts until the end of the transaction; open those that are new."""
        found = await self._locked(accounts)
        missing = sorted(key for key in accounts if key not in found)
        if missing:
            unknown = next((key for key in missing if key not in methods), None)
            if unknown is not None:
                raise Unappliable(f"cost method of account {unknown[1]} is not known")
            flags = [methods[key] for key in missing]
            await self._connection.execute(_OPEN, *_columns(missing), flags)
            # Opened here, or by somebody who was faster and has committed.
            found |= await self._locked(missing)
        for key, fifo in methods.items():
            if key in found and found[key]["fifo"] != fifo:
                raise Unappliable(f"account {key[1]} changed its cost method, which is final")
        rows = [found[key] for key in accounts]
        return Accounts(
            np.array([row["fifo"] for row in rows], np.bool_),
            *(
                np.array([row[name] for row in rows], np.int64)
                for name in ("sequence", "event_sequence", "trade_sequence")
            ),
        )

    async def _locked(self, accounts: Sequence[AccountId]) -> dict[AccountId, asyncpg.Record]:
        rows = await self._connection.fetch(_LOCK, *_columns(accounts))
        return {(row["tenant_id"], row["account_id"]): row for row in rows}

    async def positions(self, fills: Fills) -> Positions:
        """Return the state of the positions of locked accounts.

        A statement of its own, after the lock: it sees what was committed
        while the lock was waited for.
        """
        count = len(fills.instruments)
        currency = [""] * count
        state = np.zeros((4, count), np.int64)
        rows = await self._connection.fetch(_POSITIONS, *_keys(fills, range(count)))
        if rows:
            at, named, *numbers = zip(*rows, strict=True)
            state[:, list(at)] = numbers
            for index, name in zip(at, named, strict=True):
                currency[index] = name
        return Positions(currency, *state)

    async def lots(self, fills: Fills, fifo: Flags) -> Lots:
        """Return the open lots of the positions whose flag in `fifo` is set."""
        wanted = np.flatnonzero(fifo)
        rows = await self._connection.fetch(_LOTS, *_keys(fills, wanted.tolist()))
        owner, quantity, cost, opened = (
            np.array(column, np.int64) for column in (zip(*rows, strict=True) if rows else [()] * 4)
        )
        sizes = np.bincount(wanted[owner], minlength=len(fifo))
        return Lots(np.concatenate([[0], sizes.cumsum()]), quantity, cost, opened)

    async def save(
        self, fills: Fills, accounts: Accounts, before: tuple[Positions, Lots], after: Folded
    ) -> None:
        """Write the changes, the positions, the lots and how far the accounts are."""
        await self._connection.copy_to_table(
            "changes",
            schema_name="position",
            columns=encoding.CHANGES,
            format="binary",
            source=BytesIO(encoding.changes(fills, after)),
        )
        positions, count = after.positions, len(fills.instruments)
        await self._connection.execute(
            _UPSERT,
            *_keys(fills, range(count)),
            positions.currency,
            positions.quantity.tolist(),
            positions.cost.tolist(),
            positions.realized.tolist(),
            positions.version.tolist(),
            after.changes.sequence[after.last].tolist(),
            fills.recorded_us[after.last].tolist(),
        )
        await self._save_lots(fills, accounts, before[1], after.lots)
        await self._connection.execute(
            _ADVANCE,
            *_columns(fills.accounts),
            (accounts.sequence + np.bincount(fills.account)).tolist(),
            (accounts.event_sequence + np.bincount(fills.owner)).tolist(),
            trade_sequences(fills, accounts).tolist(),
        )

    async def _save_lots(self, fills: Fills, accounts: Accounts, before: Lots, after: Lots) -> None:
        closed, written = after.difference(before, accounts.sequence[fills.owner])
        if len(closed):
            owners = before.owner[closed].tolist()
            opened = before.opened[closed].tolist()
            await self._connection.execute(_CLOSE_LOTS, *_keys(fills, owners), opened)
        if len(written):
            await self._connection.execute(
                _WRITE_LOTS,
                *_keys(fills, after.owner[written].tolist()),
                after.opened[written].tolist(),
                after.quantity[written].tolist(),
                after.cost[written].tolist(),
            )


def _columns(accounts: Sequence[AccountId]) -> tuple[list[str], list[str]]:
    return [tenant_id for tenant_id, _ in accounts], [account_id for _, account_id in accounts]


def _keys(fills: Fills, positions: Iterable[int]) -> tuple[list[str], list[str], list[str]]:
    """Return tenant, account and instrument of positions."""
    owners = fills.owner.tolist()
    accounts = [fills.accounts[owners[at]] for at in positions]
    return *_columns(accounts), [fills.instruments[at] for at in positions]
