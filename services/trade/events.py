"""Events of the trade service as protobuf."""

from collections.abc import Mapping, Sequence

from interchange.trade.v1.trade_events_pb2 import TradeBooked
from interchange.trade.v1.trade_pb2 import Side

from services.common.events import EventColumns
from services.common.upcasters import VERSIONS
from services.trade.commands import TradeRow
from services.trade.domain import Account

TOPIC = "trade-events"
_TRADE_BOOKED = TradeBooked.DESCRIPTOR.full_name


def trades_booked(
    tenant_id: str,
    rows: Sequence[TradeRow],
    accounts: Mapping[str, Account],
) -> EventColumns:
    """Return one TradeBooked a row.

    The event that books a trade has the id of the trade, and so has the journal
    that it causes.
    """
    payloads = [
        TradeBooked(
            event_id=row.trade_id,
            trade_id=row.trade_id,
            account_id=row.account_id,
            instrument_id=row.instrument_id,
            side=Side.ValueType(row.side),
            quantity_micros=row.quantity_micros,
            price_e8=row.price_e8,
            currency=row.currency,
            gross_minor=row.gross_minor,
            fee_minor=row.fee_minor,
            trade_time_us=row.time_us,
            trade_day=row.day,
            recorded_us=row.recorded_us,
            fifo=accounts[row.account_id].fifo,
        ).SerializeToString()
        for row in rows
    ]
    columns = EventColumns(tenant_id, TOPIC)
    columns.extend(
        _TRADE_BOOKED,
        VERSIONS[_TRADE_BOOKED],
        [row.trade_id for row in rows],
        [row.account_id for row in rows],
        [row.sequence for row in rows],
        payloads,
    )
    return columns
