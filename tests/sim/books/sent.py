"""What callers were told is booked: the truth that everything else must agree with.

It is made of requests as they were sent and of answers as they came, by plain
arithmetic that shares no code with the services.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

from tests.native.reference.money import half_even

EXPONENTS = {"USD": 2, "EUR": 2, "JPY": 0}
QUANTITY_DECIMALS = 6
PRICE_DECIMALS = 8

TRADES = "trade-events"
TRANSFERS = "account-events"


class Fill(NamedTuple):
    """What a trade moves: bought and paid is +, sold and received -."""

    instrument: str
    currency: str
    quantity: int
    amount: int
    fee: int

    @classmethod
    def of(
        cls, instrument: str, side: int, quantity: Decimal, price: Decimal, currency: str, fee: int
    ) -> "Fill":
        """Return the fill of a trade as it was sent; side 1 buys, 2 sells."""
        sign = 1 if side == 1 else -1
        units, exponent = scaled(quantity, QUANTITY_DECIMALS), EXPONENTS[currency]
        product = units * scaled(price, PRICE_DECIMALS)
        amount = half_even(product, 10 ** (QUANTITY_DECIMALS + PRICE_DECIMALS - exponent))
        return cls(instrument, currency, sign * units, sign * amount, fee)


def scaled(value: Decimal, decimals: int) -> int:
    """Return a decimal number times 10**decimals, which must be a whole number."""
    whole = value.scaleb(decimals)
    assert whole == whole.to_integral_value(), f"{value} has more than {decimals} decimals"
    return int(whole)


class Trade(NamedTuple):
    """A trade that was acknowledged."""

    trade_id: str
    account: str
    sequence: int
    fill: Fill


class Transfer(NamedTuple):
    """A transfer that was acknowledged; a deposit is positive."""

    transfer_id: str
    account: str
    sequence: int
    asset: str
    is_cash: bool
    amount: int
    cost_currency: str
    cost: int


class Skip(NamedTuple):
    """An event that an operator told a service to leave out."""

    service: str
    topic: str
    account: str
    sequence: int


@dataclass(slots=True)
class Sent:
    """Everything that one tenant's callers know."""

    trades: dict[str, Trade] = field(default_factory=dict)
    transfers: dict[str, Transfer] = field(default_factory=dict)
    fifo: dict[str, bool] = field(default_factory=dict)
    """Cost method of each account."""
    skipped: set[Skip] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)
    """Answers that contradict each other."""

    def booked(self, trade: Trade) -> None:
        """Take an answer; a repeated request must have the same."""
        known = self.trades.setdefault(trade.trade_id, trade)
        if known != trade:
            self.problems.append(f"answered with {known}, then with {trade}")

    def moved(self, transfer: Transfer) -> None:
        """Take an answer; a repeated request must have the same."""
        known = self.transfers.setdefault(transfer.transfer_id, transfer)
        if known != transfer:
            self.problems.append(f"answered with {known}, then with {transfer}")

    def trades_of(self, service: str) -> dict[tuple[str, int], Trade]:
        """Return the trades that a service must hold, by account and sequence."""
        return {
            (one.account, one.sequence): one
            for one in self.trades.values()
            if Skip(service, TRADES, one.account, one.sequence) not in self.skipped
        }

    def transfers_of(self, service: str) -> dict[tuple[str, int], Transfer]:
        """Return the transfers that a service must hold, by account and sequence."""
        return {
            (one.account, one.sequence): one
            for one in self.transfers.values()
            if Skip(service, TRANSFERS, one.account, one.sequence) not in self.skipped
        }

    def last(self) -> dict[str, int]:
        """Return the highest trade number of each account."""
        found: dict[str, int] = defaultdict(int)
        for one in self.trades.values():
            found[one.account] = max(found[one.account], one.sequence)
        return found
