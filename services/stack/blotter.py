"""A blotter: a CSV file of trades, perhaps gzipped, read line by line.

A row is a line: quotes may surround a field, but no field spans lines, so a
broken line cannot swallow the ones after it.
"""

import csv
import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple, TypeAlias

from services.common import currencies
from services.stack.errors import StackError

COLUMNS = (
    "external_id",
    "trade_time",
    "account",
    "symbol",
    "venue",
    "side",
    "quantity",
    "price",
    "currency",
)
FEES = "fees"
"""The column that may be absent."""
LINE_BYTES_MAX = 2_048
"""A chunk of a thousand such lines is still within what a service accepts."""
SIDES = {"BUY": 1, "SELL": 2}
"""Numbers of `interchange.trade.v1.Side`."""

_GZIP_MAGIC = b"\x1f\x8b"
_NUMBER = re.compile(r"(-?)0*([0-9]{1,18})(?:\.([0-9]{1,18}))?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NO_OFFSET = timedelta(0)


class BlotterError(StackError):
    """The file as a whole cannot be read."""


class Reject(NamedTuple):
    """Why a line was not booked; a line may have several reasons."""

    line: int
    field: str
    reason: str
    description: str


class Row(NamedTuple):
    """One trade, each field by itself sound; decimals are canonical text."""

    line: int
    external_id: str
    time_us: int
    """Microseconds since 1970-01-01 UTC."""
    account: str
    symbol: str
    venue: str
    side: int
    quantity: str
    price: str
    currency: str
    fees: str
    """Empty when there are none."""


Item: TypeAlias = Row | Reject


@dataclass(slots=True)
class Survey:
    """What a blotter names: found by reading it once, before anything is sent."""

    rows: int = 0
    """Lines that are not blank, without the header."""
    accounts: dict[str, str] = field(default_factory=dict)
    """The first real currency of each account's rows; empty when there is none."""
    symbols: set[str] = field(default_factory=set)


class _Broken(Exception):
    """A field, its reason and a description."""


class Blotter:
    """A file of trades. Raises `BlotterError` when it has no usable header."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._open() as file:
            header = self._read_line(file)
        self._width, self._order, self._fees_at = _columns(header, path)

    def survey(self) -> Survey:
        """Read the file once and tell what it names."""
        found = Survey()
        for item in self.items():
            found.rows += 1
            if isinstance(item, Row):
                found.symbols.add(item.symbol)
                if not found.accounts.get(item.account):
                    known = currencies.exponent(item.currency) is not None
                    found.accounts[item.account] = item.currency if known else ""
        return found

    def items(self) -> Iterator[Item]:
        """Read every line that is not blank: to a row, or to why it is none."""
        with self._open() as file:
            self._read_line(file)
            number = 1
            while (line := self._read_line(file, number)) != b"":
                number += 1
                if line is None or line.strip(b"\r\n \t"):
                    yield self.parse(line, number)

    def parse(self, line: bytes | None, number: int) -> Item:
        """Turn a line, without or with its end, into a row; None is a line that was too long."""
        try:
            fields = _fields(line)
            if len(fields) != self._width:
                expected = f"has {len(fields)} columns, expected {self._width}"
                raise _Broken("", "COLUMN_COUNT", expected)
            fees = fields[self._fees_at] if self._fees_at is not None else ""
            return _row(number, self._order(fields), fees)
        except _Broken as broken:
            return Reject(number, *broken.args)

    @contextmanager
    def _open(self) -> Iterator[io.BufferedReader]:
        with ExitStack() as held:
            try:
                raw = held.enter_context(io.FileIO(self.path))
                file: io.BufferedReader = held.enter_context(io.BufferedReader(raw, 1 << 16))
                if file.peek(2)[:2] == _GZIP_MAGIC:
                    unzipped = held.enter_context(gzip.GzipFile(fileobj=file))
                    file = held.enter_context(io.BufferedReader(unzipped, 1 << 16))
            except OSError as error:
                raise BlotterError(f"{self.path}: {error.strerror or error}") from error
            yield file

    def _read_line(self, file: io.BufferedReader, before: int = 0) -> bytes | None:
        """Return the next line, b"" at the end, None for one that is too long to be a row."""
        try:
            line = file.readline(LINE_BYTES_MAX + 1)
            if len(line) <= LINE_BYTES_MAX or line.endswith(b"\n"):
                return line
            while (rest := file.readline(1 << 16)) and not rest.endswith(b"\n"):
                pass
            return None
        except (OSError, EOFError, zlib.error) as error:
            raise BlotterError(
                f"{self.path} is damaged after line {before}: {error}",
                "The lines before it are not lost: with the whole file, start again.",
            ) from error


def decimal(text: str) -> str:
    """Return a decimal number in its shortest form; ValueError when it is none.

    One form for one number: a file exported again with other trailing zeros is
    still the same to the idempotency key.
    """
    return _decimal(text)


@lru_cache(maxsize=1 << 16)
def _decimal(text: str) -> str:
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise ValueError("is not a decimal number of at most 18 digits and 18 decimals")
    sign, whole, part = match.groups(default="")
    part = part.rstrip("0")
    if part:
        return f"{sign}{whole}.{part}"
    return f"{sign}{whole}" if whole != "0" else "0"


def time_us(text: str) -> int:
    """Return microseconds since 1970-01-01 of an ISO 8601 time; ValueError when it is not UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("is not an ISO 8601 time such as 2013-10-07T08:00:00.614Z") from None
    if moment.utcoffset() != _NO_OFFSET:
        raise ValueError("is not UTC: it must end in Z")
    return (moment - _EPOCH) // _MICROSECOND


def _row(line: int, fields: Sequence[str], fees: str) -> Row:
    external_id, trade_time, account, symbol, venue, side, quantity, price, currency = fields
    if not external_id:
        raise _Broken("external_id", "EXTERNAL_ID_MISSING", "was not given")
    number = SIDES.get(side)
    if number is None:
        raise _Broken("side", "SIDE_UNKNOWN", "is neither BUY nor SELL")
    name = "trade_time"
    reason = "TRADE_TIME_INVALID"
    try:
        moment = time_us(trade_time)
        name, reason = "quantity", "QUANTITY_NOT_A_NUMBER"
        quantity = _decimal(quantity)
        name, reason = "price", "PRICE_NOT_A_NUMBER"
        price = _decimal(price)
        name, reason = "fees", "FEES_NOT_A_NUMBER"
        fees = _decimal(fees) if fees else ""
    except ValueError as error:
        raise _Broken(name, reason, str(error)) from None
    if "." in fees and len(fees.rpartition(".")[2]) > 9:
        raise _Broken("fees", "FEES_TOO_MANY_DECIMALS", "has more than 9 decimals")
    fees = "" if fees == "0" else fees
    return Row(
        line, external_id, moment, account, symbol, venue, number, quantity, price, currency, fees
    )


def _fields(line: bytes | None) -> list[str]:
    if line is None:
        raise _Broken("", "LINE_TOO_LONG", f"has more than {LINE_BYTES_MAX} bytes")
    try:
        text = line.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise _Broken("", "ENCODING_INVALID", f"is not UTF-8 at byte {error.start + 1}") from None
    if "\0" in text:
        raise _Broken("", "NUL_CHARACTER", "holds a NUL character")
    if '"' not in text:
        return text.split(",")
    try:
        return next(csv.reader([text], strict=True))
    except csv.Error as error:
        raise _Broken("", "QUOTES_BROKEN", str(error)) from None


def _columns(
    header: bytes | None, path: Path
) -> tuple[int, Callable[[list[str]], Sequence[str]], int | None]:
    """Return how many columns there are, a getter of those we read, and where the fees are."""
    if header is not None and not header:
        raise BlotterError(f"{path} is empty", f"Its first line must name {', '.join(COLUMNS)}.")
    try:
        names = [name.strip() for name in _fields(header)]
    except _Broken as broken:
        raise BlotterError(f"{path}: the header {broken.args[2]}") from None
    names[0] = names[0].removeprefix("\ufeff").strip()
    if missing := [name for name in COLUMNS if name not in names]:
        raise BlotterError(
            f"{path}: the header lacks {', '.join(missing)}",
            f"Its first line must name {', '.join(COLUMNS)}, and may name {FEES}.",
        )
    if twice := sorted({name for name in (*COLUMNS, FEES) if names.count(name) > 1}):
        raise BlotterError(f"{path}: the header names {', '.join(twice)} twice")
    order = itemgetter(*(names.index(name) for name in COLUMNS))
    return len(names), order, names.index(FEES) if FEES in names else None
