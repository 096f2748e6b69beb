"""A second count of positions and cash, from nothing but the fills.

It shares no code with the services or their kernels: plain integers, and
fractions where something is rounded. Quantities are 1e-6 units, prices 1e-8 of
the currency, amounts minor units; bought and paid is +, sold and received -.

The average-cost rule is that of `native/lots.pyx`. A position is a quantity q,
its open cost c, signed like q, and what was realised, r. A fill (f, a) of the
other sign closes n = min(|f|, |q|): of the amount goes half_even(a * n / |f|)
to the close, of the cost half_even(c * n / |q|) leaves, and the rest of the
fill opens. r falls by both; fees touch neither.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from services.common import currencies

QUANTITY_DECIMALS = 6
PRICE_DECIMALS = 8
MONEY_DECIMALS = 9
"""Of the nanos in google.type.Money."""


class Fill(NamedTuple):
    """One trade as it counts: what it moved, signed."""

    instrument: str
    currency: str
    quantity: int
    amount: int
    fee: int


@dataclass(slots=True)
class Holding:
    """What an account holds of an instrument."""

    currency: str
    quantity: int = 0
    cost: int = 0
    realized: int = 0
    trades: int = 0

    @property
    def average_cost(self) -> int:
        """Open cost a unit in 1e-8 of the currency; 0 when flat."""
        if self.quantity == 0:
            return 0
        scale = 10 ** (PRICE_DECIMALS + QUANTITY_DECIMALS - exponent(self.currency))
        return half_even(self.cost * scale, self.quantity)

    def apply(self, fill: Fill) -> None:
        """Take one more fill."""
        quantity, amount = fill.quantity, fill.amount
        self.trades += 1
        if self.quantity * quantity < 0:
            closed = min(abs(quantity), abs(self.quantity))
            proceeds = half_even(amount * closed, abs(quantity))
            removed = half_even(self.cost * closed, abs(self.quantity))
            self.realized -= proceeds + removed
            self.cost += amount - proceeds - removed
        else:
            self.cost += amount
        self.quantity += quantity


class Recount:
    """Fills of accounts by their sequence, and what they add up to.

    The order of the file is not the order of booking when a run was broken off
    or lines were repaired later; the sequence in the receipt is.
    """

    def __init__(self) -> None:
        self.fills: dict[str, dict[int, Fill]] = {}
        self.deposits: dict[tuple[str, str], int] = {}
        self.conflicts: list[str] = []
        """Numbers of an account that were given to two different trades."""

    def add(self, account: str, sequence: int, fill: Fill) -> None:
        """Count a booked trade; a repeat of the same number counts once."""
        known = self.fills.setdefault(account, {}).setdefault(sequence, fill)
        if known is not fill and known != fill:
            self.conflicts.append(f"{account} {sequence}: {known} and {fill}")

    def deposit(self, account: str, currency: str, amount: int) -> None:
        """Count cash that came in; negative for what left."""
        key = account, currency
        self.deposits[key] = self.deposits.get(key, 0) + amount

    def trades(self) -> int:
        """Return how many trades there are."""
        return sum(map(len, self.fills.values()))

    def last(self) -> dict[str, int]:
        """Return the highest number of each account."""
        return {account: max(fills) for account, fills in self.fills.items()}

    def incomplete(self, last: dict[str, int]) -> list[str]:
        """Return the accounts of which some number up to the given one was not counted."""
        return [name for name, number in last.items() if len(self.fills.get(name, ())) < number]

    def holdings(self) -> dict[tuple[str, str], Holding]:
        """Return what each account holds of each instrument, traded in sequence."""
        found: dict[tuple[str, str], Holding] = {}
        for account, fills in self.fills.items():
            for fill in _in_order(fills):
                key = account, fill.instrument
                if key not in found:
                    found[key] = Holding(fill.currency)
                found[key].apply(fill)
        return found

    def cash(self) -> dict[tuple[str, str], int]:
        """Return the cash of each account and currency: deposits less what was paid and fees."""
        found = dict(self.deposits)
        for account, fills in self.fills.items():
            for fill in fills.values():
                key = account, fill.currency
                found[key] = found.get(key, 0) - fill.amount - fill.fee
        return found


def fill(
    instrument: str, side: int, quantity: str, price: str, currency: str, fees: str = ""
) -> Fill:
    """Return a trade, given as text, as a fill; side 1 buys, 2 sells."""
    units = scaled(quantity, QUANTITY_DECIMALS)
    amount = gross(units, scaled(price, PRICE_DECIMALS), currency)
    fee = scaled(fees, exponent(currency)) if fees else 0
    sign = 1 if side == 1 else -1
    return Fill(instrument, currency, sign * units, sign * amount, fee)


def gross(quantity: int, price: int, currency: str) -> int:
    """Return quantity times price in minor units, rounded half to even."""
    decimals = QUANTITY_DECIMALS + PRICE_DECIMALS - exponent(currency)
    return half_even(quantity * price, 10**decimals)


def half_even(numerator: int, denominator: int) -> int:
    """Divide and round to the nearest, ties to even."""
    whole, rest = divmod(numerator, denominator)
    return whole if rest == 0 else round(Fraction(numerator, denominator))


@lru_cache(maxsize=1 << 16)
def scaled(text: str, decimals: int) -> int:
    """Return a decimal number times 10**decimals; ValueError when that is no integer."""
    whole, _, part = text.partition(".")
    part = part.rstrip("0")
    if len(part) > decimals:
        raise ValueError(f"{text} has more than {decimals} decimals")
    sign = -1 if whole.startswith("-") else 1
    unit: int = 10**decimals
    return int(whole or "0") * unit + sign * int(part.ljust(decimals, "0") or "0")


def text(value: int, decimals: int) -> str:
    """Return a scaled integer as a number with groups of three digits."""
    whole, part = divmod(abs(value), 10**decimals)
    shown = f"{'-' if value < 0 else ''}{whole:,}"
    return f"{shown}.{part:0{decimals}d}" if decimals else shown


def exponent(currency: str) -> int:
    """Return the decimals of a currency's minor unit; ValueError when it is no currency."""
    found = currencies.exponent(currency)
    if found is None:
        raise ValueError(f"{currency!r} is no currency of ISO 4217")
    return found


def _in_order(fills: dict[int, Fill]) -> Iterable[Fill]:
    return (fills[number] for number in sorted(fills))
