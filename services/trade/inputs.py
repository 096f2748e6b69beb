"""The first layer of checking: each field of a command by itself.

Over columns; needs no database. The time comes in as an argument.
"""

import re
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from native import money
from services.trade.commands import CreateTrades
from services.trade.faults import DECIMAL_REASONS, Faults

Int64s: TypeAlias = NDArray[np.int64]

KEY_LENGTH_MAX = 64
SOURCE_LENGTH_MAX = 32
QUANTITY_MAX = 10**9 * 10**money.QUANTITY_SCALE
PRICE_MAX = 10**9 * 10**money.PRICE_SCALE
CLOCK_SKEW_US = 1_000_000
"""A market's clock may be this much ahead of ours."""

_ID = re.compile(r"[A-Za-z0-9._-]{1,32}")
_VENUE = re.compile(r"[A-Z0-9]{4}")


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
        for code, (reason, description) in DECIMAL_REASONS.items():
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
