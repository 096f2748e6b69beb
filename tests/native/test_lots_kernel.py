from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from native import lots
from tests.native import arrays
from tests.native.arrays import (
    INT64_MAX,
    INT64_MIN,
    Fills,
    Lots,
    few,
    i64,
    int64s,
    lists,
    quick,
    seeds,
    small,
    u8,
)
from tests.native.reference import lots as twin

POSITIONS = 3
NO_LOTS = (i64([0, 0]), i64([]), i64([]), i64([]))
states = st.lists(st.tuples(int64s, int64s, int64s), min_size=POSITIONS, max_size=POSITIONS)


def average(
    rows: list[tuple[int, int]], transfer: int = 0, state: tuple[int, ...] = (0, 0, 0)
) -> lots.Applied:
    """Apply (quantity, amount) rows to one position by average cost."""
    n = len(rows)
    quantity, amount = i64([row[0] for row in rows]), i64([row[1] for row in rows])
    return lots.apply_average(
        i64([0] * n), quantity, amount, u8([transfer] * n), *(i64([s]) for s in state)
    )


def fifo(rows: list[tuple[int, int]], transfer: int = 0) -> lots.AppliedLots:
    """Apply (quantity, amount) rows to one flat position by FIFO, ids from 1."""
    n = len(rows)
    quantity, amount = i64([row[0] for row in rows]), i64([row[1] for row in rows])
    ids = i64(range(1, n + 1))
    return lots.apply_fifo(
        i64([0] * n), quantity, amount, u8([transfer] * n), ids, *NO_LOTS, i64([0])
    )


def last(applied: lots.Applied | lots.AppliedLots) -> tuple[int, ...]:
    """Return the final (quantity, cost, realized) of the one position."""
    return tuple(int(column[0]) for column in (applied.quantity, applied.cost, applied.realized))


def test_average_given_two_buys_and_a_partial_sell_then_realizes_at_the_average() -> None:
    applied = average([(10, 100), (10, 200), (-5, -100)])
    assert applied.after_quantity.tolist() == [10, 20, 15]
    assert applied.after_cost.tolist() == [100, 300, 225]
    assert applied.after_realized.tolist() == [0, 0, 25]


def test_fifo_given_two_buys_and_a_sell_then_realizes_the_oldest_lot_first() -> None:
    applied = fifo([(10, 100), (10, 200), (-15, -300)])
    assert last(applied) == (5, 100, 100)
    assert (applied.lot_quantity.tolist(), applied.lot_cost.tolist()) == ([5], [100])
    assert applied.lot_opened.tolist() == [2]


@pytest.mark.parametrize("apply", [average, fifo])
def test_sell_given_more_than_held_then_closes_and_opens_short(apply: Any) -> None:
    assert last(apply([(10, 100), (-30, -600)])) == (-20, -400, 100)


@pytest.mark.parametrize("apply", [average, fifo])
def test_buy_given_a_short_then_realizes_what_was_received_less_paid(apply: Any) -> None:
    assert last(apply([(-10, -100), (10, 70)])) == (0, 0, 30)


@pytest.mark.parametrize("apply", [average, fifo])
def test_close_given_ties_then_rounds_once_to_even_and_loses_nothing(apply: Any) -> None:
    # 5 of cost over 2 units: 2.5 leaves as 2, the last unit takes the rest.
    applied = apply([(2, 5), (-1, 0), (-1, 0)])
    assert applied.after_cost.tolist() == [5, 3, 0]
    assert applied.after_realized.tolist() == [0, -2, -5]


@pytest.mark.parametrize("apply", [average, fifo])
def test_transfer_out_given_a_position_then_leaves_at_cost_and_realizes_nothing(apply: Any) -> None:
    applied = apply([(10, 100), (-4, -999)], transfer=1)
    assert last(applied) == (6, 60, 0)
    assert applied.effective_amount.tolist() == [100, -40]


@pytest.mark.parametrize("apply", [average, fifo])
def test_fill_given_zero_quantity_then_invalid_and_nothing_changes(apply: Any) -> None:
    applied = apply([(10, 100), (0, 7), (1, 10)])
    assert applied.status.tolist() == [lots.OK, lots.INVALID, lots.OK]
    assert applied.effective_amount.tolist() == [100, 0, 10]
    assert last(applied) == (11, 110, 0)


@pytest.mark.parametrize("apply", [average, fifo])
def test_fill_given_an_overflow_then_the_next_goes_on_from_before(apply: Any) -> None:
    applied = apply([(INT64_MAX, 1), (1, 1), (-INT64_MAX, -5)])
    assert applied.status.tolist() == [lots.OK, lots.OVERFLOW, lots.OK]
    assert last(applied) == (0, 0, 4)


def test_average_given_realized_at_its_limit_then_overflow_and_cost_stays() -> None:
    applied = average([(-1, -2)], state=(1, 1, INT64_MAX))
    assert applied.status.tolist() == [lots.OVERFLOW]
    assert last(applied) == (1, 1, INT64_MAX)


def test_fifo_given_an_overflowing_partial_close_then_the_lots_stay_whole() -> None:
    applied = lots.apply_fifo(
        i64([0, 0]), i64([-3, -3]), i64([-9, 0]), u8([0, 0]), i64([8, 9]),
        i64([0, 2]), i64([2, 2]), i64([4, 4]), i64([1, 2]), i64([INT64_MAX]),
    )  # fmt: skip
    assert applied.status.tolist() == [lots.OVERFLOW, lots.OK]
    assert (applied.lot_quantity.tolist(), applied.lot_cost.tolist()) == ([1], [2])


@pytest.mark.parametrize("apply", [average, fifo])
def test_position_given_int64_min_then_closed_exactly_in_two_fills(apply: Any) -> None:
    applied = apply([(INT64_MIN, INT64_MIN), (INT64_MAX, INT64_MAX), (1, 1)])
    assert applied.status.tolist() == [lots.OK] * 3
    assert last(applied) == (0, 0, 0)


@quick
@given(arrays.fills(POSITIONS), states)
def test_average_given_any_fills_then_kernel_and_twin_agree(
    fills: Fills, state: list[tuple[int, ...]]
) -> None:
    columns = [[row[i] for row in state] for i in range(3)]
    applied = lots.apply_average(*fills.arrays(), *map(i64, columns))
    assert lists(applied) == twin.apply_average(*fills, *columns)


@quick
@given(arrays.fills(POSITIONS, small), arrays.lots(POSITIONS))
def test_fifo_given_small_fills_then_kernel_and_twin_agree(fills: Fills, book: Lots) -> None:
    expect_fifo_agrees(fills, book)


@quick
@given(arrays.fills(POSITIONS), arrays.lots(POSITIONS))
def test_fifo_given_any_fills_then_kernel_and_twin_agree(fills: Fills, book: Lots) -> None:
    expect_fifo_agrees(fills, book)


def expect_fifo_agrees(fills: Fills, book: Lots) -> None:
    ids = list(range(100, 100 + len(fills.position)))
    applied = lots.apply_fifo(*fills.arrays(), i64(ids), *map(i64, book))
    assert lists(applied) == twin.apply_fifo(*fills, ids, *book)


@few
@given(seeds)
def test_kernels_given_a_large_batch_then_kernel_and_twin_agree(seed: int) -> None:
    random = np.random.default_rng(seed)
    n, m = int(random.integers(50_000, 100_001)), int(random.integers(1, 2_000))
    position, amount = random.integers(0, m, n), random.integers(-(10**12), 10**12, n)
    quantity = random.integers(-(10**9), 10**9, n)
    transfer = (random.random(n) < 0.05).astype(np.uint8)
    fills = Fills(*lists((position, quantity, amount, transfer)))
    zeros = [0] * m
    applied = lots.apply_average(*fills.arrays(), *[i64(zeros)] * 3)
    assert lists(applied) == twin.apply_average(*fills, zeros, zeros, zeros)
    expect_fifo_agrees(fills, Lots([0] * (m + 1), [], [], [], zeros))


def test_kernels_given_inputs_then_they_are_not_modified() -> None:
    state = np.array([5], np.int64), np.array([50], np.int64), np.array([0], np.int64)
    lots.apply_average(i64([0]), i64([-5]), i64([-60]), u8([0]), *state)
    assert lists(state) == ([5], [50], [0])


def test_kernels_given_no_fills_then_states_as_they_were() -> None:
    none = i64([]), i64([]), i64([]), u8([])
    assert last(lots.apply_average(*none, i64([1]), i64([2]), i64([3]))) == (1, 2, 3)
    applied = lots.apply_fifo(*none, i64([]), i64([0, 1]), i64([7]), i64([8]), i64([9]), i64([3]))
    assert last(applied) == (7, 8, 3)
    assert lists(applied[8:]) == ([0, 1], [7], [8], [9])
    empty = lots.apply_fifo(*none, i64([]), i64([0]), *[i64([])] * 4)
    assert lists(empty[5:]) == ([], [], [], [0], [], [], [])


@pytest.mark.parametrize("index", [-1, 1, INT64_MIN, INT64_MAX])
def test_fill_given_an_index_outside_the_states_then_index_error(index: int) -> None:
    fills = i64([0, index]), i64([1, 1]), i64([1, 1]), u8([0, 0])
    with pytest.raises(IndexError, match=r"position\[1\] was"):
        lots.apply_average(*fills, *[i64([0])] * 3)
    with pytest.raises(IndexError, match=r"position\[1\] was"):
        lots.apply_fifo(*fills, i64([1, 2]), *NO_LOTS, i64([0]))


@pytest.mark.parametrize(
    ("offsets", "quantity"),
    [
        ([0, 1], [1, 2]),
        ([1, 2], [1, 2]),
        ([0, 2, 1], [1, 2]),
        ([0, 3, 2], [1, 2]),
        ([0, INT64_MIN, 2], [1, 2]),
        ([0, INT64_MAX, 2], [1, 2]),
        ([0, 2], [1, 0]),
        ([0, 2], [0, 1]),
        ([0, 2], [1, -1]),
        ([0, 2], [INT64_MAX, 1]),
        ([], [1, 2]),
    ],
)
def test_fifo_given_malformed_lots_then_value_error(
    offsets: list[int], quantity: list[int]
) -> None:
    fill = i64([0]), i64([1]), i64([1]), u8([0]), i64([1])
    realized = i64([0] * max(len(offsets) - 1, 1))
    with pytest.raises(ValueError, match="lot"):
        lots.apply_fifo(*fill, i64(offsets), i64(quantity), i64([1, 1]), i64([1, 2]), realized)


@pytest.mark.parametrize("at", range(7))
@pytest.mark.parametrize("wrong", [i64([1, 2]), np.array([1.5]), i64([1, 2, 3])[::2], None])
def test_average_given_a_wrong_column_then_a_clean_error(at: int, wrong: object) -> None:
    columns: list[Any] = [i64([0]), i64([1]), i64([1]), u8([0]), i64([0]), i64([0]), i64([0])]
    columns[at] = wrong
    with pytest.raises((ValueError, TypeError, IndexError)):
        lots.apply_average(*columns)


@pytest.mark.parametrize("at", range(10))
@pytest.mark.parametrize("wrong", [i64([1, 2, 3]), np.array([1.5]), i64([0, 1, 2])[::2], None])
def test_fifo_given_a_wrong_column_then_a_clean_error(at: int, wrong: object) -> None:
    columns: list[Any] = [i64([0]), i64([1]), i64([1]), u8([0]), i64([1]), *NO_LOTS, i64([0])]
    columns[at] = wrong
    with pytest.raises((ValueError, TypeError)):
        lots.apply_fifo(*columns)
