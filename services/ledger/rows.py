"""What the ledger's tables hold, as they are read."""

from datetime import date, datetime
from typing import NamedTuple


class EntryRow(NamedTuple):
    """One leg; the amount is scaled as its asset is."""

    journal_id: str
    leg: int
    account_id: str
    sub_account: int
    asset: str
    asset_kind: int
    amount: int
    instrument_id: str
    posted_at: datetime


class JournalRow(NamedTuple):
    """One journal with its legs in order."""

    journal_id: str
    account_id: str
    kind: int
    source_id: str
    source_sequence: int
    effective_date: date
    posted_at: datetime
    entries: list[EntryRow]


class BalanceKey(NamedTuple):
    """What balances are listed by, in this order."""

    account_id: str
    asset: str
    asset_kind: int
    sub_account: int


class BalanceRow(NamedTuple):
    """One balance."""

    account_id: str
    asset: str
    asset_kind: int
    sub_account: int
    amount: int
    entry_count: int
    updated_at: datetime

    @property
    def key(self) -> BalanceKey:
        """Where a page ends."""
        return BalanceKey(*self[:4])


class TrialRow(NamedTuple):
    """Sums over all accounts, of any size."""

    asset: str
    asset_kind: int
    sub_account: int
    debit: int
    credit: int
    net: int
    entry_count: int


class DifferenceRow(NamedTuple):
    """A balance that is not the sum of its entries."""

    account_id: str
    asset: str
    asset_kind: int
    sub_account: int
    stored: int
    recomputed: int


class CheckRow(NamedTuple):
    """What recomputing a tenant's books found."""

    journal_count: int
    trade_count: int
    duplicate_count: int
    entry_count: int
    unbalanced: list[str]
    balance_count: int
    differences: list[DifferenceRow]


class EntryKey(NamedTuple):
    """Where in the order of entries something is; newest first, so going down."""

    journal_id: str
    leg: int


NEWEST = EntryKey("ffffffff-ffff-ffff-ffff-ffffffffffff", 32_767)
"""Before every entry."""
