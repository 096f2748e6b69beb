"""What a simulated tenant trades: a few accounts, a few instruments, random orders."""

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp
from google.type.money_pb2 import Money
from interchange.account.v1 import account_pb2
from interchange.account.v1.account_events_pb2 import TransferRecorded
from interchange.account.v1.account_service_pb2 import CreateTransferRequest
from interchange.instrument.v1 import instrument_pb2
from interchange.trade.v1.trade_events_pb2 import TradeBooked
from interchange.trade.v1.trade_service_pb2 import CreateTradeRequest

from services.common.events import Event
from tests.sim.books.desk import decimal
from tests.sim.books.sent import EXPONENTS, QUANTITY_DECIMALS, Fill, scaled
from tests.sim.chance import Chance

FIFO = {"AVG-1": False, "AVG-2": False, "LOTS-1": True, "LOTS-2": True}


class Listing(NamedTuple):
    currency: str
    mic: str
    lot: Decimal
    tick: Decimal
    price: int
    """Around which it trades, in ticks."""


LISTINGS = {
    "AIG": Listing("USD", "XNYS", Decimal("1"), Decimal("0.01"), 4_918),
    "SAP": Listing("EUR", "XETR", Decimal("1"), Decimal("0.0001"), 1_200_000),
    "TM": Listing("JPY", "XTKS", Decimal("100"), Decimal("0.5"), 5_001),
    "FUND": Listing("USD", "XNYS", Decimal("0.000001"), Decimal("0.00000001"), 1_234_567_891),
}

SKIPPABLE = (TradeBooked.DESCRIPTOR.full_name, TransferRecorded.DESCRIPTOR.full_name)
FLAWS = ("tick", "currency", "side", "quantity", "account", "instrument", "key", "negative fee")


@dataclass(slots=True)
class Order:
    """A trade to be booked, and what came of it."""

    request: CreateTradeRequest
    fill: Fill | None
    """None for one that must be refused."""
    answer: tuple[str, int] | None = None
    """Trade id and sequence."""


@dataclass(slots=True)
class Move:
    """A transfer to be recorded, and what came of it."""

    request: CreateTransferRequest
    asset: str
    is_cash: bool
    amount: int
    cost_currency: str
    cost: int
    is_good: bool
    answer: tuple[str, int] | None = None


def instrument(name: str, version: int, status: int) -> instrument_pb2.Instrument:
    """Return a version of an instrument."""
    listing = LISTINGS[name]
    return instrument_pb2.Instrument(
        instrument_id=name,
        status=status,  # type: ignore[arg-type]
        currency=listing.currency,
        lot_size=decimal(str(listing.lot)),
        tick_size=decimal(f"{listing.tick:f}"),
        mic=listing.mic,
        version=version,
    )


def order(chance: Chance, number: int, account: str = "") -> Order:
    """Draw a trade that can be booked."""
    account, name = account or chance.pick(list(FIFO)), chance.pick(list(LISTINGS))
    listing = LISTINGS[name]
    lots = chance.between(1, 40) if listing.lot >= 1 else chance.between(1, 40_000_000)
    quantity = listing.lot * lots
    price = listing.tick * chance.between(listing.price * 9 // 10, listing.price * 11 // 10)
    side = chance.between(1, 2)
    exponent = EXPONENTS[listing.currency]
    fee = chance.pick((0, 0, chance.between(1, 999)))
    request = CreateTradeRequest(
        account_id=account,
        instrument_id=name,
        side=side,  # type: ignore[arg-type]
        quantity=decimal(f"{quantity:f}"),
        price=decimal(f"{price:f}"),
        currency=listing.currency,
        venue=listing.mic,
    )
    if fee:
        units, rest = divmod(fee, 10**exponent)
        nanos = rest * 10 ** (9 - exponent)
        request.fees.CopyFrom(Money(currency_code=listing.currency, units=units, nanos=nanos))
    if chance.happens(0.3):
        # Of another year: a late blotter.
        request.trade_time.CopyFrom(Timestamp(seconds=1_380_000_000 + 7_777 * number))
    keys = chance.pick(("request", "external", "both"))
    if keys != "external":
        request.request_id = f"r{number}"
    if keys != "request":
        request.external_source, request.external_id = "blotter", f"x{number}"
    fill = Fill.of(name, side, quantity, price, listing.currency, fee)
    # What rounds to nothing is refused.
    return Order(request, fill if fill.amount else None)


def flawed(chance: Chance, number: int, booked: list[Order]) -> Order:
    """Draw a trade that must be refused."""
    bad = order(chance, number)
    bad.fill = None
    request, flaw = bad.request, chance.pick(FLAWS)
    if flaw == "key" and booked:
        known = chance.pick(booked).request
        request.request_id, request.external_id = known.request_id, known.external_id
        request.external_source = known.external_source
        request.venue = "XXXX"
    elif flaw == "currency":
        request.currency = "CHF"
    elif flaw == "side":
        request.side = 0  # type: ignore[assignment]
    elif flaw == "quantity":
        request.quantity.value = "0"
    elif flaw == "account":
        request.account_id = "NOBODY"
    elif flaw == "instrument":
        request.instrument_id = "NOTHING"
    elif flaw == "negative fee":
        request.fees.CopyFrom(Money(currency_code=request.currency, units=-1))
    else:
        request.price.value = "1.000000001"
    return bad


def move(chance: Chance, number: int, account: str = "") -> Move:
    """Draw a transfer of cash or of securities."""
    account, withdrawal = account or chance.pick(list(FIFO)), chance.happens(0.4)
    request = CreateTransferRequest(account_id=account, request_id=f"m{number}")
    transfer = request.transfer
    transfer.direction = (
        account_pb2.TRANSFER_DIRECTION_WITHDRAWAL
        if withdrawal
        else account_pb2.TRANSFER_DIRECTION_DEPOSIT
    )
    sign = -1 if withdrawal else 1
    if chance.happens(0.5):
        currency = chance.pick(list(EXPONENTS))
        units = chance.between(1, 100_000)
        transfer.cash.CopyFrom(Money(currency_code=currency, units=units))
        amount = units * 10 ** EXPONENTS[currency]
        return Move(request, currency, True, sign * amount, "", 0, True)
    name = chance.pick(list(LISTINGS))
    listing = LISTINGS[name]
    quantity = Decimal(chance.between(1, 5_000)).scaleb(chance.pick((0, -3, -6)))
    transfer.security.instrument_id = name
    transfer.security.quantity.CopyFrom(decimal(f"{quantity:f}"))
    amount, currency, cost = sign * scaled(quantity, QUANTITY_DECIMALS), "", 0
    if not withdrawal and chance.happens(0.7):
        currency, units = listing.currency, chance.between(0, 9_999)
        cost = units * 10 ** EXPONENTS[currency]
        transfer.security.cost.CopyFrom(Money(currency_code=currency, units=units))
    return Move(request, name, False, amount, currency, cost, True)


def mangled(event: Event, chance: Chance) -> Event | None:
    """Return an event as no service can apply it: not protobuf, or without sense.

    Copies of accounts and instruments can't be skipped: nothing could be booked.
    """
    if event.type not in SKIPPABLE:
        return None
    if event.type == TradeBooked.DESCRIPTOR.full_name and chance.happens(0.5):
        trade = TradeBooked.FromString(event.payload)
        trade.side = 0  # type: ignore[assignment]
        return replace(event, payload=trade.SerializeToString())
    return replace(event, payload=b"\xff\xff\xff")


def flawed_move(chance: Chance, number: int) -> Move:
    """Draw a transfer that must be refused."""
    bad = move(chance, number)
    bad.is_good = False
    flaw = chance.pick(("account", "direction", "asset"))
    if flaw == "account":
        bad.request.account_id = "NOBODY"
    elif flaw == "direction":
        bad.request.transfer.direction = 0  # type: ignore[assignment]
    else:
        bad.request.transfer.ClearField("asset")
    return bad
