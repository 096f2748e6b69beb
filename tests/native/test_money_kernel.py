import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from native import money
from tests.native.arrays import INT64_MAX, INT64_MIN, few, i64, int64s, lists, quick, seeds, u8
from tests.native.reference import money as twin

exponents = st.integers(0, money.EXPONENT_MAX)
scales = st.integers(0, money.SCALE_MAX)
digits = st.text("0123456789", max_size=25)
plain = st.tuples(st.sampled_from(["", "-", "+"]), digits, st.sampled_from(["", "."]), digits).map(
    "".join
)
exponential = st.tuples(plain, st.sampled_from("eE"), st.integers(-40, 40).map(str)).map("".join)
junk = st.one_of(st.text("0123456789.eE+- _", max_size=12), st.text(max_size=70))

REFUSED = [
    "", " ", "1 ", " 1", "1\n", "\x001", "1\x00", ".", "-", "+", "-.", "e5", ".e5", "1e", "1e+",
    "1e5.0", "1e5 ", "--1", "+-1", "1.2.3", "1,5", "1_000", "0x10", "NaN", "nan", "inf",
    "-Infinity", "١٢", "１", "½", "1é", "1€", "1\U0001f600", "0" * 65, "1" + "0" * 64,
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("-0", 0),
        ("-0.000", 0),
        ("1", 1_000_000),
        ("+1.5", 1_500_000),
        (".5", 500_000),
        ("5.", 5_000_000),
        ("1e3", 1_000_000_000),
        ("2.5E-2", 25_000),
        ("100e-8", 1),
        ("1.0000000000", 1_000_000),
        ("0e99999999999999999999", 0),
        ("0" * 63 + "7", 7_000_000),
        ("9223372036854.775807", INT64_MAX),
        ("-9223372036854.775808", INT64_MIN),
    ],
)
def test_parse_given_an_exact_decimal_then_its_value(text: str, value: int) -> None:
    assert lists(money.parse_decimals([text], 6)) == ([value], [money.OK])


@pytest.mark.parametrize("text", REFUSED)
def test_parse_given_anything_else_then_not_a_number(text: str) -> None:
    assert lists(money.parse_decimals([text], 6)) == ([0], [money.NOT_A_NUMBER])
    assert twin.parse_decimals([text], 6) == ([0], [money.NOT_A_NUMBER])


@pytest.mark.parametrize(
    "text", ["0.0000001", "-1.2345678", "1e-7", "1e-999999999999", "1" * 30 + ".1e-6"]
)
def test_parse_given_more_decimals_than_the_scale_then_too_many(text: str) -> None:
    assert lists(money.parse_decimals([text], 6)) == ([0], [money.TOO_MANY_DECIMALS])


@pytest.mark.parametrize(
    "text", ["9223372036854.775808", "-9223372036854.775809", "1e13", "1e999999999999"]
)
def test_parse_given_more_than_int64_then_out_of_range(text: str) -> None:
    assert lists(money.parse_decimals([text], 6)) == ([0], [money.OUT_OF_RANGE])


def test_parse_given_one_bad_text_then_its_neighbours_are_parsed() -> None:
    values, status = money.parse_decimals(["1", "x", "2"], 0)
    assert values.tolist() == [1, 0, 2]
    assert status.tolist() == [money.OK, money.NOT_A_NUMBER, money.OK]


@quick
@given(st.lists(st.one_of(plain, exponential, junk), max_size=8), scales)
def test_parse_given_any_texts_then_kernel_and_twin_agree(texts: list[str], scale: int) -> None:
    assert lists(money.parse_decimals(texts, scale)) == twin.parse_decimals(texts, scale)


def test_format_given_edges_then_canonical_text() -> None:
    values = i64([0, 1, -5, 13_940_000, 100_000_000, -500_000, INT64_MAX, INT64_MIN])
    assert money.format_decimals(values, 6) == [
        "0", "0.000001", "-0.000005", "13.94", "100", "-0.5",
        "9223372036854.775807", "-9223372036854.775808",
    ]  # fmt: skip
    assert money.format_decimals(i64([INT64_MIN]), 18) == ["-9.223372036854775808"]
    assert money.format_decimals(i64([INT64_MIN]), 0) == ["-9223372036854775808"]


@pytest.mark.parametrize("scale", range(money.SCALE_MAX + 1))
def test_format_given_the_rims_of_every_digit_then_kernel_and_twin_agree(scale: int) -> None:
    tens = [10**power for power in range(19)]
    rims = [ten * digit + by for ten in tens for digit in range(1, 10) for by in (-1, 0, 1)]
    values = [sign * rim for rim in rims for sign in (1, -1) if rim <= INT64_MAX]
    assert money.format_decimals(i64(values), scale) == twin.format_decimals(values, scale)


@quick
@given(st.lists(int64s, max_size=8), scales)
def test_format_given_any_values_then_kernel_and_twin_agree(values: list[int], scale: int) -> None:
    assert money.format_decimals(i64(values), scale) == twin.format_decimals(values, scale)


@pytest.mark.parametrize(
    ("quantity", "price", "exponent", "amount"),
    [
        (100_000_000, 15_025_000_000, 2, 1_502_500),
        (1_000_000, 50_000_000, 0, 0),
        (1_000_000, 150_000_000, 0, 2),
        (-1_000_000, 250_000_000, 0, -2),
        (-1_000_000, -350_000_000, 0, 4),
        (INT64_MIN, -(10**8), 2, 922337203685478),
    ],
)
def test_notional_given_a_tie_then_rounds_to_even(
    quantity: int, price: int, exponent: int, amount: int
) -> None:
    assert lists(money.notional(i64([quantity]), i64([price]), u8([exponent]))) == ([amount], [0])


def test_notional_given_more_than_int64_then_out_of_range() -> None:
    result = money.notional(i64([INT64_MIN, INT64_MAX]), i64([INT64_MIN, INT64_MAX]), u8([4, 0]))
    assert lists(result) == ([0, 0], [money.OUT_OF_RANGE] * 2)


@quick
@given(st.lists(st.tuples(int64s, int64s, exponents), max_size=8))
@example([(INT64_MIN, INT64_MIN, 0), (INT64_MIN, INT64_MAX, 4), (5 * 10**6, 10**7, 0)])
def test_notional_given_any_rows_then_kernel_and_twin_agree(rows: list[tuple[int, ...]]) -> None:
    q, p, e = ([row[i] for row in rows] for i in range(3))
    assert lists(money.notional(i64(q), i64(p), u8(e))) == twin.notional(q, p, e)


@pytest.mark.parametrize(
    ("units", "nanos", "exponent", "amount", "status"),
    [
        (13, 940_000_000, 2, 1394, money.OK),
        (0, -500_000_000, 2, -50, money.OK),
        (-1, -10_000_000, 2, -101, money.OK),
        (1, -1, 2, 0, money.NOT_A_NUMBER),
        (-1, 1, 2, 0, money.NOT_A_NUMBER),
        (0, 1_000_000_000, 2, 0, money.NOT_A_NUMBER),
        (0, INT64_MIN, 2, 0, money.NOT_A_NUMBER),
        (1, 5_000_000, 2, 0, money.TOO_MANY_DECIMALS),
        (1, 500_000_000, 0, 0, money.TOO_MANY_DECIMALS),
        (INT64_MAX, 0, 2, 0, money.OUT_OF_RANGE),
        (INT64_MIN, 0, 0, INT64_MIN, money.OK),
    ],
)
def test_money_to_minor_given_a_money_then_amount_and_status(
    units: int, nanos: int, exponent: int, amount: int, status: int
) -> None:
    result = money.money_to_minor(i64([units]), i64([nanos]), u8([exponent]))
    assert lists(result) == ([amount], [status])


@quick
@given(
    st.lists(
        st.tuples(
            int64s,
            st.one_of(int64s, st.integers(-1100, 1100).map(lambda n: n * 10**6)),
            exponents,
        ),
        max_size=8,
    )
)
def test_money_given_any_rows_then_kernel_and_twin_agree(rows: list[tuple[int, ...]]) -> None:
    u, n, e = ([row[i] for row in rows] for i in range(3))
    assert lists(money.money_to_minor(i64(u), i64(n), u8(e))) == twin.money_to_minor(u, n, e)
    assert lists(money.minor_to_money(i64(u), u8(e))) == twin.minor_to_money(u, e)


steps = st.one_of(int64s, st.integers(-3, 10), st.integers(0, 62).map(lambda bit: 1 << bit))


@quick
@given(st.lists(st.tuples(int64s, steps, st.integers(1, 4), st.booleans()), max_size=20))
@example([(INT64_MIN, -1, 1, False), (INT64_MIN, 0, 1, False), (INT64_MIN, 1 << 62, 3, False)])
@example([(0, 5, 3, False), (-10, 5, 3, False), (7, 5, 3, False), (INT64_MIN, INT64_MAX, 3, False)])
def test_is_multiple_given_runs_of_steps_then_kernel_and_twin_agree(
    runs: list[tuple[int, int, int, bool]],
) -> None:
    """A step that comes again is divided by in another way."""
    rows = [
        ((value // step * step if whole and step else value), step)
        for value, step, times, whole in runs
        for _ in range(times)
    ]
    values = [min(max(value, INT64_MIN), INT64_MAX) for value, _ in rows]
    step = [step for _, step in rows]
    assert money.is_multiple(i64(values), i64(step)).tolist() == twin.is_multiple(values, step)


@few
@given(seeds)
def test_kernels_given_a_large_batch_then_kernel_and_twin_agree(seed: int) -> None:
    random = np.random.default_rng(seed)
    n = int(random.integers(50_000, 100_001))
    quantity = random.integers(INT64_MIN, INT64_MAX, n) >> random.integers(0, 64, n)
    price = random.integers(INT64_MIN, INT64_MAX, n) >> random.integers(0, 64, n)
    exponent = random.integers(0, 5, n).astype(np.uint8)
    q, p, e = lists((quantity, price, exponent))
    assert lists(money.notional(quantity, price, exponent)) == twin.notional(q, p, e)
    texts = money.format_decimals(price, 8)
    assert texts == twin.format_decimals(p, 8)
    assert lists(money.parse_decimals(texts, 6)) == twin.parse_decimals(texts, 6)


def test_kernels_given_no_rows_then_no_rows() -> None:
    none, flags = i64([]), u8([])
    assert lists(money.parse_decimals([], 6)) == ([], [])
    assert money.format_decimals(none, 6) == []
    assert lists(money.notional(none, none, flags)) == ([], [])
    assert lists(money.money_to_minor(none, none, flags)) == ([], [])
    assert lists(money.minor_to_money(none, flags)) == ([], [])
    assert money.is_multiple(none, none).tolist() == []


@pytest.mark.parametrize(
    ("price", "exponent", "error"),
    [
        (i64([1, 2]), u8([2]), "length of price was 2, expected 1"),
        (i64([1]), u8([2, 2]), "length of exponent was 2, expected 1"),
        (i64([1]), u8([5]), "exponent was 5, expected 0 to 4"),
        (np.array([1.0]), u8([2]), "dtype"),
        (np.array([1], np.int32), u8([2]), "dtype"),
        (np.array([1], ">i8"), u8([2]), "endian"),
        (i64([1]), i64([2]), "dtype"),
        (i64([1, 2, 3])[::2], u8([2]), "contiguous"),
        (i64([1]).reshape(1, 1), u8([2]), "dimensions"),
    ],
)
def test_notional_given_a_wrong_array_then_value_error(
    price: np.ndarray, exponent: np.ndarray, error: str
) -> None:
    with pytest.raises(ValueError, match=error):
        money.notional(i64([1]), price, exponent)


@pytest.mark.parametrize("wrong", [None, [1], 1])
def test_notional_given_no_array_then_type_error(wrong: object) -> None:
    with pytest.raises(TypeError):
        money.notional(wrong, i64([1]), u8([2]))  # type: ignore[arg-type]


@pytest.mark.parametrize("texts", [None, 5, "123", b"123", ["1", None], ["1", b"2"], [1]])
def test_parse_given_something_else_than_strings_then_type_error(texts: object) -> None:
    with pytest.raises(TypeError):
        money.parse_decimals(texts, 6)  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", [-1, 19])
def test_scale_given_outside_its_range_then_value_error(scale: int) -> None:
    with pytest.raises(ValueError, match="scale was"):
        money.parse_decimals(["1"], scale)
    with pytest.raises(ValueError, match="scale was"):
        money.format_decimals(i64([1]), scale)
