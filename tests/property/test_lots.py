from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from native import lots
from tests.native import arrays
from tests.native.arrays import Fills, Lots, i64, lists, quick

POSITIONS = 3
# Large enough to round and to cross zero, too small to overflow in a batch.
moderate = st.integers(-(10**16), 10**16)
any_fills = st.one_of(arrays.fills(POSITIONS), arrays.fills(POSITIONS, arrays.small))
trades = arrays.fills(POSITIONS, moderate, st.just(0))
FLAT = [i64([0] * POSITIONS)] * 3
NO_LOTS = i64([0] * (POSITIONS + 1)), i64([]), i64([]), i64([])


def average(fills: Fills, state: Any = FLAT) -> lots.Applied:
    return lots.apply_average(*fills.arrays(), *state)


def fifo(
    fills: Fills, book: Any = NO_LOTS, realized: Any = FLAT[0], first: int = 0
) -> lots.AppliedLots:
    ids = i64(range(first, first + len(fills.position)))
    return lots.apply_fifo(*fills.arrays(), ids, *book, realized)


def effective_sums(fills: Fills, applied: lots.Applied | lots.AppliedLots) -> list[int]:
    sums = [0] * POSITIONS
    for at, amount in zip(fills.position, applied.effective_amount.tolist(), strict=True):
        sums[at] += amount
    return sums


@quick
@given(any_fills)
def test_realized_less_cost_is_minus_the_sum_of_amounts(fills: Fills) -> None:
    for applied in (average(fills), fifo(fills)):
        pairs = zip(applied.realized.tolist(), applied.cost.tolist(), strict=True)
        assert [r - c for r, c in pairs] == [-total for total in effective_sums(fills, applied)]


@quick
@given(any_fills)
def test_a_trade_is_effective_in_full_or_not_at_all(fills: Fills) -> None:
    for applied in (average(fills), fifo(fills)):
        for at, transfer in enumerate(fills.transfer):
            taken = fills.amount[at] if applied.status[at] == lots.OK else 0
            assert transfer or applied.effective_amount[at] == taken


@quick
@given(any_fills)
def test_a_flat_position_has_no_cost(fills: Fills) -> None:
    for applied in (average(fills), fifo(fills)):
        assert not applied.after_cost[applied.after_quantity == 0].any()


@quick
@given(any_fills)
def test_quantity_is_the_sum_of_the_fills_that_applied(fills: Fills) -> None:
    for applied in (average(fills), fifo(fills)):
        sums = [0] * POSITIONS
        for at, quantity, status in zip(
            fills.position, fills.quantity, applied.status, strict=True
        ):
            sums[at] += quantity if status == lots.OK else 0
        assert applied.quantity.tolist() == sums


@quick
@given(any_fills, st.integers(0, 30))
def test_two_chunks_equal_one_by_average(fills: Fills, cut: int) -> None:
    whole = average(fills)
    before = average(Fills(*(column[:cut] for column in fills)))
    after = average(Fills(*(column[cut:] for column in fills)), before[5:])
    assert lists(after[5:]) == lists(whole[5:])
    for one, other, both in zip(before[:5], after[:5], whole[:5], strict=True):
        assert np.concatenate([one, other]).tolist() == both.tolist()


@quick
@given(any_fills, st.integers(0, 30))
def test_two_chunks_equal_one_by_fifo(fills: Fills, cut: int) -> None:
    whole = fifo(fills)
    before = fifo(Fills(*(column[:cut] for column in fills)))
    rest = Fills(*(column[cut:] for column in fills))
    after = fifo(rest, before[8:], before.realized, len(before.status))
    assert lists(after[5:]) == lists(whole[5:])
    for one, other, both in zip(before[:5], after[:5], whole[:5], strict=True):
        assert np.concatenate([one, other]).tolist() == both.tolist()


@quick
@given(any_fills, arrays.lots(POSITIONS))
def test_open_lots_sum_to_the_position_and_have_its_sign(fills: Fills, book: Lots) -> None:
    applied = fifo(fills, tuple(map(i64, book[:4])), i64(book.realized))
    offsets = applied.lot_offsets.tolist()
    for at in range(POSITIONS):
        own = slice(offsets[at], offsets[at + 1])
        quantities = applied.lot_quantity[own].tolist()
        assert sum(quantities) == applied.quantity[at]
        assert sum(applied.lot_cost[own].tolist()) == applied.cost[at]
        assert all(quantity * int(applied.quantity[at]) > 0 for quantity in quantities)


@quick
@given(trades, arrays.lots(POSITIONS))
def test_open_lots_stay_in_the_order_they_opened(fills: Fills, book: Lots) -> None:
    aged = book._replace(opened=list(range(len(book.opened))))
    applied = fifo(fills, tuple(map(i64, aged[:4])), i64(book.realized), first=10**6)
    for start, end in zip(applied.lot_offsets[:-1], applied.lot_offsets[1:], strict=True):
        assert (np.diff(applied.lot_opened[start:end]) > 0).all()


@quick
@given(trades)
def test_average_and_fifo_agree_once_flat(fills: Fills) -> None:
    by_average, by_fifo = average(fills), fifo(fills)
    assert by_average.after_quantity.tolist() == by_fifo.after_quantity.tolist()
    flat = by_average.after_quantity == 0
    assert by_average.after_realized[flat].tolist() == by_fifo.after_realized[flat].tolist()


@quick
@given(arrays.fills(POSITIONS, moderate, st.just(1)))
def test_transfers_alone_realize_nothing(fills: Fills) -> None:
    for applied in (average(fills), fifo(fills)):
        assert not applied.after_realized.any()


@quick
@given(trades)
def test_the_opposite_fills_give_the_opposite_position_and_the_opposite_result(
    fills: Fills,
) -> None:
    opposite = fills._replace(
        quantity=[-quantity for quantity in fills.quantity], amount=[-a for a in fills.amount]
    )
    for apply in (average, fifo):
        one, other = apply(fills), apply(opposite)
        for left, right in zip(one[:4], other[:4], strict=True):
            assert left.tolist() == (-right).tolist()
