from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Int64s: TypeAlias = NDArray[np.int64]
UInt8s: TypeAlias = NDArray[np.uint8]

PENDING: Final = 1
SETTLED: Final = 2
STREET_PENDING: Final = 3
STREET_SETTLED: Final = 4
FEES: Final = 5

OK: Final = 0
OVERFLOW: Final = 1

class Entries(NamedTuple):
    """Columns of k entries, adjacent by journal, legs counted from 0."""

    journal: Int64s
    leg: UInt8s
    sub_account: UInt8s
    asset: Int64s
    amount: Int64s

def trade_entries(
    security: Int64s, cash: Int64s, quantity: Int64s, amount: Int64s, fee: Int64s
) -> Entries:
    """Write the trade-date journals of n trades, four or six entries each."""

def transfer_entries(asset: Int64s, amount: Int64s) -> Entries:
    """Write the journals of n transfers (deposit +), two entries each."""

def reverse(entries: Entries) -> Entries:
    """Return the entries with every amount negated, the rest shared."""

def unbalanced(journal: Int64s, asset: Int64s, amount: Int64s, journals: int) -> UInt8s:
    """Flag the journals whose sum for some asset is not zero."""

def totals(slot: Int64s, amount: Int64s, slots: int) -> tuple[Int64s, UInt8s]:
    """Sum the amounts of each slot to (sums, status)."""
