"""Trades as protobuf."""

from datetime import date

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date
from google.type.decimal_pb2 import Decimal
from google.type.money_pb2 import Money
from interchange.trade.v1.trade_pb2 import (
    PROCESSING_STATE_UNSPECIFIED,
    ProcessingState,
    Side,
    Trade,
)
from interchange.trade.v1.trade_service_pb2 import CreateTradeResult, TradeReceipt

from native import money
from services.common import currencies
from services.common.errors import InterchangeError
from services.trade.booking import Outcome
from services.trade.commands import TradeRow

EPOCH_DAY = date(1970, 1, 1).toordinal()


def trade(row: TradeRow, state: ProcessingState.ValueType = PROCESSING_STATE_UNSPECIFIED) -> Trade:
    """Return a stored trade as its resource."""
    quantity = money.format_decimals(np.array([row.quantity_micros]), money.QUANTITY_SCALE)
    price = money.format_decimals(np.array([row.price_e8]), money.PRICE_SCALE)
    day = date.fromordinal(EPOCH_DAY + row.day)
    return Trade(
        trade_id=row.trade_id,
        account_id=row.account_id,
        sequence=row.sequence,
        version=row.version,
        instrument_id=row.instrument_id,
        side=Side.ValueType(row.side),
        quantity=Decimal(value=quantity[0]),
        price=Decimal(value=price[0]),
        gross_amount=_amount(row.gross_minor, row.currency),
        fees=_amount(row.fee_minor, row.currency),
        trade_time=_timestamp(row.time_us),
        trade_date=Date(year=day.year, month=day.month, day=day.day),
        venue=row.venue,
        external_source=row.external_source,
        external_id=row.external_id,
        processing_state=state,
        create_time=_timestamp(row.recorded_us),
    )


def result(outcome: Outcome, state: ProcessingState.ValueType) -> CreateTradeResult:
    """Return what became of one request of a batch."""
    if isinstance(outcome, InterchangeError):
        return CreateTradeResult(error=outcome.to_status())
    return CreateTradeResult(trade=trade(outcome.row, state))


def receipt(outcome: Outcome) -> TradeReceipt:
    """Return what became of one trade of a chunk."""
    if isinstance(outcome, InterchangeError):
        return TradeReceipt(error=outcome.to_status())
    row = outcome.row
    return TradeReceipt(
        trade_id=row.trade_id, sequence=row.sequence, repeated_call=outcome.repeated
    )


def _amount(minor: int, currency: str) -> Money:
    exponent = currencies.exponent(currency)
    assert exponent is not None, f"a trade in {currency!r} was booked"
    units, nanos = money.minor_to_money(np.array([minor]), np.array([exponent], np.uint8))
    return Money(currency_code=currency, units=int(units[0]), nanos=int(nanos[0]))


def _timestamp(microseconds: int) -> Timestamp:
    stamp = Timestamp()
    stamp.FromMicroseconds(microseconds)
    return stamp
