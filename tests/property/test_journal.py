from hypothesis import given
from hypothesis import strategies as st

from native import journal
from tests.native.arrays import i64, lists, quick

# Small assets on purpose: a trade of a currency against itself must balance too.
assets = st.integers(0, 3)
amounts = st.one_of(st.integers(-50, 50), st.integers(-(2**63) + 1, 2**63 - 1))
trades = st.lists(
    st.tuples(assets, assets, amounts, amounts, st.integers(0, 2**63 - 1) | st.just(0)),
    min_size=1,
    max_size=12,
)


def written(rows: list[tuple[int, ...]]) -> journal.Entries:
    return journal.trade_entries(*(i64([row[i] for row in rows]) for i in range(5)))


def flags(entries: journal.Entries, journals: int) -> list[int]:
    return journal.unbalanced(entries.journal, entries.asset, entries.amount, journals).tolist()


@quick
@given(trades)
def test_every_journal_balances_and_so_does_its_reverse(rows: list[tuple[int, ...]]) -> None:
    entries = written(rows)
    assert flags(entries, len(rows)) == [0] * len(rows)
    assert flags(journal.reverse(entries), len(rows)) == [0] * len(rows)


@quick
@given(trades)
def test_a_journal_and_its_reverse_sum_to_zero_everywhere(rows: list[tuple[int, ...]]) -> None:
    entries = written(rows)
    opposite = journal.reverse(entries)
    slot = [int(s) * 4 + int(a) for s, a in zip(entries.sub_account, entries.asset, strict=True)]
    both = entries.amount.tolist() + opposite.amount.tolist()
    assert lists(journal.totals(i64(slot * 2), i64(both), 24)) == ([0] * 24, [0] * 24)


@quick
@given(trades)
def test_reversing_twice_changes_nothing(rows: list[tuple[int, ...]]) -> None:
    entries = written(rows)
    assert lists(journal.reverse(journal.reverse(entries))) == lists(entries)


@quick
@given(trades, st.data())
def test_one_entry_that_is_off_flags_its_journal_alone(
    rows: list[tuple[int, ...]], data: st.DataObject
) -> None:
    entries = written(rows)
    at = data.draw(st.integers(0, len(entries.amount) - 1))
    amount = entries.amount.copy()
    amount[at] += 1 if amount[at] < 0 else -1
    expected = [0] * len(rows)
    expected[int(entries.journal[at])] = 1
    assert flags(entries._replace(amount=amount), len(rows)) == expected


@quick
@given(trades, st.randoms(use_true_random=False))
def test_the_order_of_entries_does_not_matter(rows: list[tuple[int, ...]], random: object) -> None:
    entries = written(rows)
    order = list(range(len(entries.amount)))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = journal.Entries(*(column[order] for column in entries))
    assert flags(shuffled, len(rows)) == flags(entries, len(rows))
    assert lists(journal.totals(shuffled.asset, shuffled.amount, 4)) == lists(
        journal.totals(entries.asset, entries.amount, 4)
    )


@quick
@given(trades)
def test_legs_count_from_zero_within_each_journal(rows: list[tuple[int, ...]]) -> None:
    entries = written(rows)
    assert entries.journal.tolist() == sorted(entries.journal.tolist())
    for at, row in enumerate(rows):
        legs = entries.leg[entries.journal == at].tolist()
        assert legs == list(range(6 if row[4] else 4))
