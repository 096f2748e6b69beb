"""Events become journals: once, in order, whatever is repeated, missing or wrong."""

import asyncio
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import pytest
from interchange.ledger.v1.ledger_events_pb2 import JournalsPosted
from interchange.ledger.v1.ledger_pb2 import JOURNAL_KIND_TRADE, JOURNAL_KIND_TRANSFER
from interchange.trade.v1.trade_pb2 import SIDE_BUY, SIDE_SELL

from native.journal import FEES, PENDING, SETTLED, STREET_PENDING, STREET_SETTLED
from services.common.events import Event
from tests.integration.test_ledger_scene import Scene, empty, opened, trade, transfer

INT64_MAX = 2**63 - 1


@pytest.fixture(scope="module")
async def ledger(request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    async with opened(request) as scene:
        yield scene


@pytest.fixture
async def books(ledger: Scene) -> Scene:
    await empty(ledger)
    return ledger


async def posted(books: Scene, account: str = "A1") -> list[tuple[int, JournalsPosted]]:
    """Return the numbers and messages of an account's ledger-events."""
    rows = await books.fetch(
        "SELECT e.sequence, e.payload FROM ledger.outbox AS o, "
        "unnest(o.keys, o.sequences, o.payloads) AS e(key, sequence, payload) "
        "WHERE o.topic = 'ledger-events' AND e.key = $1 ORDER BY e.sequence",
        account,
    )
    return [(row[0], JournalsPosted.FromString(row[1])) for row in rows]


async def test_purchase_moves_security_cash_and_fee(books: Scene) -> None:
    event = trade(1, fee_minor=125)

    await books.apply(event)

    assert await books.amount("XYZ", PENDING) == 100_000_000
    assert await books.amount("XYZ", STREET_PENDING) == -100_000_000
    assert await books.amount("USD", PENDING) == -100_125
    assert await books.amount("USD", STREET_PENDING) == 100_000
    assert await books.amount("USD", FEES) == 125
    entries = await books.fetch("SELECT * FROM ledger.entries ORDER BY leg")
    assert [row["leg"] for row in entries] == [0, 1, 2, 3, 4, 5]
    assert {str(row["journal_id"]) for row in entries} == {event.event_id}
    assert {row["instrument_id"] for row in entries} == {"XYZ"}


async def test_sale_is_the_opposite_of_a_purchase(books: Scene) -> None:
    await books.apply(trade(1), trade(2, side=SIDE_SELL))

    rows = await books.fetch("SELECT amount, entry_count, debit, credit FROM ledger.balances")
    assert len(rows) == 4
    assert {(row["amount"], row["entry_count"]) for row in rows} == {(0, 2)}
    assert all(row["debit"] == row["credit"] > 0 for row in rows)


async def test_transfers_settle_at_once_and_name_their_instrument(books: Scene) -> None:
    deposit = transfer(1)
    delivery = transfer(2, asset="XYZ", is_cash=False, amount=-7_000_000)

    await books.apply(deposit, delivery)

    assert await books.amount("USD", SETTLED) == 50_000
    assert await books.amount("USD", STREET_SETTLED) == -50_000
    assert await books.amount("XYZ", SETTLED) == -7_000_000
    rows = await books.fetch("SELECT DISTINCT asset, instrument_id FROM ledger.entries")
    assert {tuple(row) for row in rows} == {("USD", ""), ("XYZ", "XYZ")}


async def test_repeated_events_post_nothing(books: Scene) -> None:
    events = [trade(1), trade(2), transfer(1)]

    await books.apply(*events)
    await books.apply(*events)
    await books.apply(events[1], trade(3))

    check = await books.check()
    assert (check.journal_count, check.entry_count, check.duplicate_count) == (4, 14, 0)
    assert [number for number, _ in await posted(books)] == [1, 2, 3]


async def test_event_under_another_number_is_refused_by_the_primary_key(books: Scene) -> None:
    first = trade(1)
    await books.apply(first)

    await books.apply(trade(2, event_id=first.event_id), trade(1, "A2"))

    check = await books.check()
    assert (check.journal_count, check.differences) == (2, [])
    parked = await books.fetch("SELECT key, state, reason FROM ledger.parked_keys")
    assert [(row["key"], row["state"]) for row in parked] == [("A1", "POISONED")]
    assert "UniqueViolation" in parked[0]["reason"]


async def test_events_out_of_order_wait_for_the_missing_one(books: Scene) -> None:
    events = [trade(number) for number in range(1, 6)]

    await books.apply(events[0], events[2], events[3])
    assert (await books.check()).journal_count == 1
    await books.apply(events[1], events[4])
    for _ in range(3):
        await books.applier.tend()

    check = await books.check()
    assert (check.journal_count, check.duplicate_count, check.differences) == (5, 0, [])
    assert await books.value("SELECT count(*) FROM ledger.parked_keys") == 0


async def test_accounts_are_told_of_their_journals_by_kind(books: Scene) -> None:
    trades = [trade(1), trade(2), trade(1, "A2")]
    deposit = transfer(1)

    await books.apply(*trades, deposit)
    await books.apply(trade(3))

    first, second, third = await posted(books)
    assert first[1] == JournalsPosted(
        account_id="A1",
        journal_ids=[event.event_id for event in trades[:2]],
        kind=JOURNAL_KIND_TRADE,
        source_sequence=2,
    )
    assert second[1].kind == JOURNAL_KIND_TRANSFER
    assert list(second[1].journal_ids) == [deposit.event_id]
    assert (third[0], third[1].source_sequence) == (3, 3)
    assert [number for number, _ in await posted(books, "A2")] == [1]


async def test_same_account_of_two_tenants_has_two_books(books: Scene) -> None:
    await books.apply(trade(1), trade(1, tenant="other"), transfer(1, tenant="other"))

    assert (await books.check("acme")).journal_count == 1
    assert (await books.check("other")).journal_count == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"side": 0},
        {"gross_minor": 0},
        {"quantity_micros": -1},
        {"fee_minor": -1},
        {"currency": "ZZZ"},
        {"account_id": "A9"},
        {"event_id": "no-uuid"},
        {"instrument_id": ""},
    ],
)
async def test_what_no_journal_can_hold_parks_its_key_alone(
    books: Scene, changes: dict[str, Any]
) -> None:
    wrong = trade(1)
    wrong.payload = trade(1, **changes).payload

    await books.apply(wrong, trade(2), trade(1, "A2"))

    assert await books.value("SELECT array_agg(key) FROM ledger.parked_keys") == ["A1"]
    check = await books.check()
    assert (check.journal_count, check.entry_count, check.differences) == (1, 4, [])


async def test_balance_that_would_overflow_is_refused(books: Scene) -> None:
    await books.apply(transfer(1, amount=INT64_MAX), transfer(1, "A2"))

    await books.apply(transfer(2, amount=1), transfer(2, "A2"))

    assert await books.amount("USD", SETTLED) == INT64_MAX
    assert await books.amount("USD", SETTLED, "A2") == 100_000
    assert await books.value("SELECT array_agg(key) FROM ledger.parked_keys") == ["A1"]
    assert (await books.check()).differences == []


async def test_turnover_outgrows_64_bits(books: Scene) -> None:
    amounts = [INT64_MAX, -INT64_MAX, INT64_MAX, -INT64_MAX]

    for sequence, amount in enumerate(amounts, 1):
        await books.apply(transfer(sequence, amount=amount))

    assert await books.amount("USD", SETTLED) == 0
    debit = await books.value("SELECT max(debit) FROM ledger.balances")
    assert debit == 2 * INT64_MAX


async def test_balances_equal_sums_after_random_batches(books: Scene) -> None:
    random = Random(20_260_101)
    sequences: dict[tuple[str, str, str], int] = {}

    def following(kind: str, tenant: str, account: str) -> int:
        key = (kind, tenant, account)
        sequences[key] = sequences.get(key, 0) + 1
        return sequences[key]

    def random_event() -> Event:
        tenant, account = random.choice(["acme", "other"]), f"A{random.randrange(20)}"
        if random.random() < 0.2:
            amount = random.randrange(1, 10**9) * random.choice([1, -1])
            sequence = following("transfer", tenant, account)
            return transfer(sequence, account, tenant, amount=amount)
        return trade(
            following("trade", tenant, account),
            account,
            tenant,
            instrument_id=f"I{random.randrange(10)}",
            side=random.choice([SIDE_BUY, SIDE_SELL]),
            quantity_micros=random.randrange(1, 10**10),
            gross_minor=random.randrange(1, 10**10),
            fee_minor=random.choice([0, random.randrange(10**4)]),
            currency=random.choice(["USD", "EUR", "JPY"]),
        )

    for _ in range(20):
        await books.apply(*(random_event() for _ in range(random.randrange(1, 200))))

    for tenant in ("acme", "other"):
        check = await books.check(tenant)
        assert check.journal_count == sum(n for key, n in sequences.items() if key[1] == tenant)
        assert (check.unbalanced, check.differences, check.duplicate_count) == ([], [], 0)
        assert check.balance_count > 100


async def test_instances_that_share_accounts_do_not_deadlock(books: Scene) -> None:
    """Trades and transfers of the same accounts come from two partitions, in two orders."""
    accounts = [f"A{number}" for number in range(40)]

    async def trades(offset: int) -> None:
        for sequence in range(1, 11):
            order = accounts[offset:] + accounts[:offset]
            await books.apply(*(trade(sequence, account) for account in order))

    async def transfers() -> None:
        for sequence in range(1, 11):
            await books.apply(*(transfer(sequence, account) for account in reversed(accounts)))

    await asyncio.gather(trades(7), transfers())

    check = await books.check()
    assert (check.journal_count, check.differences, check.unbalanced) == (800, [], [])
    assert [number for number, _ in await posted(books)] == list(range(1, 21))
