"""The recount agrees with the readable twin of the kernel, which shares no code with it."""

from decimal import ROUND_HALF_EVEN, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.stack import recount
from services.stack.recount import Fill, Holding, Recount
from tests.native.reference import lots

QUANTITIES = st.integers(-(10**9), 10**9).filter(bool)
AMOUNTS = st.integers(0, 10**9)


@given(st.lists(st.tuples(QUANTITIES, AMOUNTS), max_size=30))
def test_holding_follows_the_average_cost_twin(trades: list[tuple[int, int]]) -> None:
    holding, twin = Holding("USD"), lots.Position()
    for quantity, size in trades:
        amount = size if quantity > 0 else -size
        holding.apply(Fill("IBM", "USD", quantity, amount, 0))
        lots.apply_fill(twin, quantity, amount, 0, None)
        assert (holding.quantity, holding.cost, holding.realized) == (
            twin.quantity,
            twin.cost,
            twin.realized,
        )


def test_long_then_crossing_zero_closes_and_opens() -> None:
    holding = Holding("USD")
    holding.apply(recount.fill("IBM", 1, "100", "10", "USD"))
    holding.apply(recount.fill("IBM", 2, "150", "12", "USD"))
    assert (holding.quantity, holding.cost, holding.realized) == (-50_000_000, -60_000, 20_000)
    assert holding.average_cost == 1_200_000_000


def test_order_is_that_of_the_sequence_and_repeats_count_once() -> None:
    buy, sell = (recount.fill("IBM", side, "1", "10", "USD", "0.50") for side in (1, 2))
    counted = Recount()
    for sequence, fill in ((2, sell), (1, buy), (2, sell)):
        counted.add("A", sequence, fill)
    assert counted.trades() == 2
    assert counted.cash() == {("A", "USD"): -100}
    assert not counted.conflicts
    assert counted.incomplete({"A": 2}) == []
    assert counted.incomplete({"A": 3}) == ["A"]


def test_one_number_for_two_trades_is_a_conflict() -> None:
    counted = Recount()
    counted.add("A", 1, recount.fill("IBM", 1, "1", "10", "USD"))
    counted.add("A", 1, recount.fill("IBM", 1, "2", "10", "USD"))
    assert len(counted.conflicts) == 1


def test_cash_is_deposits_less_what_was_paid() -> None:
    counted = Recount()
    counted.deposit("A", "USD", 100_000)
    counted.deposit("A", "EUR", 5)
    counted.add("A", 1, recount.fill("IBM", 1, "3", "33.335", "USD", "1.25"))
    # 100.005 rounds to the even cent.
    assert counted.cash() == {("A", "USD"): 100_000 - 10_000 - 125, ("A", "EUR"): 5}


@given(st.integers(1, 10**15), st.integers(1, 10**17), st.sampled_from(["USD", "JPY", "KWD"]))
def test_gross_is_what_decimal_says(quantity: int, price: int, currency: str) -> None:
    exact = Decimal(quantity).scaleb(-6) * Decimal(price).scaleb(-8)
    unit = Decimal(1).scaleb(-recount.exponent(currency))
    rounded = exact.quantize(unit, ROUND_HALF_EVEN)
    assert recount.gross(quantity, price, currency) == int(rounded / unit)


@given(st.integers(-(10**20), 10**20), st.integers(1, 10**6))
def test_half_even_is_its_twin(numerator: int, divisor: int) -> None:
    from tests.native.reference.money import half_even

    assert recount.half_even(numerator, divisor) == half_even(numerator, divisor)
    assert recount.half_even(-numerator, -divisor) == half_even(numerator, divisor)


@pytest.mark.parametrize(
    ("text", "value"), [("1", 10**6), ("-0.5", -500_000), ("0.000001", 1), ("-12.30", -12_300_000)]
)
def test_scaled_is_exact(text: str, value: int) -> None:
    assert recount.scaled(text, 6) == value


def test_scaled_refuses_what_would_be_cut_off() -> None:
    with pytest.raises(ValueError, match="more than 2 decimals"):
        recount.scaled("0.001", 2)


def test_unknown_currency_is_refused() -> None:
    with pytest.raises(ValueError, match="no currency"):
        recount.exponent("XXX")
