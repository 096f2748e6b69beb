"""Commands of the trade service, as columns: row i of each list is request i."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

from interchange.trade.v1.trade_service_pb2 import CreateTradeRequest

HASH_BYTES = 16


@dataclass(slots=True)
class CreateTrades:
    """Trades to book, as they came: nothing is checked yet."""

    request_ids: list[str]
    account_ids: list[str]
    instrument_ids: list[str]
    sides: list[int]
    quantities: list[str]
    prices: list[str]
    currencies: list[str]
    fee_currencies: list[str]
    """Empty where no fees are given."""
    fee_units: list[int]
    fee_nanos: list[int]
    time_seconds: list[int | None]
    """None where no trade time is given."""
    time_nanos: list[int]
    venues: list[str]
    sources: list[str]
    external_ids: list[str]
    wait_fors: list[int]
    hashes: list[bytes]
    """Of the body without its request_id: what a repeat must match."""

    def __len__(self) -> int:
        return len(self.hashes)

    def chosen(self, rows: Sequence[int]) -> "CreateTrades":
        """Return some of the commands, in the given order."""
        return CreateTrades(
            *([getattr(self, name)[row] for row in rows] for name in CreateTrades.__slots__)
        )


class TradeRow(NamedTuple):
    """A booked trade, as stored: integers, so that batches of them cost little."""

    trade_id: str
    version: int
    account_id: str
    sequence: int
    instrument_id: str
    side: int
    quantity_micros: int
    price_e8: int
    currency: str
    gross_minor: int
    fee_minor: int
    time_us: int
    """When the market made it, microseconds since 1970-01-01 UTC."""
    day: int
    """Trade date in days since 1970-01-01."""
    venue: str
    external_source: str
    external_id: str
    recorded_us: int
    """When it was booked, microseconds since 1970-01-01 UTC."""


class Booked(NamedTuple):
    """Outcome of a command that is booked, now or by an earlier call."""

    row: TradeRow
    repeated: bool


def columns(requests: Sequence[CreateTradeRequest]) -> CreateTrades:
    """Turn requests into columns; takes their request_id and wait_for away.

    One pass a field: attribute access on messages is what the time goes into.
    """
    request_ids = [request.request_id for request in requests]
    wait_fors: list[int] = [request.wait_for for request in requests]
    for request in requests:
        request.ClearField("request_id")
        request.ClearField("wait_for")
    fees = [request.fees if request.HasField("fees") else None for request in requests]
    times = [request.trade_time if request.HasField("trade_time") else None for request in requests]
    return CreateTrades(
        request_ids=request_ids,
        account_ids=[request.account_id for request in requests],
        instrument_ids=[request.instrument_id for request in requests],
        sides=[request.side for request in requests],
        quantities=[request.quantity.value for request in requests],
        prices=[request.price.value for request in requests],
        currencies=[request.currency for request in requests],
        fee_currencies=[fee.currency_code or "?" if fee is not None else "" for fee in fees],
        fee_units=[fee.units if fee is not None else 0 for fee in fees],
        fee_nanos=[fee.nanos if fee is not None else 0 for fee in fees],
        time_seconds=[time.seconds if time is not None else None for time in times],
        time_nanos=[time.nanos if time is not None else 0 for time in times],
        venues=[request.venue for request in requests],
        sources=[request.external_source for request in requests],
        external_ids=[request.external_id for request in requests],
        wait_fors=wait_fors,
        hashes=[
            blake2b(request.SerializeToString(deterministic=True), digest_size=HASH_BYTES).digest()
            for request in requests
        ],
    )


def merged(parts: Sequence[CreateTrades]) -> CreateTrades:
    """Put commands one after the other."""
    if len(parts) == 1:
        return parts[0]
    return CreateTrades(
        *(
            [value for part in parts for value in getattr(part, name)]
            for name in CreateTrades.__slots__
        )
    )
