"""Checks from the outside: what was recounted beside what is stored."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from services.stack import recount
from services.stack.recount import Holding, Recount
from services.stack.rest import CASH, PENDING, SETTLED, StoredBalance, StoredPosition

K = TypeVar("K")

DIFFERENCES_MAX = 10
"""Differences that a check names; it counts them all."""
ENTRIES_A_TRADE = 4
ENTRIES_A_FEE = 2
ENTRIES_A_TRANSFER = 2

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Check:
    """Two figures that must agree, and where they don't."""

    name: str
    recounted: str
    stored: str
    passed: bool
    differences: Sequence[str] = ()


def equal(name: str, recounted: int, stored: int) -> Check:
    """Return the check of two numbers."""
    return Check(name, f"{recounted:,}", f"{stored:,}", recounted == stored)


def position_checks(
    recounted: Mapping[Pair, Holding],
    stored: Mapping[Pair, StoredPosition],
    skipped: Collection[Pair] = (),
) -> list[Check]:
    """Compare every pair of account and instrument; `skipped` had more than trades."""
    ours = {pair: holding for pair, holding in recounted.items() if pair not in skipped}
    accounts = {account for account, _ in ours}
    theirs = {
        pair: position
        for pair, position in stored.items()
        if pair[0] in accounts and pair not in skipped
    }
    checks = [
        equal("positions, by account and instrument", len(ours), len(theirs)),
        _compared(
            "quantity, gross",
            {pair: holding.quantity for pair, holding in ours.items()},
            {pair: position.quantity for pair, position in theirs.items()},
            recount.QUANTITY_DECIMALS,
            lambda values: sum(map(abs, values)),
        ),
    ]
    for currency in sorted({holding.currency for holding in ours.values()}):
        mine = {pair: it for pair, it in ours.items() if it.currency == currency}
        its = {pair: it for pair, it in theirs.items() if it.currency == currency}
        decimals = recount.exponent(currency)
        for name, field, digits in (
            ("open cost", "cost", decimals),
            ("average cost, sum", "average_cost", recount.PRICE_DECIMALS),
            ("realised P&L", "realized", decimals),
        ):
            checks.append(
                _compared(
                    f"{name} {currency}",
                    {pair: getattr(holding, field) for pair, holding in mine.items()},
                    {pair: getattr(position, field) for pair, position in its.items()},
                    digits,
                )
            )
    return checks


def cash_checks(counted: Recount, stored: Mapping[str, Sequence[StoredBalance]]) -> list[Check]:
    """Compare the cash of every account on trade date: pending and settled."""
    ours = counted.cash()
    accounts = {account for account, _ in ours}
    theirs: dict[Pair, int] = {}
    for account in accounts:
        for balance in stored.get(account, ()):
            if balance.is_cash and balance.sub_account in (PENDING, SETTLED):
                key = account, balance.asset
                theirs[key] = theirs.get(key, 0) + balance.amount
    return [
        _compared(
            f"cash {currency}",
            {key: value for key, value in ours.items() if key[1] == currency},
            {key: value for key, value in theirs.items() if key[1] == currency},
            recount.exponent(currency),
        )
        for currency in sorted({currency for _, currency in (*ours, *theirs)})
    ]


def entry_check(
    counted: Recount, transfers: Mapping[str, int], stored: Mapping[str, Sequence[StoredBalance]]
) -> Check:
    """Compare the entries of each account: a journal missing or twice would show."""
    ours = {
        account: ENTRIES_A_TRADE * len(fills)
        + ENTRIES_A_FEE * sum(fill.fee != 0 for fill in fills.values())
        + ENTRIES_A_TRANSFER * transfers.get(account, 0)
        for account, fills in counted.fills.items()
    }
    theirs = {
        account: sum(balance.entries for balance in stored.get(account, ())) for account in ours
    }
    return _compared("ledger entries, none missing or twice", ours, theirs, 0)


def sums(name: str, recounted: Mapping[K, int], stored: Mapping[K, int]) -> Check:
    """Compare figures of several assets: what is shown is how many there are."""
    found = _compared(name, recounted, stored, 0)
    return Check(name, f"{len(recounted):,}", f"{len(stored):,}", found.passed, found.differences)


def trial_checks(lines: Iterable[Mapping[str, Any]]) -> list[Check]:
    """Sum the trial balance by asset: debit is recounted, credit stored, both must agree."""
    sums: dict[tuple[str, bool], list[int]] = {}
    for line in lines:
        key = line["asset"], line["assetKind"] == CASH
        decimals = recount.exponent(key[0]) if key[1] else recount.QUANTITY_DECIMALS
        total = sums.setdefault(key, [0, 0, 0])
        for at, name in enumerate(("debit", "credit", "net")):
            total[at] += recount.scaled(line[name]["value"], decimals)
    checks = []
    for (asset, is_cash), (debit, credit, net) in sorted(sums.items()):
        decimals = recount.exponent(asset) if is_cash else recount.QUANTITY_DECIMALS
        texts = recount.text(debit, decimals), recount.text(credit, decimals)
        checks.append(Check(asset, *texts, debit == credit and net == 0))
    return checks


def _compared(
    name: str,
    ours: Mapping[K, int],
    theirs: Mapping[K, int],
    decimals: int,
    total: Callable[[Iterable[int]], int] = sum,
) -> Check:
    wrong = [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]
    differences = [
        f"{_name(key)}: recounted {_shown(ours.get(key), decimals)}, "
        f"stored {_shown(theirs.get(key), decimals)}"
        for key in wrong[:DIFFERENCES_MAX]
    ]
    if len(wrong) > DIFFERENCES_MAX:
        differences.append(f"and {len(wrong) - DIFFERENCES_MAX} more")
    return Check(
        name,
        recount.text(total(ours.values()), decimals),
        recount.text(total(theirs.values()), decimals),
        not wrong,
        differences,
    )


def _name(key: object) -> str:
    return " ".join(map(str, key)) if isinstance(key, tuple) else str(key)


def _shown(value: int | None, decimals: int) -> str:
    return "nothing" if value is None else recount.text(value, decimals)
