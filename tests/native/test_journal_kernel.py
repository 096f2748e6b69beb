from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from native import journal
from tests.native.arrays import (
    INT64_MAX,
    INT64_MIN,
    edges,
    few,
    i64,
    int64s,
    lists,
    quick,
    seeds,
    small,
    u8,
)
from tests.native.reference import journal as twin

XYZ, USD = 7, 1
negatable = int64s.filter(lambda value: value != INT64_MIN)
fees = st.one_of(st.just(0), st.integers(0, INT64_MAX))
trades = st.lists(st.tuples(int64s, int64s, negatable, negatable, fees), max_size=12)
entries = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 2), st.one_of(small, int64s)), max_size=60
)


def columns(rows: list[tuple[int, ...]], count: int) -> list[list[int]]:
    """Turn drawn rows into so many columns."""
    return [[row[i] for row in rows] for i in range(count)]


def test_trade_given_a_buy_with_a_fee_then_six_legs() -> None:
    written = journal.trade_entries(i64([XYZ]), i64([USD]), i64([100]), i64([1000]), i64([1]))
    assert lists(written) == (
        [0] * 6,
        [0, 1, 2, 3, 4, 5],
        [1, 3, 1, 3, 1, 5],
        [XYZ, XYZ, USD, USD, USD, USD],
        [100, -100, -1000, 1000, -1, 1],
    )


def test_trade_given_a_sell_without_a_fee_then_four_legs() -> None:
    written = journal.trade_entries(i64([XYZ]), i64([USD]), i64([-5]), i64([-50]), i64([0]))
    assert written.sub_account.tolist() == [journal.PENDING, journal.STREET_PENDING] * 2
    assert written.amount.tolist() == [-5, 5, 50, -50]


def test_transfer_given_a_deposit_then_settled_against_the_street() -> None:
    written = journal.transfer_entries(i64([USD]), i64([500]))
    assert lists(written) == ([0, 0], [0, 1], [2, 4], [USD, USD], [500, -500])


@quick
@given(trades)
def test_trades_given_any_rows_then_kernel_and_twin_agree(rows: list[tuple[int, ...]]) -> None:
    trade = columns(rows, 5)
    assert lists(journal.trade_entries(*map(i64, trade))) == twin.trade_entries(*trade)


@quick
@given(st.lists(st.tuples(int64s, negatable), max_size=12))
def test_transfers_given_any_rows_then_kernel_and_twin_agree(rows: list[tuple[int, ...]]) -> None:
    transfer = columns(rows, 2)
    written = journal.transfer_entries(*map(i64, transfer))
    assert lists(written) == twin.transfer_entries(*transfer)
    assert lists(journal.reverse(written)) == twin.reverse(lists(written))


@quick
@given(entries)
def test_unbalanced_given_entries_in_any_order_then_kernel_and_twin_agree(
    rows: list[tuple[int, ...]],
) -> None:
    entry = columns(rows, 3)
    assert journal.unbalanced(*map(i64, entry), 5).tolist() == twin.unbalanced(*entry, 5)
    in_order = columns(sorted(rows), 3)
    assert journal.unbalanced(*map(i64, in_order), 5).tolist() == twin.unbalanced(*entry, 5)


@quick
@given(st.lists(st.tuples(st.integers(0, 4), int64s), max_size=60))
def test_totals_given_any_rows_then_kernel_and_twin_agree(rows: list[tuple[int, ...]]) -> None:
    slot, amount = columns(rows, 2)
    assert lists(journal.totals(i64(slot), i64(amount), 5)) == twin.totals(slot, amount, 5)


@few
@given(seeds)
def test_kernels_given_a_large_batch_then_kernel_and_twin_agree(seed: int) -> None:
    random = np.random.default_rng(seed)
    n = int(random.integers(10_000, 20_001))
    trade = (
        random.integers(0, 50, n),
        random.integers(50, 55, n),
        random.integers(-(10**15), 10**15, n),
        random.integers(-(10**15), 10**15, n),
        random.integers(0, 3, n),
    )
    written = journal.trade_entries(*trade)
    assert lists(written) == twin.trade_entries(*lists(trade))
    amount = written.amount.copy()
    amount[random.integers(0, len(amount), 50)] += 1
    order = random.permutation(len(amount))
    entry = written.journal[order], written.asset[order], amount[order]
    assert journal.unbalanced(*entry, n).tolist() == twin.unbalanced(*lists(entry), n)
    assert lists(journal.totals(*entry[1:], 55)) == twin.totals(*lists(entry[1:]), 55)


def test_unbalanced_given_a_sum_that_wraps_to_zero_then_flagged() -> None:
    amount = i64([INT64_MIN, INT64_MIN])
    assert journal.unbalanced(i64([0, 0]), i64([USD, USD]), amount, 1).tolist() == [1]


def test_unbalanced_given_assets_that_cancel_each_other_then_flagged() -> None:
    assert journal.unbalanced(i64([0, 0]), i64([USD, XYZ]), i64([5, -5]), 1).tolist() == [1]


def test_unbalanced_given_one_journal_of_many_assets_then_found_in_all() -> None:
    assets = list(range(1000)) * 2
    amount = [1] * 1000 + [-1] * 1000
    flags = journal.unbalanced(i64([1] * 2000), i64(assets), i64(amount), 3)
    assert flags.tolist() == [0, 0, 0]
    amount[999] = 2
    assert journal.unbalanced(i64([1] * 2000), i64(assets), i64(amount), 3).tolist() == [0, 1, 0]


def test_totals_given_a_detour_beyond_int64_then_exact() -> None:
    assert lists(journal.totals(i64([0] * 3), i64([INT64_MAX, INT64_MAX, -INT64_MAX]), 1)) == (
        [INT64_MAX],
        [0],
    )
    assert lists(journal.totals(i64([0, 0]), i64([INT64_MIN, -1]), 1)) == ([0], [journal.OVERFLOW])


@quick
@given(st.lists(st.tuples(st.integers(0, 2), edges), max_size=40))
def test_totals_given_amounts_at_the_rim_then_kernel_and_twin_agree(
    rows: list[tuple[int, ...]],
) -> None:
    slot, amount = columns(rows, 2)
    assert lists(journal.totals(i64(slot), i64(amount), 3)) == twin.totals(slot, amount, 3)


def test_kernels_given_no_rows_then_no_rows() -> None:
    none = i64([])
    written = journal.trade_entries(none, none, none, none, none)
    assert lists(written) == ([], [], [], [], [])
    assert lists(journal.reverse(journal.transfer_entries(none, none))) == ([], [], [], [], [])
    assert journal.unbalanced(none, none, none, 0).tolist() == []
    assert journal.unbalanced(none, none, none, 2).tolist() == [0, 0]
    assert lists(journal.totals(none, none, 0)) == ([], [])


def test_reverse_given_entries_then_only_the_amount_is_another_array() -> None:
    written = journal.transfer_entries(i64([USD]), i64([500]))
    opposite = journal.reverse(written)
    assert all(old is new for old, new in zip(written[:4], opposite[:4], strict=True))
    assert not np.shares_memory(written.amount, opposite.amount)
    assert written.amount.tolist() == [500, -500]


def test_columns_given_one_allocation_then_none_overlaps_another() -> None:
    written = journal.trade_entries(*[i64([1, 2, 3])] * 5)
    for at, column in enumerate(written):
        assert column.flags.c_contiguous
        assert not any(np.shares_memory(column, other) for other in written[at + 1 :])


@pytest.mark.parametrize("at", [2, 3])
def test_trade_given_int64_min_then_overflow_error(at: int) -> None:
    trade = [i64([1])] * 5
    trade[at] = i64([INT64_MIN])
    with pytest.raises(OverflowError, match="no negative"):
        journal.trade_entries(*trade)
    with pytest.raises(OverflowError, match="no negative"):
        twin.trade_entries(*lists(trade))


def test_reverse_given_int64_min_then_overflow_error() -> None:
    written = journal.transfer_entries(i64([USD]), i64([500]))
    with pytest.raises(OverflowError, match="no negative"):
        journal.reverse(written._replace(amount=i64([1, INT64_MIN])))


@pytest.mark.parametrize("fee", [-1, INT64_MIN])
def test_trade_given_a_negative_fee_then_value_error(fee: int) -> None:
    with pytest.raises(ValueError, match=r"fee\[0\] was"):
        journal.trade_entries(*[i64([1])] * 4, i64([fee]))
    with pytest.raises(ValueError, match="fee was"):
        twin.trade_entries(*[[1]] * 4, [fee])


@pytest.mark.parametrize("index", [-1, 2, INT64_MIN, INT64_MAX])
def test_index_given_outside_its_range_then_index_error(index: int) -> None:
    with pytest.raises(IndexError, match="slot"):
        journal.totals(i64([index]), i64([1]), 2)
    with pytest.raises(IndexError, match="journal"):
        journal.unbalanced(i64([index]), i64([1]), i64([1]), 2)
    with pytest.raises(IndexError):
        twin.totals([index], [1], 2)
    with pytest.raises(IndexError):
        twin.unbalanced([index], [1], [1], 2)


@pytest.mark.parametrize("size", [-1, -(2**62), 2**62, 2**61])
def test_size_given_out_of_reason_then_a_clean_error(size: int) -> None:
    with pytest.raises((ValueError, MemoryError)):
        journal.totals(i64([]), i64([]), size)
    with pytest.raises((ValueError, MemoryError)):
        journal.unbalanced(i64([]), i64([]), i64([]), size)


@pytest.mark.parametrize("at", range(5))
@pytest.mark.parametrize("wrong", [i64([1, 2]), np.array([1.5]), i64([1, 2, 3])[::2], None])
def test_trade_given_a_wrong_column_then_a_clean_error(at: int, wrong: object) -> None:
    trade: list[Any] = [i64([1])] * 5
    trade[at] = wrong
    with pytest.raises((ValueError, TypeError)):
        journal.trade_entries(*trade)


@pytest.mark.parametrize("wrong", [None, (), (1, 2), 5, [i64([1])] * 5, [i64([1])] * 4])
def test_reverse_given_no_entries_then_a_clean_error(wrong: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        journal.reverse(wrong)


def test_reverse_given_columns_of_two_lengths_then_value_error() -> None:
    written = journal.transfer_entries(i64([USD]), i64([500]))
    with pytest.raises(ValueError, match="length of leg"):
        journal.reverse(written._replace(leg=u8([1])))
