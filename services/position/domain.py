"""Positions out of fills: the rules, over columns.

A batch of n fills touches k accounts and m positions. Fills name both by index;
what is known of accounts and positions is columns too, in that order.
"""

from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from native import lots as kernels
from services.position.lots import Flags, Int64s, Lots, UInt8s

T = TypeVar("T", np.int64, np.uint8)


class Unappliable(Exception):
    """A fill that its position cannot take: its event is parked."""


@dataclass(frozen=True, slots=True)
class Accounts:
    """State of k accounts before the batch."""

    fifo: Flags
    """Cost method: first in, first out, or average."""
    sequence: Int64s
    """Number of the last change."""
    event_sequence: Int64s
    """Number of the last of the account's position-events."""
    trade_sequence: Int64s
    """Number of the last applied trade."""

    def first(self, count: int) -> "Accounts":
        """Return the first `count` accounts."""
        return Accounts(
            self.fifo[:count],
            self.sequence[:count],
            self.event_sequence[:count],
            self.trade_sequence[:count],
        )


@dataclass(frozen=True, slots=True)
class Positions:
    """State of m positions."""

    currency: list[str]
    """Of cost and profit; empty until an event names one."""
    quantity: Int64s
    cost: Int64s
    realized: Int64s
    version: Int64s
    """Number of changes; 0 for a position that did not exist."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What n fills did, one change each; `quantity` and so on are those after it."""

    sequence: Int64s
    version: Int64s
    amount: Int64s
    """Paid +, received -; what a transfer moved at carried cost."""
    quantity: Int64s
    cost: Int64s
    realized: Int64s


@dataclass(frozen=True, slots=True)
class Folded:
    """The changes of a batch and the state after it."""

    changes: Changes
    positions: Positions
    lots: Lots
    last: Int64s
    """Index of the last fill of each position."""


class FillColumns(Protocol):
    """What the fold needs to know of n fills, each in the order of its account."""

    @property
    def account(self) -> Int64s:
        """Index of the account."""

    @property
    def position(self) -> Int64s:
        """Index of the position."""

    @property
    def quantity(self) -> Int64s:
        """Signed quantity in 1e-6 units, bought or deposited +."""

    @property
    def amount(self) -> Int64s:
        """Signed amount in minor units, with the sign of the quantity."""

    @property
    def transfer(self) -> UInt8s:
        """1 where securities moved without a sale."""

    @property
    def currency(self) -> list[str]:
        """Currency of the amount; empty where the event names none."""

    def describe(self, index: int) -> str:
        """Name the event of a fill."""


def fold(fills: FillColumns, accounts: Accounts, before: Positions, lots: Lots) -> Folded:
    """Apply fills in order; raise Unappliable, with nothing changed, when one cannot be."""
    n, m = len(fills.quantity), len(before.quantity)
    currency = _currencies(fills, before)
    sequence = accounts.sequence[fills.account] + 1 + rank(fills.account)
    version = before.version[fills.position] + 1 + rank(fills.position)
    fifo = accounts.fifo[fills.account]
    if fifo.any():
        applied, lots = _both(fills, fifo, sequence, before, lots)
    else:
        applied = _average(fills, np.arange(n), before)
    wrong = np.flatnonzero(applied.status)
    if len(wrong):
        raise Unappliable(_reason(fills, int(wrong[0]), int(applied.status[wrong[0]])))
    last = np.zeros(m, np.int64)
    last[fills.position] = np.arange(n)
    changes = Changes(
        sequence,
        version,
        applied.effective_amount,
        applied.after_quantity,
        applied.after_cost,
        applied.after_realized,
    )
    after = Positions(currency, applied.quantity, applied.cost, applied.realized, version[last])
    return Folded(changes, after, lots, last)


def rank(group: Int64s) -> Int64s:
    """Return the number, from 0, of each row among the rows of its group, in order."""
    order = np.argsort(group, kind="stable")
    ordered = group[order]
    first = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    sizes = np.diff(np.concatenate([first, [len(group)]]))
    ranks = np.empty(len(group), np.int64)
    ranks[order] = np.arange(len(group)) - np.repeat(first, sizes)
    return ranks


def _average(fills: FillColumns, rows: Int64s, before: Positions) -> kernels.Applied:
    return kernels.apply_average(
        fills.position[rows],
        fills.quantity[rows],
        fills.amount[rows],
        fills.transfer[rows],
        before.quantity,
        before.cost,
        before.realized,
    )


def _both(
    fills: FillColumns, fifo: Flags, sequence: Int64s, before: Positions, lots: Lots
) -> tuple[kernels.Applied, Lots]:
    """Apply the fills of accounts of either method, and put the results together."""
    rows, queued = np.flatnonzero(~fifo), np.flatnonzero(fifo)
    one = _average(fills, rows, before)
    other = kernels.apply_fifo(
        fills.position[queued],
        fills.quantity[queued],
        fills.amount[queued],
        fills.transfer[queued],
        sequence[queued],
        lots.offsets,
        lots.quantity,
        lots.cost,
        lots.opened,
        before.realized,
    )
    by_lots = np.zeros(len(before.quantity), np.bool_)
    by_lots[fills.position] = fifo
    order = np.argsort(np.concatenate([rows, queued]))

    def joined(first: NDArray[T], second: NDArray[T]) -> NDArray[T]:
        return np.concatenate([first, second])[order]

    applied = kernels.Applied(
        joined(one.after_quantity, other.after_quantity),
        joined(one.after_cost, other.after_cost),
        joined(one.after_realized, other.after_realized),
        joined(one.effective_amount, other.effective_amount),
        joined(one.status, other.status),
        np.where(by_lots, other.quantity, one.quantity),
        np.where(by_lots, other.cost, one.cost),
        np.where(by_lots, other.realized, one.realized),
    )
    left = Lots(other.lot_offsets, other.lot_quantity, other.lot_cost, other.lot_opened)
    return applied, left


def _currencies(fills: FillColumns, before: Positions) -> list[str]:
    """Return the currency of each position; costs in two of them cannot be added."""
    currency = list(before.currency)
    for index, (at, named) in enumerate(zip(fills.position.tolist(), fills.currency, strict=True)):
        if currency[at] != named and named:
            if currency[at]:
                raise Unappliable(
                    f"{fills.describe(index)}: currency was {named}, expected {currency[at]}"
                )
            currency[at] = named
    return currency


def _reason(fills: FillColumns, index: int, status: int) -> str:
    what = "its quantity was 0" if status == kernels.INVALID else "a result exceeds 64 bits"
    return f"{fills.describe(index)}: {what}"
