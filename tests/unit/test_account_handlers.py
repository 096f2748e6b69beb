"""Use cases of accounts and transfers over a fake store."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from interchange.account.v1 import account_pb2
from interchange.account.v1.account_events_pb2 import TransferRecorded

from services.account import handlers, transfer_handlers
from services.account.domain import Account, Status
from services.account.handlers import CreateAccount
from services.account.repository import Accounts, Standing
from services.account.transfer_handlers import CreateTransfer
from services.account.transfers import Amount, Security, Transfer
from services.common import errors
from services.common.clock import ManualClock
from services.common.outbox import Outbox
from services.common.requests import Answer, KeyTaken, RequestKey, Requests
from services.common.work import Work, WorkUnits
from tests.unit.test_account_rules import details, moved

NOW = datetime(2026, 1, 5, 23, 59, tzinfo=UTC)


class FakeRequests(Requests):
    """Request keys in memory; `rivals` are taken just before the next store."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], Answer] = {}
        self.rivals: dict[tuple[str, str], Answer] = {}

    async def find(
        self, tenant_id: str, requests: Sequence[RequestKey]
    ) -> dict[tuple[str, str], Answer]:
        return dict(self.answers)

    async def store(
        self, tenant_id: str, requests: Sequence[RequestKey], responses: Sequence[bytes]
    ) -> None:
        rivals, self.rivals = self.rivals, {}
        self.answers |= rivals
        if any((request.rpc, request.key) in self.answers for request in requests):
            raise KeyTaken
        for request, response in zip(requests, responses, strict=True):
            self.answers[request.rpc, request.key] = Answer(request.body_hash, response)


class FakeAccounts(Accounts):
    """Accounts and transfers of one tenant in memory."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.last_sequences: dict[str, int] = {}
        self.transfers: list[Transfer] = []
        self.keys = FakeRequests()

    @property
    def requests(self) -> FakeRequests:
        return self.keys

    async def lock(self, tenant_id: str, account_ids: Sequence[str]) -> None:
        pass

    async def standings(self, tenant_id: str, account_ids: Sequence[str]) -> dict[str, Standing]:
        return {
            name: Standing(self.accounts[name].status, self.last_sequences[name])
            for name in account_ids
            if name in self.accounts
        }

    async def find(self, tenant_id: str, account_id: str) -> Account | None:
        return self.accounts.get(account_id)

    async def list_page(self, tenant_id: str, after: str, limit: int) -> list[Account]:
        return [self.accounts[name] for name in sorted(self.accounts) if name > after][:limit]

    async def insert(self, tenant_id: str, accounts: Sequence[Account]) -> None:
        for account in accounts:
            assert account.account_id not in self.accounts
            self.accounts[account.account_id] = account
            self.last_sequences[account.account_id] = 1

    async def insert_transfers(self, tenant_id: str, transfers: Sequence[Transfer]) -> None:
        self.transfers += transfers

    async def advance(self, tenant_id: str, last_sequences: Mapping[str, int]) -> None:
        self.last_sequences |= last_sequences

    async def find_transfer(self, tenant_id: str, transfer_id: str) -> Transfer | None:
        return next((one for one in self.transfers if one.transfer_id == transfer_id), None)

    async def list_transfers(
        self, tenant_id: str, account_id: str, before: int, limit: int
    ) -> list[Transfer]:
        rows = [one for one in self.transfers if one.terms.account_id == account_id]
        newest = sorted(rows, key=lambda one: -one.sequence)
        return [one for one in newest if one.sequence < before][:limit]


class FakeUnits(WorkUnits[Accounts]):
    """Units of work over one fake; what a failed one wrote is forgotten."""

    def __init__(self) -> None:
        self.repository = FakeAccounts()
        self.sequences: dict[str, list[int]] = {}
        self.payloads: list[bytes] = []
        self.event_ids: list[str] = []

    @asynccontextmanager
    async def tenant(self, tenant_id: str) -> AsyncIterator[Work[Accounts]]:
        saved, outbox = deepcopy(vars(self.repository)), Outbox("account", 1)
        try:
            yield Work(self.repository, outbox)
        except BaseException:
            saved["keys"] = self.repository.keys  # a rival's key was committed elsewhere
            vars(self.repository).update(saved)
            raise
        for columns in outbox.columns:
            self.payloads += columns.payloads
            self.event_ids += columns.event_ids
            for key, sequence in zip(columns.keys, columns.sequences, strict=True):
                self.sequences.setdefault(key, []).append(sequence)

    @asynccontextmanager
    async def reading(self, tenant_id: str) -> AsyncIterator[Accounts]:
        yield self.repository


class Desk:
    """The use cases over a fake."""

    def __init__(self) -> None:
        self.uow = FakeUnits()
        self.tools: dict[str, Any] = {"uow": self.uow, "clock": ManualClock(NOW)}

    async def create(self, *commands: CreateAccount) -> list[str]:
        outcomes = await handlers.create_accounts("demo", commands, **self.tools)
        return [_told(one) for one in outcomes]

    async def transfer(self, *commands: CreateTransfer) -> list[str]:
        outcomes = await transfer_handlers.create_transfers("demo", commands, **self.tools)
        return [_told(one) for one in outcomes]


def _told(outcome: Any) -> str:
    if isinstance(outcome, errors.InterchangeError):
        return outcome.reason
    if isinstance(outcome, account_pb2.Transfer):
        return f"{outcome.account_id}:{outcome.sequence}"
    return str(outcome.account_id)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def new(account_id: str = "A-1", key: str = "", **changes: Any) -> CreateAccount:
    body = f"{account_id}{changes}".encode()
    return CreateAccount(details(account_id, **changes), RequestKey("CreateAccount", key, body))


def cash(account_id: str = "A-1", key: str = "", **changes: Any) -> CreateTransfer:
    body = f"{account_id}{changes}".encode()
    terms = moved(account_id=account_id, **changes)
    return CreateTransfer(terms, RequestKey("CreateTransfer", key, body))


async def test_one_bad_command_fails_no_neighbour(desk: Desk) -> None:
    told = await desk.create(new("A-1"), new("?"), new("A-1"), new("A-2"))

    assert told == ["A-1", "INVALID_ACCOUNT_ID", "ACCOUNT_EXISTS", "A-2"]
    assert desk.uow.sequences == {"A-1": [1], "A-2": [1]}


async def test_batch_without_a_valid_command_opens_no_transaction(desk: Desk) -> None:
    desk.tools["uow"] = None

    assert await desk.create(new("?"), new("")) == ["INVALID_ACCOUNT_ID"] * 2


async def test_repeats_within_and_after_a_batch_get_the_first_answer(desk: Desk) -> None:
    told = await desk.create(new("A-1", "k"), new("A-1", "k"), new("A-2", "k"))

    assert told == ["A-1", "A-1", "IDEMPOTENCY_KEY_REUSED"]
    assert await desk.create(new("A-1", "k")) == ["A-1"]
    assert desk.uow.sequences == {"A-1": [1]}


async def test_refused_command_uses_up_no_key(desk: Desk) -> None:
    await desk.create(new("A-1"))

    assert await desk.create(new("A-1", "k", kind=2)) == ["ACCOUNT_EXISTS"]
    assert await desk.create(new("A-2", "k")) == ["A-2"]


async def test_transfers_of_a_batch_are_numbered_after_the_last_event(desk: Desk) -> None:
    await desk.create(new("A-1"), new("A-2"))

    told = await desk.transfer(cash("A-1"), cash("A-2"), cash("A-9"), cash("A-1"))

    assert told == ["A-1:2", "A-2:2", "ACCOUNT_NOT_FOUND", "A-1:3"]
    assert desk.uow.sequences == {"A-1": [1, 2, 3], "A-2": [1, 2]}
    assert await desk.transfer(cash("A-1")) == ["A-1:4"]


async def test_repeated_transfer_is_recorded_once(desk: Desk) -> None:
    await desk.create(new())

    assert await desk.transfer(cash(key="k"), cash(key="k")) == ["A-1:2", "A-1:2"]
    assert await desk.transfer(cash(key="k")) == ["A-1:2"]
    told = await desk.transfer(cash(key="k", description="other"))
    assert told == ["IDEMPOTENCY_KEY_REUSED"]
    assert len(desk.uow.repository.transfers) == 1


async def test_key_lost_to_a_rival_leaves_no_gap_in_the_numbers(desk: Desk) -> None:
    await desk.create(new())
    desk.uow.repository.keys.rivals = {("CreateTransfer", "k-1"): Answer(b"other", b"")}

    told = await desk.transfer(cash(key="k-1"), cash(key="k-2"))

    assert told == ["IDEMPOTENCY_KEY_REUSED", "A-1:2"]
    assert desk.uow.sequences == {"A-1": [1, 2]}


async def test_closed_account_takes_no_transfer(desk: Desk) -> None:
    await desk.create(new())
    rows = desk.uow.repository.accounts
    rows["A-1"] = replace(rows["A-1"], status=Status.CLOSED)

    assert await desk.transfer(cash()) == ["ACCOUNT_CLOSED"]


async def test_event_of_a_transfer_has_its_id_and_signed_amounts(desk: Desk) -> None:
    await desk.create(new())
    security = CreateTransfer(
        moved(Security("IBM", "2", Amount("USD", 10, 0)), value_date=(1970, 1, 2)),
        RequestKey("CreateTransfer", "k", b""),
    )

    await desk.transfer(security)

    recorded = TransferRecorded.FromString(desk.uow.payloads[-1])
    assert recorded.event_id == desk.uow.event_ids[-1]
    assert recorded.event_id == desk.uow.repository.transfers[0].transfer_id
    assert (recorded.asset, recorded.is_cash, recorded.amount) == ("IBM", False, 2_000_000)
    assert (recorded.cost_currency, recorded.cost_minor) == ("USD", 1000)
    assert recorded.value_day == 1
    assert recorded.recorded_us == int(NOW.timestamp()) * 1_000_000


async def test_read_transfer_is_what_was_written(desk: Desk) -> None:
    await desk.create(new())
    outcome = (await transfer_handlers.create_transfers("demo", [cash()], **desk.tools))[0]
    assert isinstance(outcome, account_pb2.Transfer)

    found = await transfer_handlers.get_transfer("demo", outcome.transfer_id, uow=desk.uow)

    assert found == outcome
    assert (found.cash.units, found.cash.nanos) == (12, 340_000_000)


async def test_what_is_missing_is_not_found(desk: Desk) -> None:
    for calling in (
        handlers.get_account("demo", "A\x00", uow=desk.uow),
        transfer_handlers.get_transfer("demo", "x", uow=desk.uow),
        transfer_handlers.list_transfers("demo", "A-1", 0, "", uow=desk.uow),
    ):
        with pytest.raises(errors.NotFound):
            await calling
    assert await desk.transfer(cash("A\x00")) == ["ACCOUNT_NOT_FOUND"]


async def test_pages_of_transfers_go_from_new_to_old(desk: Desk) -> None:
    await desk.create(new())
    await desk.transfer(cash(), cash(), cash())

    first, token = await transfer_handlers.list_transfers("demo", "A-1", 2, "", uow=desk.uow)
    second, end = await transfer_handlers.list_transfers("demo", "A-1", 2, token, uow=desk.uow)

    assert [one.sequence for one in first + second] == [4, 3, 2]
    assert end == ""
