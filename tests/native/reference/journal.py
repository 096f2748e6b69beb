"""native.journal, in Python that can be read against its specification."""

from collections import defaultdict
from collections.abc import Sequence

from tests.native.reference.money import INT64_MIN, fits

PENDING, SETTLED, STREET_PENDING, STREET_SETTLED, FEES = range(1, 6)
OK, OVERFLOW = range(2)

Columns = tuple[list[int], list[int], list[int], list[int], list[int]]


def trade_entries(
    security: Sequence[int],
    cash: Sequence[int],
    quantity: Sequence[int],
    amount: Sequence[int],
    fee: Sequence[int],
) -> Columns:
    """Return the columns of the trade-date journals."""
    if fee and min(fee) < 0:
        raise ValueError(f"fee was {min(fee)}, expected >= 0")
    expect_negatable(quantity)
    expect_negatable(amount)
    rows = []
    trades = zip(security, cash, quantity, amount, fee, strict=True)
    for journal, (asset, currency, q, a, charged) in enumerate(trades):
        rows.append((journal, 0, PENDING, asset, q))
        rows.append((journal, 1, STREET_PENDING, asset, -q))
        rows.append((journal, 2, PENDING, currency, -a))
        rows.append((journal, 3, STREET_PENDING, currency, a))
        if charged:
            rows.append((journal, 4, PENDING, currency, -charged))
            rows.append((journal, 5, FEES, currency, charged))
    return columns(rows)


def transfer_entries(asset: Sequence[int], amount: Sequence[int]) -> Columns:
    """Return the columns of the journals of transfers."""
    expect_negatable(amount)
    rows = []
    for journal, (moved, value) in enumerate(zip(asset, amount, strict=True)):
        rows.append((journal, 0, SETTLED, moved, value))
        rows.append((journal, 1, STREET_SETTLED, moved, -value))
    return columns(rows)


def reverse(entries: tuple[list[int], ...]) -> Columns:
    """Return the entries with negated amounts and the same other columns."""
    journal, leg, sub_account, asset, amount = entries
    if len({len(column) for column in entries}) != 1:
        raise ValueError("columns were of several lengths")
    expect_negatable(amount)
    return journal, leg, sub_account, asset, [-value for value in amount]


def unbalanced(
    journal: Sequence[int], asset: Sequence[int], amount: Sequence[int], journals: int
) -> list[int]:
    """Flag the journals whose sum for some asset is not zero."""
    expect_indexes(journal, journals)
    sums: defaultdict[tuple[int, int], int] = defaultdict(int)
    for j, asset_of_entry, value in zip(journal, asset, amount, strict=True):
        sums[j, asset_of_entry] += value
    flags = [0] * journals
    for (j, _), total in sums.items():
        if total != 0:
            flags[j] = 1
    return flags


def totals(slot: Sequence[int], amount: Sequence[int], slots: int) -> tuple[list[int], list[int]]:
    """Sum the amounts of each slot to (sums, status)."""
    expect_indexes(slot, slots)
    sums = [0] * slots
    for at, value in zip(slot, amount, strict=True):
        sums[at] += value
    status = [OK if fits(total) else OVERFLOW for total in sums]
    return [total if fits(total) else 0 for total in sums], status


def expect_negatable(values: Sequence[int]) -> None:
    """Raise OverflowError for the one int64 whose negative is none."""
    if INT64_MIN in values:
        raise OverflowError(f"value was {INT64_MIN}, which has no negative")


def expect_indexes(indexes: Sequence[int], size: int) -> None:
    """Raise IndexError unless 0 <= indexes < size throughout."""
    if indexes and (min(indexes) < 0 or max(indexes) >= size):
        raise IndexError(f"an index was outside 0 to {size - 1}")


def columns(rows: list[tuple[int, int, int, int, int]]) -> Columns:
    """Turn rows of entries into their columns."""
    journal, leg, sub_account, asset, amount = ([row[i] for row in rows] for i in range(5))
    return journal, leg, sub_account, asset, amount
