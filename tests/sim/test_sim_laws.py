"""The laws themselves: each breach that is planted into good books is found."""

from collections.abc import Callable
from copy import deepcopy
from datetime import date, timedelta

import pytest

from tests.sim.books.laws import LAWS, breaches
from tests.sim.books.seen import (
    Balance,
    Change,
    Entry,
    Journal,
    LotSeen,
    Parked,
    PositionSeen,
    Seen,
    TradeSeen,
)
from tests.sim.books.sent import TRADES, Fill, Sent, Skip, Trade

ID = "019cade6-0e9c-749b-964e-a1a5a84aa642"
DAY = date(2026, 3, 2)
HELD = PositionSeen("ACC", "AIG", "USD", 100, 5_000, 0, 1)
LEGS = (
    ("AIG", 2, 100, 1, 3),
    ("USD", 1, -5_000, 1, 3),
    ("USD", 1, -25, 1, 5),
)
"""Asset, kind, amount, and the two sub-accounts between which it moves."""


def sent() -> Sent:
    """Return one purchase that was acknowledged, by an account that keeps lots."""
    trade = Trade(ID, "ACC", 1, Fill("AIG", "USD", 100, 5_000, 25))
    return Sent(trades={ID: trade}, fifo={"ACC": True})


def seen() -> Seen:
    """Return what all services hold of it."""
    entries = [
        Entry(ID, "ACC", sub_account, asset, kind, sign * amount, "AIG")
        for asset, kind, amount, to, other in LEGS
        for sign, sub_account in ((1, to), (-1, other))
    ]
    return Seen(
        trades=[TradeSeen(ID, "ACC", 1, "AIG", 1, 100, 5_000, 25, "USD", DAY)],
        changes=[Change("ACC", 1, "AIG", TRADES, 1, ID, 100, 100, 5_000, 0, 1)],
        positions=[HELD],
        lots=[LotSeen("ACC", "AIG", 1, 100, 5_000)],
        applied_trades={"ACC": 1},
        journals=[Journal(ID, "ACC", 1, ID, 1, DAY)],
        entries=entries,
        balances=[
            Balance("ACC", "AIG", 2, 1, 100, 1, 100, 0),
            Balance("ACC", "AIG", 2, 3, -100, 1, 0, 100),
            Balance("ACC", "USD", 1, 1, -5_025, 2, 0, 5_025),
            Balance("ACC", "USD", 1, 3, 5_000, 1, 5_000, 0),
            Balance("ACC", "USD", 1, 5, 25, 1, 25, 0),
        ],
        numbers={(TRADES, "ACC"): [1]},
        marks={("position", TRADES, "ACC"): 1, ("ledger", TRADES, "ACC"): 1},
        parked=[],
        announced_positions={("ACC", "AIG"): HELD},
        announced_journals=[("ACC", ID)],
    )


def _replace(name: str, **changes: object) -> Callable[[Seen], None]:
    def plant(books: Seen) -> None:
        rows = getattr(books, name)
        rows[0] = rows[0]._replace(**changes)

    return plant


PLANTED: dict[str, Callable[[Seen], object]] = {
    "acknowledged_trades_are_stored_once": lambda books: books.trades.append(books.trades[0]),
    "events_are_numbered_without_gaps": lambda books: books.numbers[TRADES, "ACC"].append(3),
    "followers_have_applied_everything": lambda books: books.marks.popitem(),
    "nothing_is_parked": lambda books: books.parked.append(
        Parked("ledger", TRADES, "ACC", "GAP", "")
    ),
    "positions_are_the_fold_of_their_fills": _replace("positions", cost=4_999),
    "announced_positions_are_the_positions": lambda books: books.announced_positions.clear(),
    "each_event_has_one_journal": _replace("journals", effective_date=DAY + timedelta(1)),
    "journals_are_balanced": lambda books: books.entries.pop(),
    "balances_are_the_sums_of_entries": _replace("balances", entries=2),
    "books_say_what_was_sent": _replace("balances", amount=101),
    "positions_and_ledger_agree": lambda books: books.balances.pop(0),
}


def test_good_books_break_no_law() -> None:
    assert breaches(sent(), seen()) == []


def test_every_law_has_a_breach_planted() -> None:
    assert set(PLANTED) == {law.__name__ for law in LAWS}


@pytest.mark.parametrize("law", PLANTED)
def test_breach_of_a_law_is_found(law: str) -> None:
    books = seen()
    PLANTED[law](books)

    assert law in {one.partition(":")[0] for one in breaches(sent(), books)}


def test_lost_trade_is_found_by_every_part_of_the_books() -> None:
    told = sent()
    told.booked(Trade("019cade6-0e9c-749b-964e-a1a5a84aa643", "ACC", 2, told.trades[ID].fill))

    broken = {one.partition(":")[0] for one in breaches(told, seen())}

    assert broken >= {
        "acknowledged_trades_are_stored_once",
        "events_are_numbered_without_gaps",
        "positions_are_the_fold_of_their_fills",
        "each_event_has_one_journal",
        "books_say_what_was_sent",
    }


def test_answers_that_contradict_each_other_are_found() -> None:
    told = sent()
    told.booked(told.trades[ID]._replace(sequence=2))

    assert "answered with" in breaches(told, seen())[0]


def test_skipped_event_is_expected_to_be_missing_where_it_was_skipped() -> None:
    told, books = sent(), deepcopy(seen())
    told.skipped.add(Skip("position", TRADES, "ACC", 1))
    books.changes, books.positions, books.lots = [], [], []
    books.announced_positions, books.applied_trades = {}, {}

    assert breaches(told, books) == []
    assert breaches(sent(), books) != []
