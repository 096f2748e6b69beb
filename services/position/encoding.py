"""Rows of the books as binary COPY: what is written, and what a rebuild compares.

Columns have the order in which the tables name them.
"""

from collections.abc import Sequence

import numpy as np

from native import pgcopy
from services.position.domain import Folded
from services.position.fills import TOPICS, Fills
from services.position.lots import Int64s

EPOCH_2000_US = 946_684_800_000_000
"""Postgres counts timestamps from 2000-01-01 UTC."""

CHANGES = (
    "tenant_id",
    "account_id",
    "sequence",
    "recorded_at",
    "instrument_id",
    "source_topic",
    "source_sequence",
    "event_id",
    "quantity_change",
    "amount",
    "quantity",
    "open_cost",
    "realized",
    "version",
)
POSITIONS = (
    "tenant_id",
    "account_id",
    "instrument_id",
    "currency",
    "quantity",
    "open_cost",
    "realized",
    "version",
    "sequence",
    "recorded_at",
)
LOTS = ("tenant_id", "account_id", "instrument_id", "opened", "quantity", "open_cost")
FILLS = (
    "tenant_id",
    "account_id",
    "instrument_id",
    "quantity",
    "amount",
    "transfer",
    "currency",
    "source_sequence",
    "event_id",
    "recorded_us",
)


def changes(fills: Fills, after: Folded) -> bytes:
    """Return the rows of position.changes, one a fill, in their order."""
    did = after.changes
    columns = [
        *_account(fills, fills.account),
        pgcopy.int8(did.sequence),
        _time(fills.recorded_us),
        _text(fills.position, fills.instruments),
        _text(fills.transfer.astype(np.int64), TOPICS),
        pgcopy.int8(fills.source_sequence),
        _uuid(fills.event_ids),
        pgcopy.int8(fills.quantity),
        pgcopy.int8(did.amount),
        pgcopy.int8(did.quantity),
        pgcopy.int8(did.cost),
        pgcopy.int8(did.realized),
        pgcopy.int8(did.version),
    ]
    return pgcopy.encode_copy(columns, len(fills))


def positions(fills: Fills, after: Folded, order: Int64s) -> bytes:
    """Return the rows of position.positions in a given order."""
    state, last = after.positions, after.last[order]
    columns = [
        *_account(fills, fills.owner[order]),
        _text(order, fills.instruments),
        _text(order, state.currency),
        pgcopy.int8(state.quantity[order]),
        pgcopy.int8(state.cost[order]),
        pgcopy.int8(state.realized[order]),
        pgcopy.int8(state.version[order]),
        pgcopy.int8(after.changes.sequence[last]),
        _time(fills.recorded_us[last]),
    ]
    return pgcopy.encode_copy(columns, len(order))


def lots(fills: Fills, after: Folded, order: Int64s) -> bytes:
    """Return the rows of position.lots, positions in a given order, oldest first."""
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    held = after.lots
    rows = np.argsort(place[held.owner], kind="stable")
    owner = held.owner[rows]
    columns = [
        *_account(fills, fills.owner[owner]),
        _text(owner, fills.instruments),
        pgcopy.int8(held.opened[rows]),
        pgcopy.int8(held.quantity[rows]),
        pgcopy.int8(held.cost[rows]),
    ]
    return pgcopy.encode_copy(columns, len(rows))


def fills(given: Fills) -> bytes:
    """Return fills as they came, before they are applied."""
    columns = [
        *_account(given, given.account),
        _text(given.position, given.instruments),
        pgcopy.int8(given.quantity),
        pgcopy.int8(given.amount),
        pgcopy.int2(given.transfer),
        _text(np.arange(len(given)), given.currency),
        pgcopy.int8(given.source_sequence),
        _uuid(given.event_ids),
        pgcopy.int8(given.recorded_us),
    ]
    return pgcopy.encode_copy(columns, len(given))


def _account(fills: Fills, index: Int64s) -> tuple[pgcopy.Column, pgcopy.Column]:
    return (
        _text(index, [tenant_id for tenant_id, _ in fills.accounts]),
        _text(index, [account_id for _, account_id in fills.accounts]),
    )


def _text(index: Int64s, names: Sequence[str]) -> pgcopy.Column:
    return pgcopy.text(index, [name.encode() for name in names])


def _time(recorded_us: Int64s) -> pgcopy.Column:
    return pgcopy.timestamptz(recorded_us - EPOCH_2000_US)


def _uuid(event_ids: Sequence[str]) -> pgcopy.Column:
    return pgcopy.uuid(bytes.fromhex("".join(event_ids).replace("-", "")))
