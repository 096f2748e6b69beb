"""The laws: what must hold between what was sent and what is seen, whatever happened.

Each law yields a sentence for every breach that it finds.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import TypeAlias

from tests.native.reference import lots as reference
from tests.sim.books.seen import Seen
from tests.sim.books.sent import TRADES, TRANSFERS, Sent

Law: TypeAlias = Callable[[Sent, Seen], Iterator[str]]
Rows: TypeAlias = "Counter[tuple[object, ...]]"

PENDING, SETTLED, STREET_PENDING, STREET_SETTLED, FEES = range(1, 6)
CURRENCY, SECURITY = 1, 2
SIGNS = {1: 1, 2: -1}
SHOWN = 5


def breaches(sent: Sent, seen: Seen) -> list[str]:
    """Return what breaks a law, a few of each."""
    found = list(sent.problems)
    for law in LAWS:
        broken = list(law(sent, seen))
        found += [f"{law.__name__}: {one}" for one in broken[:SHOWN]]
        if len(broken) > SHOWN:
            found.append(f"{law.__name__}: and {len(broken) - SHOWN} more")
    return found


def acknowledged_trades_are_stored_once(sent: Sent, seen: Seen) -> Iterator[str]:
    """Nothing is lost, nothing is booked twice, nothing is booked that nobody was told of."""
    expected = Counter(
        (one.trade_id, one.account, one.sequence, *one.fill) for one in sent.trades.values()
    )
    stored = Counter(
        (
            one.trade_id,
            one.account,
            one.sequence,
            one.instrument,
            one.currency,
            SIGNS[one.side] * one.quantity,
            SIGNS[one.side] * one.gross,
            one.fee,
        )
        for one in seen.trades
    )
    yield from _difference("trade", expected, stored)


def events_are_numbered_without_gaps(sent: Sent, seen: Seen) -> Iterator[str]:
    """Each key's events leave in the order 1, 2, 3 …, over all transactions."""
    for (topic, key), numbers in seen.numbers.items():
        if numbers != list(range(1, len(numbers) + 1)):
            yield f"{topic} of {key} are numbered {numbers}"
    told = {(TRADES, account): last for account, last in sent.last().items()}
    for key, last in told.items():
        if len(seen.numbers.get(key, ())) != last:
            yield f"{key} has {len(seen.numbers.get(key, ()))} events, expected {last}"


def followers_have_applied_everything(sent: Sent, seen: Seen) -> Iterator[str]:
    """Watermarks stand at the last number of each key."""
    for service in ("position", "ledger"):
        for (topic, key), numbers in seen.numbers.items():
            mark = seen.marks.get((service, topic, key), 0)
            if topic in (TRADES, TRANSFERS) and mark != numbers[-1]:
                yield f"{service} stands at {mark} of {numbers[-1]} {topic} of {key}"
    last: dict[str, int] = defaultdict(int)
    for account, sequence in sent.trades_of("position"):
        last[account] = max(last[account], sequence)
    for account, sequence in last.items():
        if seen.applied_trades.get(account) != sequence:
            said = seen.applied_trades.get(account)
            yield f"positions of {account} say trade {said}, expected {sequence}"


def nothing_is_parked(sent: Sent, seen: Seen) -> Iterator[str]:
    """No key waits, and no event of a key that is free."""
    yield from map(str, seen.parked)


def positions_are_the_fold_of_their_fills(sent: Sent, seen: Seen) -> Iterator[str]:
    """Folding what was sent, in the stored order, gives each change, position and lot."""
    fills = _fills(sent)
    unapplied = set(fills)
    states: dict[tuple[str, str], reference.Position] = defaultdict(reference.Position)
    for account, changes in groupby(seen.changes, lambda change: change.account):
        reached = {TRADES: 0, TRANSFERS: 0}
        for number, change in enumerate(changes, 1):
            source = change.topic, account, change.source_sequence
            if change.sequence != number or change.source_sequence <= reached[change.topic]:
                yield f"out of order: {change}"
            reached[change.topic] = change.source_sequence
            if source not in fills:
                yield f"nobody sent {change}"
                continue
            unapplied.discard(source)
            event_id, instrument, quantity, amount, transfer = fills[source]
            opened = number if sent.fifo[account] else None
            state = states[account, instrument]
            after = reference.apply_fill(state, quantity, amount, transfer, opened)
            expected = (event_id, instrument, quantity, *after[:3])
            stored = (change.event_id, change.instrument, change.quantity_change, *change[7:10])
            if stored != expected:
                yield f"change {account} {number} is {stored}, expected {expected}"
    yield from (f"never applied: {source}" for source in sorted(unapplied))
    held = Counter(
        (p.account, p.instrument, p.quantity, p.cost, p.realized) for p in seen.positions
    )
    folded = Counter(
        (*key, state.quantity, state.cost, state.realized) for key, state in states.items()
    )
    yield from _difference("position", folded, held)
    left = Counter(
        (*key, opened, quantity, cost)
        for key, state in states.items()
        for quantity, cost, opened in state.lots
    )
    yield from _difference("lot", left, Counter(map(tuple, seen.lots)))


def announced_positions_are_the_positions(sent: Sent, seen: Seen) -> Iterator[str]:
    """Who follows position-events ends where the positions are."""
    announced = Counter(seen.announced_positions.values())
    yield from _difference("announcement", Counter(seen.positions), announced)


def each_event_has_one_journal(sent: Sent, seen: Seen) -> Iterator[str]:
    """A trade has one journal that bears its id and date, a transfer one that bears its own."""
    dates = {one.trade_id: one.trade_date for one in seen.trades}
    trades = sent.trades_of("ledger").values()
    transfers = sent.transfers_of("ledger").values()
    expected = Counter((one.trade_id, one.account, 1, one.trade_id, one.sequence) for one in trades)
    expected += Counter(
        (one.transfer_id, one.account, 2, one.transfer_id, one.sequence) for one in transfers
    )
    yield from _difference("journal", expected, Counter(tuple(one[:5]) for one in seen.journals))
    for one in seen.journals:
        if one.kind == 1 and dates.get(one.source_id) != one.effective_date:
            yield f"{one} is not of the trade's date"
    announced = Counter(seen.announced_journals)
    stored = Counter((one.account, one.journal_id) for one in seen.journals)
    yield from _difference("announcement", stored, announced)


def journals_are_balanced(sent: Sent, seen: Seen) -> Iterator[str]:
    """The legs of a journal sum to zero for each asset, and so do all of them together."""
    sums: dict[tuple[str, str, int], int] = defaultdict(int)
    for entry in seen.entries:
        sums[entry.journal_id, entry.asset, entry.asset_kind] += entry.amount
        sums["all", entry.asset, entry.asset_kind] += entry.amount
    yield from (f"{key} sums to {amount}" for key, amount in sums.items() if amount)
    with_entries = {entry.journal_id for entry in seen.entries}
    without = {one.journal_id for one in seen.journals} ^ with_entries
    yield from (f"{journal_id} has no header or no entries" for journal_id in without)


def balances_are_the_sums_of_entries(sent: Sent, seen: Seen) -> Iterator[str]:
    """Amount, turnovers and number of entries."""
    sums: dict[tuple[str, str, int, int], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for entry in seen.entries:
        total = sums[entry.account, entry.asset, entry.asset_kind, entry.sub_account]
        total[0] += entry.amount
        total[1] += 1
        total[2 if entry.amount > 0 else 3] += abs(entry.amount)
    expected = Counter((*key, *total) for key, total in sums.items())
    yield from _difference("balance", expected, Counter(map(tuple, seen.balances)))


def books_say_what_was_sent(sent: Sent, seen: Seen) -> Iterator[str]:
    """Pending cash is what trades paid with their fees, settled is what was transferred."""
    sums: dict[tuple[str, str, int, int], int] = defaultdict(int)

    def move(account: str, asset: str, kind: int, amount: int, to: int, other: int) -> None:
        sums[account, asset, kind, to] += amount
        sums[account, asset, kind, other] -= amount

    for trade in sent.trades_of("ledger").values():
        account, fill = trade.account, trade.fill
        move(account, fill.instrument, SECURITY, fill.quantity, PENDING, STREET_PENDING)
        move(account, fill.currency, CURRENCY, -fill.amount, PENDING, STREET_PENDING)
        move(account, fill.currency, CURRENCY, -fill.fee, PENDING, FEES)
    for one in sent.transfers_of("ledger").values():
        kind = CURRENCY if one.is_cash else SECURITY
        move(one.account, one.asset, kind, one.amount, SETTLED, STREET_SETTLED)
    stored = {tuple(one[:4]): one.amount for one in seen.balances}
    for key in {*sums, *stored}:
        if sums.get(key, 0) != stored.get(key, 0):
            yield f"{key} is {stored.get(key, 0)}, expected {sums.get(key, 0)}"


def positions_and_ledger_agree(sent: Sent, seen: Seen) -> Iterator[str]:
    """The trade-date quantity of the books, pending and settled, is the position's."""
    books: dict[tuple[str, str], int] = defaultdict(int)
    for one in seen.balances:
        if one.asset_kind == SECURITY and one.sub_account in (PENDING, SETTLED):
            books[one.account, one.asset] += one.amount
    held = {(one.account, one.instrument): one.quantity for one in seen.positions}
    # What only one of the two was told to leave out is missing there, and only there.
    for skip in sent.skipped:
        sign = 1 if skip.service == "position" else -1
        for asset, quantity in _quantity(sent, skip.topic, skip.account, skip.sequence):
            key = skip.account, asset
            held[key] = held.get(key, 0) + sign * quantity
    for key in {*books, *held}:
        if books.get(key, 0) != held.get(key, 0):
            yield f"{key}: ledger {books.get(key, 0)}, position {held.get(key, 0)}"


LAWS: tuple[Law, ...] = (
    acknowledged_trades_are_stored_once,
    events_are_numbered_without_gaps,
    followers_have_applied_everything,
    nothing_is_parked,
    positions_are_the_fold_of_their_fills,
    announced_positions_are_the_positions,
    each_event_has_one_journal,
    journals_are_balanced,
    balances_are_the_sums_of_entries,
    books_say_what_was_sent,
    positions_and_ledger_agree,
)

Source: TypeAlias = tuple[str, str, int]
"""Topic, account and sequence."""


def _fills(sent: Sent) -> dict[Source, tuple[str, str, int, int, int]]:
    """Return event id, instrument, quantity, amount and whether it is a transfer."""
    fills: dict[Source, tuple[str, str, int, int, int]] = {}
    for (account, sequence), one in sent.trades_of("position").items():
        fill = one.fill
        fills[TRADES, account, sequence] = (
            one.trade_id,
            fill.instrument,
            fill.quantity,
            fill.amount,
            0,
        )
    for (account, sequence), moved in sent.transfers_of("position").items():
        if not moved.is_cash:
            fills[TRANSFERS, account, sequence] = (
                moved.transfer_id,
                moved.asset,
                moved.amount,
                moved.cost,
                1,
            )
    return fills


def _quantity(sent: Sent, topic: str, account: str, sequence: int) -> Iterator[tuple[str, int]]:
    """Yield the security that an event moved, if it moved one."""
    if topic == TRADES:
        for trade in sent.trades.values():
            if (trade.account, trade.sequence) == (account, sequence):
                yield trade.fill.instrument, trade.fill.quantity
        return
    for one in sent.transfers.values():
        if (one.account, one.sequence) == (account, sequence) and not one.is_cash:
            yield one.asset, one.amount


def _difference(what: str, expected: Rows, found: Rows) -> Iterator[str]:
    yield from (f"{what} is missing: {one}" for one in (expected - found).elements())
    yield from (f"{what} too many: {one}" for one in (found - expected).elements())
