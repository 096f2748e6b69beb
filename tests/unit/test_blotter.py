"""A blotter is read line by line: what is broken is named, and stops nothing else."""

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.stack.blotter import (
    COLUMNS,
    LINE_BYTES_MAX,
    Blotter,
    BlotterError,
    Item,
    Reject,
    Row,
    decimal,
    time_us,
)

HEADER = ",".join(COLUMNS)
GOOD = "x1,2013-10-07T08:00:00.614Z,ACC1,IBM,XNYS,BUY,100,13.9400,USD"


def write(folder: Path, *lines: bytes | str, header: str = HEADER, end: bytes = b"\n") -> Path:
    path = folder / "blotter.csv"
    encoded = [line if isinstance(line, bytes) else line.encode() for line in (header, *lines)]
    path.write_bytes(end.join(encoded) + end)
    return path


def items(folder: Path, *lines: bytes | str, header: str = HEADER) -> list[Item]:
    return list(Blotter(write(folder, *lines, header=header)).items())


def test_row_is_read_with_canonical_numbers(tmp_path: Path) -> None:
    (row,) = items(tmp_path, GOOD)
    moment = 1_381_132_800_614_000
    assert row == Row(2, "x1", moment, "ACC1", "IBM", "XNYS", 1, "100", "13.94", "USD", "")


def test_fees_any_order_of_columns_and_columns_of_others(tmp_path: Path) -> None:
    header = "fees,note," + ",".join(reversed(COLUMNS))
    line = "1.50,mine," + ",".join(reversed(GOOD.split(",")))
    (row,) = items(tmp_path, line, header=header)
    assert isinstance(row, Row)
    assert (row.fees, row.external_id, row.currency) == ("1.5", "x1", "USD")


@pytest.mark.parametrize("fees", ["", "0", "0.00"])
def test_no_fees_are_one_thing_however_written(tmp_path: Path, fees: str) -> None:
    (row,) = items(tmp_path, f"{GOOD},{fees}", header=f"{HEADER},fees")
    assert isinstance(row, Row)
    assert row.fees == ""


def test_gzip_is_seen_by_content_not_by_name(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD, GOOD)
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert len(list(Blotter(path).items())) == 2


def test_windows_ends_byte_order_mark_and_blank_lines(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD, "", GOOD, header="\ufeff" + HEADER, end=b"\r\n")
    read = list(Blotter(path).items())
    assert [row.line for row in read] == [2, 4]
    assert all(isinstance(row, Row) and row.currency == "USD" for row in read)


@pytest.mark.parametrize(
    ("line", "field", "reason"),
    [
        ("x1,2013", "", "COLUMN_COUNT"),
        (GOOD + ",more", "", "COLUMN_COUNT"),
        (GOOD.replace("100", "1e2"), "quantity", "QUANTITY_NOT_A_NUMBER"),
        (GOOD.replace("100", "1_0"), "quantity", "QUANTITY_NOT_A_NUMBER"),
        (GOOD.replace("100", "١٠"), "quantity", "QUANTITY_NOT_A_NUMBER"),
        (GOOD.replace("100", "9" * 30), "quantity", "QUANTITY_NOT_A_NUMBER"),
        (GOOD.replace("13.9400", "nan"), "price", "PRICE_NOT_A_NUMBER"),
        (GOOD.replace("13.9400", ""), "price", "PRICE_NOT_A_NUMBER"),
        (GOOD.replace("BUY", "buy"), "side", "SIDE_UNKNOWN"),
        (GOOD.replace("08:00:00.614Z", "25:00:00Z"), "trade_time", "TRADE_TIME_INVALID"),
        (GOOD.replace("614Z", "614"), "trade_time", "TRADE_TIME_INVALID"),
        (GOOD.replace("614Z", "614+02:00"), "trade_time", "TRADE_TIME_INVALID"),
        (GOOD.replace("x1", ""), "external_id", "EXTERNAL_ID_MISSING"),
        (GOOD.encode() + b"\xff", "", "ENCODING_INVALID"),
        (GOOD.replace("IBM", "I\0M"), "", "NUL_CHARACTER"),
        (GOOD.replace("IBM", '"IBM'), "", "QUOTES_BROKEN"),
        (GOOD + "x" * LINE_BYTES_MAX, "", "LINE_TOO_LONG"),
    ],
)
def test_broken_line_is_named_and_the_next_is_read(
    tmp_path: Path, line: bytes | str, field: str, reason: str
) -> None:
    broken, row = items(tmp_path, line, GOOD)
    assert isinstance(broken, Reject)
    assert (broken.line, broken.field, broken.reason) == (2, field, reason)
    assert isinstance(row, Row)
    assert row.line == 3


def test_survey_names_accounts_with_their_first_real_currency(tmp_path: Path) -> None:
    lines = [GOOD.replace("USD", "nonsense"), GOOD, GOOD.replace("USD", "EUR"), "broken"]
    survey = Blotter(write(tmp_path, *lines)).survey()
    assert survey.rows == 4
    assert survey.accounts == {"ACC1": "USD"}
    assert survey.symbols == {"IBM"}


def test_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(BlotterError, match="No such file"):
        Blotter(tmp_path / "none.csv")


def test_empty_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "empty.csv"
    path.touch()
    with pytest.raises(BlotterError, match="is empty"):
        Blotter(path)


def test_header_without_columns_names_them(tmp_path: Path) -> None:
    header = HEADER.replace("price,", "").replace("venue,", "")
    with pytest.raises(BlotterError, match="lacks venue, price"):
        Blotter(write(tmp_path, GOOD, header=header))


def test_header_with_a_column_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BlotterError, match="price twice"):
        Blotter(write(tmp_path, GOOD, header=HEADER + ",price"))


def test_header_only_is_no_rows(tmp_path: Path) -> None:
    assert items(tmp_path) == []


def test_damaged_gzip_gives_its_rows_then_says_where(tmp_path: Path) -> None:
    path = write(tmp_path, *(GOOD.replace("x1", f"x{n * n * 7919}") for n in range(20_000)))
    path.write_bytes(gzip.compress(path.read_bytes())[:-5000])
    seen = 0
    with pytest.raises(BlotterError, match="damaged after line"):
        for _ in Blotter(path).items():
            seen += 1
    assert seen > 1_000


@given(st.binary(max_size=300))
def test_any_line_is_a_row_or_a_reject(
    tmp_path_factory: pytest.TempPathFactory, line: bytes
) -> None:
    blotter = _shared(tmp_path_factory)
    found = blotter.parse(line, 7)
    assert isinstance(found, Row | Reject)
    assert found.line == 7


@given(st.lists(st.one_of(st.just(GOOD), st.text(max_size=20)), min_size=9, max_size=9))
def test_any_fields_are_a_row_or_a_reject(
    tmp_path_factory: pytest.TempPathFactory, fields: list[str]
) -> None:
    line = ",".join(fields).encode(errors="replace")
    assert isinstance(_shared(tmp_path_factory).parse(line, 2), Row | Reject)


@given(st.decimals(-(10**12), 10**12, places=6))
def test_decimal_keeps_its_value_in_one_form(value: object) -> None:
    text = decimal(f"{value:f}")
    assert decimal(text) == text
    assert decimal(f"{text}{'' if '.' in text else '.'}00") == text


def test_time_is_exact_to_the_microsecond() -> None:
    assert time_us("1970-01-01T00:00:01.000001Z") == 1_000_001
    assert time_us("2013-10-07T08:00:00+00:00") == time_us("2013-10-07T08:00:00Z")


_blotters: dict[str, Blotter] = {}


def _shared(factory: pytest.TempPathFactory) -> Blotter:
    if "one" not in _blotters:
        _blotters["one"] = Blotter(write(factory.mktemp("blotter")))
    return _blotters["one"]
