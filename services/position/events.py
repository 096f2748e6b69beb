"""Positions as events."""

from collections.abc import Iterable

from interchange.position.v1.position_events_pb2 import PositionChanged

from services.common.events import EventColumns
from services.common.ids import uuid7_batch
from services.position.books import trade_sequences
from services.position.domain import Accounts, Folded, rank
from services.position.fills import Fills

TOPIC = "position-events"
POSITION_CHANGED = PositionChanged.DESCRIPTOR.full_name


def position_changed(
    fills: Fills, accounts: Accounts, after: Folded, now_us: int
) -> Iterable[EventColumns]:
    """Return the events of each tenant: one for each position that changed."""
    keys = [fills.accounts[owner] for owner in fills.owner]
    sequences = accounts.event_sequence[fills.owner] + 1 + rank(fills.owner)
    state = after.positions
    payloads = [
        PositionChanged(
            account_id=key[1],
            instrument_id=instrument,
            currency=currency,
            quantity_micros=quantity,
            open_cost_minor=cost,
            realized_minor=realized,
            version=version,
            change_sequence=change,
            trade_sequence=trade,
        ).SerializeToString()
        for key, instrument, currency, quantity, cost, realized, version, change, trade in zip(
            keys,
            fills.instruments,
            state.currency,
            state.quantity.tolist(),
            state.cost.tolist(),
            state.realized.tolist(),
            state.version.tolist(),
            after.changes.sequence[after.last].tolist(),
            trade_sequences(fills, accounts)[fills.owner].tolist(),
            strict=True,
        )
    ]
    ids = uuid7_batch(len(payloads), now_us)
    tenants: dict[str, list[int]] = {}
    for at, (tenant_id, _) in enumerate(keys):
        tenants.setdefault(tenant_id, []).append(at)
    for tenant_id, rows in tenants.items():
        columns = EventColumns(tenant_id, TOPIC)
        columns.extend(
            POSITION_CHANGED,
            1,
            [ids[at] for at in rows],
            [keys[at][1] for at in rows],
            [int(sequences[at]) for at in rows],
            [payloads[at] for at in rows],
        )
        yield columns
