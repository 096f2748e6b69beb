"""native.lots, in Python that can be read against its specification."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.native.reference.money import fits, half_even

OK, INVALID, OVERFLOW = range(3)

# Quantity, cost, and the fill that opened it.
Lot = tuple[int, int, int]


@dataclass(slots=True)
class Position:
    """Quantity, open cost signed like it, and what was realized."""

    quantity: int = 0
    cost: int = 0
    realized: int = 0
    lots: deque[Lot] = field(default_factory=deque)


class Result(NamedTuple):
    """What one fill left behind."""

    quantity: int
    cost: int
    realized: int
    effective: int
    status: int


def average_cost(position: Position, closed: int) -> int:
    """Return the cost that `closed` of the position's units take with them."""
    if closed == 0:
        return 0
    if closed == abs(position.quantity):
        return position.cost
    return half_even(position.cost * closed, abs(position.quantity))


def oldest_cost(position: Position, closed: int) -> tuple[int, int, Lot | None]:
    """Return the cost of the `closed` oldest units, the lots used, what stays of the last."""
    removed = used = 0
    for quantity, cost, opened in position.lots:
        if closed == 0:
            break
        used += 1
        if closed < abs(quantity):
            gone = half_even(cost * closed, abs(quantity))
            left = quantity - closed if quantity > 0 else quantity + closed
            return removed + gone, used, (left, cost - gone, opened)
        closed -= abs(quantity)
        removed += cost
    return removed, used, None


def apply_fill(
    position: Position, quantity: int, amount: int, transfer: int, opened: int | None
) -> Result:
    """Apply one fill, by FIFO when `opened` names the lot it may open."""
    before = (position.quantity, position.cost, position.realized)
    if quantity == 0:
        return Result(*before, 0, INVALID)
    opposite = position.quantity * quantity < 0
    closed = min(abs(quantity), abs(position.quantity)) if opposite else 0
    a_close = amount if closed == abs(quantity) else half_even(amount * closed, abs(quantity))
    a_open = amount - a_close
    used, rest = 0, None
    if opened is None:
        removed = average_cost(position, closed)
    else:
        removed, used, rest = oldest_cost(position, closed)
    if transfer:
        a_close = -removed
    after = (
        position.quantity + quantity,
        position.cost + a_open - removed,
        position.realized - (a_close + removed),
    )
    effective = a_open + a_close
    if not all(map(fits, (*after, effective))):
        return Result(*before, 0, OVERFLOW)
    position.quantity, position.cost, position.realized = after
    for _ in range(used):
        position.lots.popleft()
    if rest is not None:
        position.lots.appendleft(rest)
    left = quantity - closed if quantity > 0 else quantity + closed
    if left and opened is not None:
        position.lots.append((left, a_open, opened))
    return Result(*after, effective, OK)


def apply_average(
    position: Sequence[int],
    quantity: Sequence[int],
    amount: Sequence[int],
    transfer: Sequence[int],
    state_quantity: Sequence[int],
    state_cost: Sequence[int],
    state_realized: Sequence[int],
) -> tuple[list[int], ...]:
    """Return native.lots.Applied's columns as lists."""
    states = zip(state_quantity, state_cost, state_realized, strict=True)
    positions = [Position(*state) for state in states]
    fills = zip(position, quantity, amount, transfer, strict=True)
    results = [apply_fill(positions[p], q, a, t, None) for p, q, a, t in fills]
    return columns(results, positions)


def apply_fifo(
    position: Sequence[int],
    quantity: Sequence[int],
    amount: Sequence[int],
    transfer: Sequence[int],
    fill_id: Sequence[int],
    lot_offsets: Sequence[int],
    lot_quantity: Sequence[int],
    lot_cost: Sequence[int],
    lot_opened: Sequence[int],
    state_realized: Sequence[int],
) -> tuple[list[int], ...]:
    """Return native.lots.AppliedLots's columns as lists."""
    every = list(zip(lot_quantity, lot_cost, lot_opened, strict=True))
    positions = []
    for at, realized in enumerate(state_realized):
        lots = deque(every[lot_offsets[at] : lot_offsets[at + 1]])
        held, cost = sum(lot[0] for lot in lots), sum(lot[1] for lot in lots)
        positions.append(Position(held, cost, realized, lots))
    fills = zip(position, quantity, amount, transfer, fill_id, strict=True)
    results = [apply_fill(positions[p], q, a, t, f) for p, q, a, t, f in fills]
    offsets = [0]
    for state in positions:
        offsets.append(offsets[-1] + len(state.lots))
    left = [lot for state in positions for lot in state.lots]
    rows = ([lot[i] for lot in left] for i in range(3))
    return (*columns(results, positions), offsets, *rows)


def columns(results: list[Result], positions: list[Position]) -> tuple[list[int], ...]:
    """Turn results and final positions into the eight columns of Applied."""
    return (
        *([result[i] for result in results] for i in range(5)),
        [state.quantity for state in positions],
        [state.cost for state in positions],
        [state.realized for state in positions],
    )
