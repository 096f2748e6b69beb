"""What requests read of the books: journals, entries by page, balances, watermarks."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.type.date_pb2 import Date
from interchange.ledger.v1 import ledger_service_pb2 as pb
from interchange.ledger.v1.ledger_pb2 import (
    ASSET_KIND_CURRENCY,
    ASSET_KIND_SECURITY,
    JOURNAL_KIND_TRADE,
    SUB_ACCOUNT_FEES,
    SUB_ACCOUNT_PENDING,
    SUB_ACCOUNT_SETTLED,
    Balance,
    Entry,
)
from interchange.trade.v1.trade_pb2 import SIDE_SELL

from services.common import deadline
from services.common.errors import FailedPrecondition, InvalidArgument, NotFound
from tests.integration.test_ledger_scene import Scene, empty, new_id, opened, trade, transfer

CONTEXT: Any = None
"""The servicer does not look at it."""


@pytest.fixture(scope="module")
async def ledger(request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    async with opened(request) as scene:
        yield scene


@pytest.fixture
async def books(ledger: Scene) -> Scene:
    await empty(ledger)
    ledger.enter("acme")
    return ledger


async def pages(books: Scene, size: int, **fields: Any) -> list[list[Entry]]:
    found: list[list[Entry]] = []
    token = ""
    while not found or token:
        request = pb.ListEntriesRequest(page_size=size, page_token=token, **fields)
        response = await books.servicer.ListEntries(request, CONTEXT)
        found.append(list(response.entries))
        token = response.next_page_token
    return found


async def balance(books: Scene, asset: str, **fields: Any) -> Balance:
    request = pb.GetBalanceRequest(account_id="A1", asset=asset, **fields)
    return await books.servicer.GetBalance(request, CONTEXT)


async def test_journal_is_returned_with_its_legs(books: Scene) -> None:
    event = trade(1, quantity_micros=1_500_000, gross_minor=12_345, fee_minor=5)
    await books.apply(event)

    journal = await books.servicer.GetJournal(
        pb.GetJournalRequest(journal_id=event.event_id), CONTEXT
    )

    assert journal.journal_id == journal.source_id == event.event_id
    assert (journal.account_id, journal.kind) == ("A1", JOURNAL_KIND_TRADE)
    assert journal.source_sequence == 1
    assert journal.effective_date == Date(year=2024, month=10, day=4)
    assert [entry.leg for entry in journal.entries] == [0, 1, 2, 3, 4, 5]
    amounts = [(entry.asset, entry.amount.value) for entry in journal.entries]
    assert amounts == [
        ("XYZ", "1.5"),
        ("XYZ", "-1.5"),
        ("USD", "-123.45"),
        ("USD", "123.45"),
        ("USD", "-0.05"),
        ("USD", "0.05"),
    ]
    assert journal.post_time.ToMicroseconds() > 0


@pytest.mark.parametrize("tenant", ["acme", "other"])
async def test_missing_and_foreign_journals_look_alike(books: Scene, tenant: str) -> None:
    event = trade(1, tenant="third")
    await books.apply(event)
    books.enter(tenant)

    for journal_id in (event.event_id, new_id()):
        with pytest.raises(NotFound):
            await books.servicer.GetJournal(pb.GetJournalRequest(journal_id=journal_id), CONTEXT)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 100])
@pytest.mark.parametrize("account", ["A1", "-"])
@pytest.mark.parametrize("asset", ["", "USD", "XYZ"])
async def test_pages_hold_each_entry_once_newest_first(
    books: Scene, account: str, asset: str, size: int
) -> None:
    await books.apply(transfer(1), trade(1, fee_minor=3), trade(1, "A2"), trade(2))
    await books.apply(trade(3, instrument_id="ABC"), transfer(2), trade(2, "A2", currency="EUR"))

    found = await pages(books, size, account_id=account, asset=asset)

    keys = [(entry.journal_id, entry.leg) for page in found for entry in page]
    rows = await books.fetch(
        "SELECT journal_id::text, leg FROM ledger.entries AS e WHERE tenant_id = 'acme' "
        "AND $1 IN (account_id, '-') AND $2 IN (asset, '') ORDER BY e.journal_id DESC, leg DESC",
        account,
        asset,
    )
    assert keys == [tuple(row) for row in rows]
    assert all(len(page) == size for page in found[:-1])
    assert {entry.account_id for page in found for entry in page} <= (
        {"A1", "A2"} if account == "-" else {account}
    )


async def test_lists_show_their_own_tenant_only(books: Scene) -> None:
    await books.apply(trade(1), trade(1, tenant="other"), transfer(1, tenant="other"))

    entries = await pages(books, 100, account_id="-")
    balances = await books.servicer.ListBalances(pb.ListBalancesRequest(account_id="-"), CONTEXT)
    trial = await books.servicer.GetTrialBalance(pb.GetTrialBalanceRequest(), CONTEXT)
    check = await books.servicer.CheckLedger(pb.CheckLedgerRequest(), CONTEXT)

    assert (len(entries[0]), len(balances.balances), len(trial.lines)) == (4, 4, 4)
    assert (check.journal_count, check.entry_count) == (1, 4)


async def test_page_token_of_another_list_is_refused(books: Scene) -> None:
    await books.apply(trade(1))
    first = await books.servicer.ListEntries(
        pb.ListEntriesRequest(account_id="A1", page_size=1), CONTEXT
    )

    for request in (
        pb.ListEntriesRequest(account_id="A2", page_token=first.next_page_token),
        pb.ListEntriesRequest(account_id="A1", asset="USD", page_token=first.next_page_token),
        pb.ListEntriesRequest(account_id="A1", page_token="nonsense"),
    ):
        with pytest.raises(InvalidArgument):
            await books.servicer.ListEntries(request, CONTEXT)


async def test_balance_follows_what_is_booked(books: Scene) -> None:
    await books.apply(trade(1, fee_minor=25), trade(2, side=SIDE_SELL), transfer(1))

    pending = await balance(books, "USD")
    assert (pending.amount.value, pending.asset_kind) == ("-0.25", ASSET_KIND_CURRENCY)
    assert (pending.sub_account, pending.entry_count) == (SUB_ACCOUNT_PENDING, 3)
    settled = await balance(books, "USD", sub_account=SUB_ACCOUNT_SETTLED)
    assert settled.amount.value == "500"
    fees = await balance(books, "USD", sub_account=SUB_ACCOUNT_FEES)
    assert fees.amount.value == "0.25"


async def test_what_was_never_booked_has_a_balance_of_zero(books: Scene) -> None:
    for asset, kind in (("USD", ASSET_KIND_CURRENCY), ("XYZ", ASSET_KIND_SECURITY)):
        found = await balance(books, asset)
        assert (found.amount.value, found.asset_kind, found.entry_count) == ("0", kind, 0)


async def test_currencies_keep_their_own_decimals(books: Scene) -> None:
    await books.apply(
        transfer(1, asset="JPY", amount=1234),
        transfer(2, asset="KWD", amount=1234),
        transfer(3, asset="USD", amount=-(2**63) + 1),
    )

    found = {
        asset: (await balance(books, asset, sub_account=SUB_ACCOUNT_SETTLED)).amount.value
        for asset in ("JPY", "KWD", "USD")
    }
    assert found == {"JPY": "1234", "KWD": "1.234", "USD": "-92233720368547758.07"}


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize("account", ["A1", "-"])
async def test_balances_are_listed_in_order(books: Scene, account: str, size: int) -> None:
    await books.apply(trade(1, fee_minor=1), trade(1, "A2"), transfer(1, "A2", asset="EUR"))

    found: list[Balance] = []
    token = ""
    while not found or token:
        request = pb.ListBalancesRequest(account_id=account, page_size=size, page_token=token)
        response = await books.servicer.ListBalances(request, CONTEXT)
        assert len(response.balances) <= size
        found += response.balances
        token = response.next_page_token

    keys = [(row.account_id, row.asset, row.sub_account) for row in found]
    assert keys == sorted(set(keys))
    assert len(keys) == (5 if account == "A1" else 11)


async def test_trial_balance_sums_accounts_with_debits_and_credits(books: Scene) -> None:
    await books.apply(trade(1), trade(1, "A2"), trade(2, "A2", side=SIDE_SELL), transfer(1))

    trial = await books.servicer.GetTrialBalance(pb.GetTrialBalanceRequest(), CONTEXT)

    assert trial.balanced
    lines = {(line.asset, line.sub_account): line for line in trial.lines}
    assert list(lines) == sorted(lines)
    cash = lines["USD", SUB_ACCOUNT_PENDING]
    assert (cash.debit.value, cash.credit.value, cash.net.value) == ("1000", "2000", "-1000")
    assert cash.entry_count == 3


async def test_check_of_right_books_finds_nothing(books: Scene) -> None:
    nothing = await books.servicer.CheckLedger(pb.CheckLedgerRequest(), CONTEXT)
    assert nothing == pb.CheckLedgerResponse()
    await books.apply(trade(1), trade(2, fee_minor=1), transfer(1), trade(1, tenant="other"))

    found = await books.servicer.CheckLedger(pb.CheckLedgerRequest(), CONTEXT)

    assert found == pb.CheckLedgerResponse(
        journal_count=3, entry_count=12, balance_count=7, trade_count=2
    )


async def test_watermark_tells_both_topics(books: Scene) -> None:
    await books.apply(trade(1), trade(2), transfer(1))

    found = await books.servicer.GetLedgerWatermark(
        pb.GetLedgerWatermarkRequest(account_id="A1", min_sequence=2, min_transfer_sequence=1),
        CONTEXT,
    )
    unknown = await books.servicer.GetLedgerWatermark(
        pb.GetLedgerWatermarkRequest(account_id="A7"), CONTEXT
    )

    assert (found.trade_sequence, found.transfer_sequence) == (2, 1)
    assert (unknown.trade_sequence, unknown.transfer_sequence) == (0, 0)


async def test_reads_wait_for_their_sequence_up_to_the_deadline(books: Scene) -> None:
    await books.apply(trade(1))
    assert (await balance(books, "XYZ", min_sequence=1)).entry_count == 1

    deadline.enter(0.2)
    try:
        for read in (
            balance(books, "XYZ", min_sequence=2),
            pages(books, 10, account_id="A1", min_sequence=2),
        ):
            with pytest.raises(FailedPrecondition):
                await read
            deadline.enter(0.2)
    finally:
        deadline.enter(None)


async def test_sequence_of_all_accounts_is_refused(books: Scene) -> None:
    with pytest.raises(InvalidArgument):
        await pages(books, 10, account_id="-", min_sequence=1)
    with pytest.raises(InvalidArgument):
        await books.servicer.ListBalances(
            pb.ListBalancesRequest(account_id="-", min_sequence=1), CONTEXT
        )
