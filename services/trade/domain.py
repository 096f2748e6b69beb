"""The rules of booking, over columns; time and reference data come in as arguments.

Checking has layers, each named where it happens: input (here, `check_input`),
business and cross-field rules (here, `check_rules`), constraints of the
database (the migration), the check after the write (the repository compares
what was written) and reconciliation.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import TypeAlias
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from native import money
from services.common.errors import (
    FailedPrecondition,
    InterchangeError,
    InvalidArgument,
    NotFound,
    Violation,
)
from services.trade.commands import CreateTrades

Int64s: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]

KEY_LENGTH_MAX = 64
SOURCE_LENGTH_MAX = 32
QUANTITY_MAX = 10**9 * 10**money.QUANTITY_SCALE
PRICE_MAX = 10**9 * 10**money.PRICE_SCALE
GROSS_MINOR_MAX = 10**15
CLOCK_SKEW_US = 1_000_000
"""A market's clock may be this much ahead of ours."""

ACTIVE, HALTED = 1, 2

_ID = re.compile(r"[A-Za-z0-9._-]{1,32}")
_VENUE = re.compile(r"[A-Z0-9]{4}")
_DECIMAL_REASONS = {
    money.NOT_A_NUMBER: ("NOT_A_NUMBER", "is not a decimal number"),
    money.TOO_MANY_DECIMALS: ("TOO_MANY_DECIMALS", "has more decimals than are kept"),
    money.OUT_OF_RANGE: ("OUT_OF_RANGE", "is out of range"),
}


class Faults:
    """What is wrong with which command of a batch."""

    def __init__(self, count: int) -> None:
        self._found: dict[int, list[tuple[type[InterchangeError], Violation]]] = {}
        self.bad: Bools = np.zeros(count, np.bool_)

    def add(
        self,
        rows: Bools | Sequence[int],
        field: str,
        reason: str,
        description: str,
        kind: type[InterchangeError] = InvalidArgument,
    ) -> None:
        """Note a fault for the rows of a mask or a list of row numbers."""
        if isinstance(rows, np.ndarray):
            rows = np.flatnonzero(rows).tolist()
        for row in rows:
            found = self._found.setdefault(row, [])
            # One fault a field: the first check that fails says it best.
            if all(violation.field != field for _, violation in found):
                found.append((kind, Violation(field, description, reason)))
            self.bad[row] = True

    def errors(self) -> dict[int, InterchangeError]:
        """Return the error of each bad command, naming all its wrong fields."""
        errors = {}
        for row, found in self._found.items():
            kinds = {kind for kind, _ in found}
            kind = InvalidArgument if InvalidArgument in kinds else found[0][0]
            violations = [violation for _, violation in found]
            first = next(violation for its, violation in found if its is kind)
            message = "; ".join(f"{v.field}: {v.description}" for v in violations)
            errors[row] = kind(first.reason, message, violations=violations)
        return errors


@dataclass(slots=True)
class Checked:
    """The numbers of a batch, parsed; zero where a fault was noted."""

    quantity: Int64s
    """1e-6 units."""
    price: Int64s
    """1e-8 units."""
    side: Int64s
    time_us: Int64s
    """Microseconds since 1970-01-01 UTC."""


def check_input(commands: CreateTrades, faults: Faults, now_us: int) -> Checked:
    """Check each field of each command by itself, and parse the numbers."""
    side = np.array(commands.sides, np.int64)
    faults.add(side == 0, "side", "SIDE_MISSING", "was not given, expected SIDE_BUY or SIDE_SELL")
    faults.add((side < 0) | (side > 2), "side", "SIDE_UNKNOWN", "is not a known side")
    quantity = _decimals(
        commands.quantities, "quantity", money.QUANTITY_SCALE, QUANTITY_MAX, faults
    )
    price = _decimals(commands.prices, "price", money.PRICE_SCALE, PRICE_MAX, faults)
    _check_keys(commands, faults)
    _check_names(commands.account_ids, _ID, "account_id", "ACCOUNT_ID_INVALID", faults)
    _check_names(commands.instrument_ids, _ID, "instrument_id", "INSTRUMENT_ID_INVALID", faults)
    _check_names(commands.venues, _VENUE, "venue", "VENUE_INVALID", faults, optional=True)
    return Checked(quantity, price, side, _times(commands, faults, now_us))


def _decimals(texts: list[str], field: str, scale: int, greatest: int, faults: Faults) -> Int64s:
    values, status = money.parse_decimals(texts, scale)
    if status.any():
        missing = [row for row, text in enumerate(texts) if not text]
        faults.add(missing, field, f"{field.upper()}_MISSING", "was not given")
        for code, (reason, description) in _DECIMAL_REASONS.items():
            faults.add(status == code, field, f"{field.upper()}_{reason}", description)
    good = status == money.OK
    faults.add(
        good & (values <= 0), field, f"{field.upper()}_NOT_POSITIVE", "must be greater than zero"
    )
    faults.add(
        good & (values > greatest), field, f"{field.upper()}_OUT_OF_RANGE", "exceeds 1,000,000,000"
    )
    return values


def _check_keys(commands: CreateTrades, faults: Faults) -> None:
    for row, (request_id, source, external_id) in enumerate(
        zip(commands.request_ids, commands.sources, commands.external_ids, strict=True)
    ):
        if not request_id and not external_id:
            description = "either request_id or external_id must be given: a retry could book twice"
            faults.add([row], "request_id", "IDEMPOTENCY_KEY_MISSING", description)
        if not _printable(request_id, KEY_LENGTH_MAX):
            description = f"must be at most {KEY_LENGTH_MAX} printable ASCII characters"
            faults.add([row], "request_id", "REQUEST_ID_INVALID", description)
        if not _printable(external_id, KEY_LENGTH_MAX):
            description = f"must be at most {KEY_LENGTH_MAX} printable ASCII characters"
            faults.add([row], "external_id", "EXTERNAL_ID_INVALID", description)
        if not _printable(source, SOURCE_LENGTH_MAX) or bool(source) != bool(external_id):
            description = (
                f"must be at most {SOURCE_LENGTH_MAX} printable ASCII characters, "
                "given exactly when external_id is"
            )
            faults.add([row], "external_source", "EXTERNAL_SOURCE_INVALID", description)


def _printable(text: str, length_max: int) -> bool:
    return len(text) <= length_max and text.isascii() and (not text or text.isprintable())


def _check_names(
    names: list[str],
    pattern: re.Pattern[str],
    field: str,
    reason: str,
    faults: Faults,
    *,
    optional: bool = False,
) -> None:
    """Check the few distinct names, not the many rows."""
    bad = {name for name in set(names) if not pattern.fullmatch(name) and (name or not optional)}
    if bad:
        rows = [row for row, name in enumerate(names) if name in bad]
        faults.add(rows, field, reason, f"must match {pattern.pattern}")


def _times(commands: CreateTrades, faults: Faults, now_us: int) -> Int64s:
    limit_s = (now_us + CLOCK_SKEW_US) // 1_000_000
    seconds = np.array(
        [now_us // 1_000_000 if value is None else value for value in commands.time_seconds],
        np.int64,
    )
    nanos = np.array(commands.time_nanos, np.int64)
    faults.add(
        (seconds < 0) | (nanos < 0) | (nanos > 999_999_999),
        "trade_time",
        "TRADE_TIME_INVALID",
        "must be after 1970-01-01 with nanos from 0 to 999,999,999",
    )
    faults.add(seconds > limit_s, "trade_time", "TRADE_TIME_IN_FUTURE", "is in the future")
    times = np.minimum(seconds, limit_s) * 1_000_000 + nanos // 1000
    given = np.array([value is not None for value in commands.time_seconds], np.bool_)
    return np.where(given, times, now_us)


@dataclass(slots=True)
class Instruments:
    """Reference data of the instruments that a batch names, as columns."""

    index: Mapping[str, int]
    status: Int64s
    currency: list[str]
    exponent: NDArray[np.uint8]
    lot: Int64s
    tick: Int64s
    zone: list[ZoneInfo]


@dataclass(frozen=True, slots=True)
class Account:
    """What booking must know of an account."""

    open: bool
    fifo: bool
    last_sequence: int


@dataclass(slots=True)
class Priced:
    """What the rules computed."""

    gross: Int64s
    """Minor units."""
    fee: Int64s
    """Minor units."""
    day: Int64s
    """Trade date in days since 1970-01-01."""


def check_rules(
    commands: CreateTrades,
    checked: Checked,
    accounts: Mapping[str, Account],
    instruments: Instruments,
    faults: Faults,
) -> Priced:
    """Check commands against accounts, instruments and each other's fields."""
    _check_accounts(commands, accounts, faults)
    row = np.array([instruments.index.get(name, -1) for name in commands.instrument_ids], np.int64)
    faults.add(row < 0, "instrument_id", "INSTRUMENT_NOT_FOUND", "no such instrument", NotFound)
    if not len(instruments.currency):
        nothing = np.zeros(len(commands), np.int64)
        return Priced(nothing, nothing, nothing)
    known = row >= 0
    row = np.where(known, row, 0)
    _check_instruments(commands, checked, instruments, row, known, faults)
    gross, status = money.notional(checked.quantity, checked.price, instruments.exponent[row])
    priced = known & (checked.quantity > 0) & (checked.price > 0)
    too_large = (status != money.OK) | (gross > GROSS_MINOR_MAX)
    faults.add(priced & too_large, "price", "GROSS_AMOUNT_OUT_OF_RANGE",
               f"quantity times price exceeds {GROSS_MINOR_MAX} minor units")  # fmt: skip
    faults.add(priced & (status == money.OK) & (gross == 0), "price", "GROSS_AMOUNT_ZERO",
               "quantity times price rounds to nothing")  # fmt: skip
    fee = _fees(commands, instruments.exponent[row], faults)
    return Priced(gross, fee, _days(checked.time_us, instruments.zone, row))


def _check_accounts(
    commands: CreateTrades, accounts: Mapping[str, Account], faults: Faults
) -> None:
    names = set(commands.account_ids)
    unknown = {name for name in names if name not in accounts}
    closed = {name for name in names - unknown if not accounts[name].open}
    for bad, reason, description, kind in (
        (unknown, "ACCOUNT_NOT_FOUND", "no such account", NotFound),
        (closed, "ACCOUNT_CLOSED", "the account is closed", FailedPrecondition),
    ):
        if bad:
            rows = [row for row, name in enumerate(commands.account_ids) if name in bad]
            faults.add(rows, "account_id", reason, description, kind)


def _check_instruments(
    commands: CreateTrades,
    checked: Checked,
    instruments: Instruments,
    row: Int64s,
    known: Bools,
    faults: Faults,
) -> None:
    status = instruments.status[row]
    faults.add(known & (status == HALTED), "instrument_id", "INSTRUMENT_HALTED",
               "trading in the instrument is halted", FailedPrecondition)  # fmt: skip
    expired = known & (status != HALTED) & (status != ACTIVE)
    faults.add(expired, "instrument_id", "INSTRUMENT_EXPIRED",
               "the instrument is not active", FailedPrecondition)  # fmt: skip
    currencies = instruments.currency
    other = [
        position
        for position, (at, currency) in enumerate(
            zip(row.tolist(), commands.currencies, strict=True)
        )
        if known[position] and currencies[at] != currency
    ]
    faults.add(other, "currency", "CURRENCY_MISMATCH", "must be the instrument's currency")
    off_lot = money.is_multiple(checked.quantity, instruments.lot[row]) == 0
    faults.add(known & (checked.quantity > 0) & off_lot, "quantity", "QUANTITY_OFF_LOT",
               "must be a multiple of the lot size")  # fmt: skip
    off_tick = money.is_multiple(checked.price, instruments.tick[row]) == 0
    faults.add(known & (checked.price > 0) & off_tick, "price", "PRICE_OFF_TICK",
               "must be a multiple of the tick size")  # fmt: skip


def _fees(commands: CreateTrades, exponent: NDArray[np.uint8], faults: Faults) -> Int64s:
    if not any(commands.fee_currencies):
        return np.zeros(len(commands), np.int64)
    fee, status = money.money_to_minor(
        np.array(commands.fee_units, np.int64), np.array(commands.fee_nanos, np.int64), exponent
    )
    for code, (reason, description) in _DECIMAL_REASONS.items():
        faults.add(status == code, "fees", f"FEES_{reason}", description)
    faults.add(fee < 0, "fees", "FEES_NEGATIVE", "must not be negative")
    faults.add(fee > GROSS_MINOR_MAX, "fees", "FEES_OUT_OF_RANGE",
               f"exceeds {GROSS_MINOR_MAX} minor units")  # fmt: skip
    other = [
        row
        for row, (given, currency) in enumerate(
            zip(commands.fee_currencies, commands.currencies, strict=True)
        )
        if given and given != currency
    ]
    faults.add(other, "fees", "FEES_CURRENCY_MISMATCH", "must be in the currency of the trade")
    return fee


QUARTER_US = 900 * 1_000_000
"""Offsets from UTC change on quarters of an hour only."""
DAY_US = 86_400 * 1_000_000


def _days(time_us: Int64s, zones: list[ZoneInfo], row: Int64s) -> Int64s:
    """Return the local day of each time in the zone of its instrument."""
    days = np.empty(len(time_us), np.int64)
    of_zone: dict[ZoneInfo, list[int]] = {}
    for index, zone in enumerate(zones):
        of_zone.setdefault(zone, []).append(index)
    for zone, indexes in of_zone.items():
        mine = np.isin(row, indexes)
        quarters, back = np.unique(time_us[mine] // QUARTER_US, return_inverse=True)
        offsets = np.array([_offset_us(zone, quarter) for quarter in quarters.tolist()], np.int64)
        if len(quarters):
            days[mine] = (time_us[mine] + offsets[back]) // DAY_US
    return days


@lru_cache(maxsize=65_536)
def _offset_us(zone: ZoneInfo, quarter: int) -> int:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=900 * quarter)
    offset = moment.astimezone(zone).utcoffset()
    assert offset is not None
    return int(offset.total_seconds()) * 1_000_000


def day_to_date(day: int) -> date:
    """Return the date of a number of days since 1970-01-01."""
    return date.fromordinal(719_163 + day)
