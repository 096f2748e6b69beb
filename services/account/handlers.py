"""Use cases of accounts: a batch of one tenant's commands is one transaction.

Each command has its own outcome, so one that is refused fails nobody else.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from interchange.account.v1 import account_pb2

from services.account import domain, events
from services.account.domain import Account, Details
from services.account.repository import Accounts
from services.common import ids, pagination, requests
from services.common.clock import BusinessClock
from services.common.errors import AlreadyExists, InterchangeError, NotFound
from services.common.requests import Answered, RequestKey
from services.common.work import WorkUnits

Outcome: TypeAlias = account_pb2.Account | InterchangeError


@dataclass(frozen=True, slots=True)
class CreateAccount:
    """An account to create, with its idempotency key."""

    details: Details
    request: RequestKey


@dataclass(slots=True)
class _Creation:
    """A batch being decided: what exists, and what is new so far."""

    answered: Answered[account_pb2.Account]
    taken: set[str]
    accounts: list[Account] = field(default_factory=list)
    messages: list[account_pb2.Account] = field(default_factory=list)

    def decide(self, request: RequestKey, account: Account) -> account_pb2.Account:
        """Return the first answer of a repeat, else take the account on."""
        first = self.answered.first(request)
        if first is not None:
            return first
        if account.account_id in self.taken:
            raise AlreadyExists(
                "ACCOUNT_EXISTS",
                f"account {account.account_id} exists",
                metadata={"account_id": account.account_id},
            )
        message = events.account_message(account)
        self.taken.add(account.account_id)
        self.accounts.append(account)
        self.messages.append(message)
        return self.answered.give(request, message)


async def create_accounts(
    tenant_id: str,
    commands: Sequence[CreateAccount],
    *,
    uow: WorkUnits[Accounts],
    clock: BusinessClock,
) -> list[Outcome]:
    """Create accounts; each outcome is the account or why there is none."""
    checked = [_checked(command, clock) for command in commands]
    if not any(isinstance(one, Account) for one in checked):
        return [one for one in checked if isinstance(one, InterchangeError)]
    return await requests.settled(
        lambda: _create_accounts(tenant_id, commands, checked, uow=uow, clock=clock)
    )


def _checked(command: CreateAccount, clock: BusinessClock) -> Account | InterchangeError:
    try:
        return domain.create(command.details, clock.now())
    except InterchangeError as error:
        return error


async def _create_accounts(
    tenant_id: str,
    commands: Sequence[CreateAccount],
    checked: Sequence[Account | InterchangeError],
    *,
    uow: WorkUnits[Accounts],
    clock: BusinessClock,
) -> list[Outcome]:
    valid = sorted({one.account_id for one in checked if isinstance(one, Account)})
    async with uow.tenant(tenant_id) as work:
        await work.repository.lock(tenant_id, valid)
        keys = [command.request for command in commands]
        known = await work.repository.requests.find(tenant_id, keys)
        answered = Answered(account_pb2.Account, known)
        creation = _Creation(answered, set(await work.repository.standings(tenant_id, valid)))
        outcomes = [
            _decided(creation, command.request, one)
            for command, one in zip(commands, checked, strict=True)
        ]
        await answered.store(tenant_id, work.repository.requests)
        await work.repository.insert(tenant_id, creation.accounts)
        event_ids = ids.uuid7_batch(len(creation.messages), clock.now_us())
        work.outbox.add(events.accounts_created(tenant_id, event_ids, creation.messages))
    return outcomes


def _decided(
    creation: _Creation, request: RequestKey, checked: Account | InterchangeError
) -> Outcome:
    if isinstance(checked, InterchangeError):
        return checked
    try:
        return creation.decide(request, checked)
    except InterchangeError as error:
        return error


async def get_account(
    tenant_id: str, account_id: str, *, uow: WorkUnits[Accounts]
) -> account_pb2.Account:
    """Return one account or raise NotFound."""
    async with uow.reading(tenant_id) as repository:
        account = await found(repository, tenant_id, account_id)
    return events.account_message(account)


async def list_accounts(
    tenant_id: str, page_size: int, page_token: str, *, uow: WorkUnits[Accounts]
) -> tuple[list[account_pb2.Account], str]:
    """Return a page of accounts by id and the token of the next, empty on the last."""
    filters = {"list": "accounts", "tenant": tenant_id}
    size = pagination.page_size(page_size)
    last = pagination.keyset(page_token, filters, str)
    after = "" if last is None else str(last[0])
    async with uow.reading(tenant_id) as repository:
        rows = await repository.list_page(tenant_id, after, size + 1)
    page = rows[:size]
    more = len(rows) > size
    token = pagination.page_token([page[-1].account_id], filters) if more else ""
    return [events.account_message(one) for one in page], token


async def found(repository: Accounts, tenant_id: str, account_id: str) -> Account:
    """Return one account or raise NotFound."""
    # An id that breaks its rule names nothing, and could be one that Postgres can't hold.
    account = None
    if domain.is_account_id(account_id):
        account = await repository.find(tenant_id, account_id)
    if account is None:
        raise not_found()
    return account


def not_found() -> NotFound:
    """Return the error of an account that isn't there."""
    return NotFound("ACCOUNT_NOT_FOUND", "there is no such account")
