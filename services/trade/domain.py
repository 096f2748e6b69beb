"""The rules of booking, over columns; reference data comes in as arguments.

Checking has layers, each named where it happens: input (`inputs`), business and
cross-field rules (here), constraints of the database (the migration), the check
after the write (the repository compares what was written) and reconciliation.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TypeAlias
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from native import money
from services.common.errors import FailedPrecondition, NotFound
from services.trade.commands import CreateTrades
from services.trade.faults import DECIMAL_REASONS, Bools, Faults
from services.trade.inputs import Checked

Int64s: TypeAlias = NDArray[np.int64]

GROSS_MINOR_MAX = 10**15

ACTIVE, HALTED = 1, 2


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
    fee = _fees(commands, instruments.exponent[row], known, faults)
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


def _fees(
    commands: CreateTrades, exponent: NDArray[np.uint8], known: Bools, faults: Faults
) -> Int64s:
    if not any(commands.fee_currencies):
        return np.zeros(len(commands), np.int64)
    fee, status = money.money_to_minor(
        np.array(commands.fee_units, np.int64), np.array(commands.fee_nanos, np.int64), exponent
    )
    # Without an instrument there is no exponent: its fees can't be judged yet.
    for code, (reason, description) in DECIMAL_REASONS.items():
        faults.add(known & (status == code), "fees", f"FEES_{reason}", description)
    faults.add(fee < 0, "fees", "FEES_NEGATIVE", "must not be negative")
    faults.add(known & (fee > GROSS_MINOR_MAX), "fees", "FEES_OUT_OF_RANGE",
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
