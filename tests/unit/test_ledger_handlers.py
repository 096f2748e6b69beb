"""Use cases of the ledger over fakes: who is locked, what is posted, who is told."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from interchange.ledger.v1.ledger_events_pb2 import JournalsPosted

from services.common import pagination
from services.common.clock import ManualClock
from services.common.errors import InvalidArgument, NotFound
from services.common.ids import Uuid7
from services.common.outbox import Outbox
from services.common.work import Work, WorkUnits
from services.ledger import handlers, pages
from services.ledger.domain import AccountId, Journals, Unpostable
from services.ledger.repository import Books
from services.ledger.rows import (
    NEWEST,
    BalanceKey,
    BalanceRow,
    CheckRow,
    EntryKey,
    EntryRow,
    JournalRow,
    TrialRow,
)
from tests.unit.test_ledger_domain import booked, recorded

CLOCK = ManualClock(datetime(2026, 3, 2, tzinfo=UTC))
ID = "01930000-0000-7000-8000-000000000001"


class FakeBooks(Books):
    """Keeps the order of calls, and numbers."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.last: dict[AccountId, int] = {}
        self.posted: list[Journals] = []

    async def number(self, accounts: Sequence[AccountId]) -> Mapping[AccountId, int]:
        self.calls.append("number")
        for account in accounts:
            self.last[account] = self.last.get(account, 0) + 1
        return self.last

    async def post(self, journals: Journals, posted_us: int) -> None:
        assert posted_us == CLOCK.now_us()
        self.calls.append("post")
        self.posted.append(journals)

    async def journal(self, tenant_id: str, journal_id: str) -> JournalRow | None:
        return None

    async def entries(
        self, tenant_id: str, account_id: str | None, asset: str | None, after: EntryKey, limit: int
    ) -> list[EntryRow]:
        return []

    async def balance(
        self, tenant_id: str, account_id: str, asset: str, sub_account: int
    ) -> BalanceRow | None:
        return None

    async def balances(
        self, tenant_id: str, account_id: str | None, after: BalanceKey | None, limit: int
    ) -> list[BalanceRow]:
        return []

    async def trial_balance(self, tenant_id: str) -> list[TrialRow]:
        return []

    async def check(self, tenant_id: str, timeout_s: float | None) -> CheckRow:
        return CheckRow(0, 0, 0, 0, [], 0, [])


class FakeUnits(WorkUnits[Books]):
    def __init__(self, books: FakeBooks) -> None:
        self.books = books

    @asynccontextmanager
    async def tenant(self, tenant_id: str) -> AsyncIterator[Work[Books]]:
        yield Work(self.books, Outbox("ledger", 1))

    @asynccontextmanager
    async def reading(self, tenant_id: str) -> AsyncIterator[Books]:
        yield self.books


@pytest.fixture
def work() -> Work[Books]:
    return Work(FakeBooks(), Outbox("ledger", 1))


def books_of(work: Work[Books]) -> FakeBooks:
    assert isinstance(work.repository, FakeBooks)
    return work.repository


async def test_accounts_are_locked_before_anything_is_posted(work: Work[Books]) -> None:
    await handlers.post_journals([booked(), recorded()], work=work, clock=CLOCK, ids=Uuid7())

    assert books_of(work).calls == ["number", "post", "post"]


async def test_each_account_and_kind_is_told_once_in_its_own_numbers(work: Work[Books]) -> None:
    batch = [booked(1), booked(1, "A2"), booked(2), recorded(5), booked(1, tenant="other")]

    await handlers.post_journals(batch, work=work, clock=CLOCK, ids=Uuid7())
    await handlers.post_journals([booked(3)], work=work, clock=CLOCK, ids=Uuid7())

    first, other, later = work.outbox.columns
    assert (first.tenant_id, other.tenant_id, later.tenant_id) == ("acme", "other", "acme")
    assert list(zip(first.keys, first.sequences, strict=True)) == [("A1", 1), ("A2", 1), ("A1", 2)]
    assert (other.keys, other.sequences) == (["A1"], [1])
    assert (later.keys, later.sequences) == (["A1"], [3])
    messages = [JournalsPosted.FromString(payload) for payload in first.payloads]
    assert list(messages[0].journal_ids) == [batch[0].event_id, batch[2].event_id]
    assert [message.source_sequence for message in messages] == [2, 1, 5]
    assert len(set(first.event_ids)) == 3


async def test_batch_with_an_impossible_event_posts_nothing(work: Work[Books]) -> None:
    with pytest.raises(Unpostable):
        await handlers.post_journals(
            [booked(), booked(2, side=0)], work=work, clock=CLOCK, ids=Uuid7()
        )

    assert books_of(work).calls == []
    assert work.outbox.columns == []


async def test_empty_batch_locks_nothing(work: Work[Books]) -> None:
    await handlers.post_journals([], work=work, clock=CLOCK, ids=Uuid7())

    assert books_of(work).calls == []


async def test_missing_journal_is_not_found() -> None:
    with pytest.raises(NotFound):
        await handlers.get_journal("acme", ID, uow=FakeUnits(FakeBooks()))


def test_first_page_begins_at_the_newest() -> None:
    assert pages.entries_after("", {}) == NEWEST
    assert pages.balances_after("", {}) is None


def test_page_tokens_come_back_as_keys() -> None:
    assert pages.entries_after(pagination.page_token([ID, 3], {}), {}) == EntryKey(ID, 3)
    key = BalanceKey("A1", "USD", 1, 2)
    assert pages.balances_after(pagination.page_token(key, {}), {}) == key


@pytest.mark.parametrize("last", [["no-uuid", 1], [ID, -1], [ID, 32_768], [ID, "1"], [1, 1], [ID]])
def test_entry_tokens_that_somebody_made_up_are_refused(last: list[str | int]) -> None:
    with pytest.raises(InvalidArgument):
        pages.entries_after(pagination.page_token(last, {}), {})


@pytest.mark.parametrize(
    "last", [["A", "B", 1, 40_000], ["A", "B", -1, 1], ["A", "B", 1], [1, "B", 1, 1]]
)
def test_balance_tokens_that_somebody_made_up_are_refused(last: list[str | int]) -> None:
    with pytest.raises(InvalidArgument):
        pages.balances_after(pagination.page_token(last, {}), {})
