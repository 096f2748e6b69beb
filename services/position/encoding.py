"""Rows of the books as binary COPY: what is written, and what a rebuild compares."""

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


def changes(fills: Fills, after: Folded) -> bytes:
    """Return the rows of position.changes, one a fill, in their order."""
    did = after.changes
    columns = [
        _text(fills.account, [tenant_id for tenant_id, _ in fills.accounts]),
        _text(fills.account, [account_id for _, account_id in fills.accounts]),
        pgcopy.int8(did.sequence),
        pgcopy.timestamptz(fills.recorded_us - EPOCH_2000_US),
        _text(fills.position, fills.instruments),
        _text(fills.transfer.astype(np.int64), TOPICS),
        pgcopy.int8(fills.source_sequence),
        pgcopy.uuid(bytes.fromhex("".join(fills.event_ids).replace("-", ""))),
        pgcopy.int8(fills.quantity),
        pgcopy.int8(did.amount),
        pgcopy.int8(did.quantity),
        pgcopy.int8(did.cost),
        pgcopy.int8(did.realized),
        pgcopy.int8(did.version),
    ]
    return pgcopy.encode_copy(columns, len(fills))


def _text(index: Int64s, names: Sequence[str]) -> pgcopy.Column:
    return pgcopy.text(index, [name.encode() for name in names])
