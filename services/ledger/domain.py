"""Journals as columns: pure rules; times and ids come in as arguments."""

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from native import journal
from services.common import currencies

Int32s: TypeAlias = NDArray[np.int32]
Int64s: TypeAlias = NDArray[np.int64]
UInt8s: TypeAlias = NDArray[np.uint8]

AccountId: TypeAlias = tuple[str, str]
"""Tenant and account."""

KIND_TRADE = 1
KIND_TRANSFER = 2
"""JournalKind, as it is stored and sent."""

CURRENCY = 1
SECURITY = 2
"""AssetKind, as it is stored and sent."""

QUANTITY_SCALE = 6


class Unpostable(Exception):
    """An event says what no journal can hold."""


class Asset(NamedTuple):
    """What is counted; a currency and an instrument may bear the same name."""

    kind: int
    name: str


@dataclass(frozen=True, slots=True)
class Headers:
    """Columns of n journals, in the order of posting within each kind and account."""

    kind: int
    account: Int64s
    """Index into the accounts of the journals."""
    event_ids: list[str]
    source_ids: list[str]
    source_sequence: Int64s
    effective_day: Int32s
    """Days since 1970-01-01."""

    def __len__(self) -> int:
        return len(self.event_ids)


@dataclass(frozen=True, slots=True)
class Legs:
    """Columns of k entries."""

    journal: Int64s
    """Index of the journal among its headers; entries of a journal are adjacent."""
    leg: UInt8s
    sub_account: UInt8s
    asset: Int64s
    """Index into the assets of the journals."""
    amount: Int64s
    instrument: Int64s
    """Index into the assets: the instrument that caused it, NO_ASSET for none."""

    def __len__(self) -> int:
        return len(self.leg)


NO_ASSET = Asset(0, "")
"""First of all assets: what a cash transfer names in place of an instrument."""


@dataclass(frozen=True, slots=True)
class Journals:
    """Journals of one kind with their entries."""

    accounts: list[AccountId]
    assets: list[Asset]
    headers: Headers
    legs: Legs


class Trades(NamedTuple):
    """Columns of n trades; quantity and gross are signed, a purchase is positive."""

    security: Int64s
    cash: Int64s
    quantity: Int64s
    gross: Int64s
    fee: Int64s


class Transfers(NamedTuple):
    """Columns of n transfers; a deposit is positive."""

    asset: Int64s
    amount: Int64s
    is_cash: UInt8s


def trade_legs(trades: Trades) -> Legs:
    """Write the trade-date journals: four legs each, six with a fee.

    Raises Unpostable for an amount that has no negative, and for a fee below zero.
    """
    try:
        entries = journal.trade_entries(*trades)
    except (OverflowError, ValueError) as error:
        raise Unpostable(str(error)) from error
    return Legs(*entries, instrument=trades.security[entries.journal])


def transfer_legs(transfers: Transfers) -> Legs:
    """Write the journals of transfers: settled against the street's settled.

    Raises Unpostable for an amount that has no negative.
    """
    try:
        entries = journal.transfer_entries(transfers.asset, transfers.amount)
    except OverflowError as error:
        raise Unpostable(str(error)) from error
    instrument = np.where(transfers.is_cash, 0, transfers.asset)
    return Legs(*entries, instrument=instrument[entries.journal])


def scale(asset: Asset) -> int:
    """Return the decimals of an asset's amounts; raises Unpostable for an unknown currency."""
    if asset.kind != CURRENCY:
        return QUANTITY_SCALE
    exponent = currencies.exponent(asset.name)
    if exponent is None:
        raise Unpostable(f"asset was {asset.name!r}, which is no currency")
    return exponent


def decimal_text(value: int, decimals: int) -> str:
    """Return a scaled integer of any size as a decimal in its shortest form, exactly."""
    sign = "-" if value < 0 else ""
    digits = str(abs(value)).rjust(decimals + 1, "0")
    whole, fraction = (digits[:-decimals], digits[-decimals:]) if decimals else (digits, "")
    fraction = fraction.rstrip("0")
    return f"{sign}{whole}.{fraction}" if fraction else f"{sign}{whole}"
