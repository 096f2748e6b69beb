"""Some accounts from nothing: their fills again, in the order in which they were applied."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import NamedTuple

import numpy as np

from services.common.db import Connection
from services.position import encoding
from services.position.books import trade_sequences
from services.position.domain import Accounts, Positions, Unappliable, fold
from services.position.fills import TOPICS, AccountId, FillRows, Fills
from services.position.lots import Lots

_ORDER = """
SELECT c.tenant_id, c.account_id, c.source_topic, c.source_sequence
FROM unnest($1::text[], $2::text[]) AS w(tenant_id, account_id)
JOIN position.changes AS c USING (tenant_id, account_id)
ORDER BY c.tenant_id COLLATE "C", c.account_id COLLATE "C", c.sequence
"""
_EVENTS = """
SELECT f.tenant_id, f.account_id, f.instrument_id, f.quantity, f.amount, f.transfer, f.currency,
    f.source_sequence, f.event_id::text, f.recorded_us
FROM unnest($1::text[], $2::text[]) AS w(tenant_id, account_id)
JOIN pg_temp.fills AS f USING (tenant_id, account_id)
"""
_CLEAR = """
DELETE FROM position.{table} AS t USING unnest($1::text[], $2::text[]) AS w(tenant_id, account_id)
WHERE t.tenant_id = w.tenant_id AND t.account_id = w.account_id
"""
_SET_ACCOUNTS = """
UPDATE position.accounts AS a SET sequence = n.sequence, trade_sequence = n.trade_sequence
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[])
     AS n(tenant_id, account_id, sequence, trade_sequence)
WHERE a.tenant_id = n.tenant_id AND a.account_id = n.account_id
"""


class Account(NamedTuple):
    """The row of an account, as it is kept."""

    tenant_id: str
    account_id: str
    fifo: bool
    sequence: int
    trade_sequence: int


@dataclass(slots=True)
class Rebuilt:
    """Accounts as the events make them."""

    accounts: list[Account]
    payloads: dict[str, bytes]
    """Rows of each table as binary COPY, by its key."""
    differences: list[str] = field(default_factory=list)
    """What no row can show: events that are gone, counters of accounts."""


def names(accounts: Sequence[Account]) -> tuple[list[str], list[str]]:
    """Return the tenants and the accounts."""
    return [one.tenant_id for one in accounts], [one.account_id for one in accounts]


async def replay(
    accounts: Sequence[Account],
    methods: Mapping[AccountId, bool],
    events: Connection,
    live: Connection,
) -> Rebuilt:
    """Apply the fills of accounts again; `events` has them in a temporary table."""
    order = await live.fetch(_ORDER, *names(accounts))
    found = {
        (row["tenant_id"], row["account_id"], TOPICS[row["transfer"]], row["source_sequence"]): row
        for row in await events.fetch(_EVENTS, *names(accounts))
    }
    rows = [found[tuple(at)] for at in order if tuple(at) in found]
    differences = [
        f"changes {at[0]}:{at[1]}: event {at[3]} of {at[2]} is not in the event store"
        for at in order
        if tuple(at) not in found
    ]
    fills = Fills.of(FillRows(*(zip(*rows, strict=True) if rows else [()] * 10)))
    try:
        return _rebuilt(accounts, fills, methods, differences)
    except Unappliable as error:
        nothing = Fills.of(FillRows(*[()] * 10))
        return _rebuilt(accounts, nothing, methods, [*differences, str(error)])


def _rebuilt(
    kept: Sequence[Account],
    fills: Fills,
    methods: Mapping[AccountId, bool],
    differences: list[str],
) -> Rebuilt:
    accounts, positions = len(fills.accounts), len(fills.instruments)
    before = Accounts(
        np.array([methods[key] for key in fills.accounts], np.bool_),
        *np.zeros((3, accounts), np.int64),
    )
    nothing = Positions([""] * positions, *np.zeros((4, positions), np.int64))
    after = fold(fills, before, nothing, Lots.none(positions))
    keys = [(fills.accounts[owner], fills.instruments[at]) for at, owner in enumerate(fills.owner)]
    order = np.array(sorted(range(positions), key=keys.__getitem__), np.int64)
    payloads = {
        "positions": encoding.positions(fills, after, order),
        "lots": encoding.lots(fills, after, order),
        "changes": encoding.changes(fills, after),
    }
    counts = np.bincount(fills.account, minlength=accounts).tolist()
    trades = trade_sequences(fills, before).tolist()
    made = dict(zip(fills.accounts, zip(counts, trades, strict=True), strict=True))
    rebuilt = []
    for one in kept:
        sequence, trade = made.get(one[:2], (0, 0))
        fifo = methods.get(one[:2], one.fifo)
        again = Account(one.tenant_id, one.account_id, fifo, sequence, trade)
        rebuilt.append(again)
        if again != one:
            differences.append(f"accounts {one[0]}:{one[1]}: kept {one[2:]}; rebuilt {again[2:]}")
    return Rebuilt(rebuilt, payloads, differences)


async def replace(rebuilt: Rebuilt, live: Connection) -> None:
    """Put accounts as they were rebuilt in the place of what is kept."""
    columns = {
        "positions": encoding.POSITIONS,
        "lots": encoding.LOTS,
        "changes": encoding.CHANGES,
    }
    for table, payload in rebuilt.payloads.items():
        await live.execute(_CLEAR.format(table=table), *names(rebuilt.accounts))
        await live.copy_to_table(
            table,
            schema_name="position",
            columns=columns[table],
            format="binary",
            source=BytesIO(payload),
        )
    await live.execute(
        _SET_ACCOUNTS,
        *names(rebuilt.accounts),
        [one.sequence for one in rebuilt.accounts],
        [one.trade_sequence for one in rebuilt.accounts],
    )
