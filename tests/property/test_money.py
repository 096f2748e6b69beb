from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from native import money
from tests.native.arrays import i64, int64s, lists, quick, u8

scales = st.integers(0, money.SCALE_MAX)
exponents = st.integers(0, money.EXPONENT_MAX)
batches = st.lists(int64s, max_size=20)


@quick
@given(batches, scales)
def test_a_formatted_value_parses_back_to_itself(values: list[int], scale: int) -> None:
    parsed, status = money.parse_decimals(money.format_decimals(i64(values), scale), scale)
    assert parsed.tolist() == values
    assert not status.any()


@quick
@given(batches, scales)
def test_a_formatted_value_is_the_number_and_is_minimal(values: list[int], scale: int) -> None:
    for value, text in zip(values, money.format_decimals(i64(values), scale), strict=True):
        assert Fraction(text) == Fraction(value, 10**scale)
        assert text != "-0"
        assert not ("." in text and text[-1] in "0.")


@quick
@given(st.lists(st.tuples(int64s, exponents), max_size=20))
def test_an_amount_survives_the_way_to_money_and_back(rows: list[tuple[int, int]]) -> None:
    amount, exponent = i64([row[0] for row in rows]), u8([row[1] for row in rows])
    units, nanos = money.minor_to_money(amount, exponent)
    assert all(u * n >= 0 for u, n in zip(units.tolist(), nanos.tolist(), strict=True))
    back, status = money.money_to_minor(units, nanos, exponent)
    assert back.tolist() == amount.tolist()
    assert not status.any()


@quick
@given(int64s, int64s, exponents)
def test_a_notional_is_within_half_a_minor_unit_and_even_on_a_tie(q: int, p: int, e: int) -> None:
    [amount], [status] = lists(money.notional(i64([q]), i64([p]), u8([e])))
    exact = Fraction(q * p, 10 ** (14 - e))
    if status == money.OK:
        assert abs(exact - amount) < Fraction(1, 2) or (
            abs(exact - amount) == Fraction(1, 2) and amount % 2 == 0
        )
    else:
        assert abs(exact) > 2**63 - 1


@quick
@given(batches, batches)
def test_a_notional_of_the_opposite_quantity_is_the_opposite(q: list[int], p: list[int]) -> None:
    n = min(len(q), len(p))
    quantity, price = i64(q[:n]) | 1, i64(p[:n])
    buys, bought = money.notional(quantity, price, np.full(n, 2, np.uint8))
    sells, sold = money.notional(-quantity, price, np.full(n, 2, np.uint8))
    both = (bought == money.OK) & (sold == money.OK)
    assert (buys[both] == -sells[both]).all()


@quick
@given(st.lists(st.tuples(int64s, st.integers(1, 10**9)), max_size=20))
def test_a_multiple_of_the_step_is_one_and_its_neighbour_is_not(
    rows: list[tuple[int, int]],
) -> None:
    for value, step in rows:
        down = value - value % step
        if down < -(2**63) or step == 1:
            continue
        assert money.is_multiple(i64([down, down + 1]), i64([step, step])).tolist() == [1, 0]
