"""Positions as protobuf."""

from collections.abc import Sequence

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.decimal_pb2 import Decimal
from google.type.money_pb2 import Money
from interchange.position.v1.position_pb2 import Position, PositionChange

from native import money
from services.common import currencies
from services.position.costs import average_cost_e8, decimal_text
from services.position.reads import ChangeRow, PositionRow


def positions(rows: Sequence[PositionRow]) -> list[Position]:
    """Return stored positions as resources."""
    # A deposit may name no currency; its cost is zero then, and so is any amount.
    exponents = [currencies.exponent(row.currency) or 0 for row in rows]
    costs = _amounts([row.open_cost for row in rows], exponents)
    profits = _amounts([row.realized for row in rows], exponents)
    return [
        Position(
            account_id=row.account_id,
            instrument_id=row.instrument_id,
            quantity=Decimal(value=quantity),
            open_cost=Money(currency_code=row.currency, units=cost[0], nanos=cost[1]),
            average_cost=Decimal(
                value=decimal_text(
                    average_cost_e8(row.open_cost, row.quantity, exponent), money.PRICE_SCALE
                )
            ),
            realized_pnl=Money(currency_code=row.currency, units=profit[0], nanos=profit[1]),
            version=row.version,
            sequence=row.sequence,
            update_time=_timestamp(row),
        )
        for row, exponent, quantity, cost, profit in zip(
            rows,
            exponents,
            _quantities([row.quantity for row in rows]),
            costs,
            profits,
            strict=True,
        )
    ]


def changes(rows: Sequence[ChangeRow]) -> list[PositionChange]:
    """Return stored changes as resources."""
    after = positions([row.position for row in rows])
    moved = _quantities([row.quantity_change for row in rows])
    return [
        PositionChange(
            sequence=row.position.sequence,
            event_id=row.event_id,
            source_topic=row.source_topic,
            source_sequence=row.source_sequence,
            quantity_change=Decimal(value=quantity),
            position=position,
        )
        for row, quantity, position in zip(rows, moved, after, strict=True)
    ]


def _quantities(values: Sequence[int]) -> list[str]:
    return money.format_decimals(np.array(values, np.int64), money.QUANTITY_SCALE)


def _amounts(minor: Sequence[int], exponents: Sequence[int]) -> list[tuple[int, int]]:
    units, nanos = money.minor_to_money(np.array(minor, np.int64), np.array(exponents, np.uint8))
    return list(zip(units.tolist(), nanos.tolist(), strict=True))


def _timestamp(row: PositionRow) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(row.recorded_at)
    return stamp
