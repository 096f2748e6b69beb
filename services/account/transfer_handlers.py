"""Use cases of transfers: a batch of one tenant's commands is one transaction.

The account's row holds the number of its last event; it is read and moved on
under the account's lock, so that numbers have no gaps.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from interchange.account.v1 import account_pb2

from services.account import domain, events, transfers
from services.account.domain import Status
from services.account.handlers import found, not_found
from services.account.repository import Accounts, Standing
from services.account.transfers import Terms, Transfer, TransferDetails
from services.common import ids, pagination, requests
from services.common.clock import BusinessClock
from services.common.errors import FailedPrecondition, InterchangeError, NotFound
from services.common.requests import Answered, RequestKey
from services.common.work import WorkUnits

Outcome: TypeAlias = account_pb2.Transfer | InterchangeError

SEQUENCE_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class CreateTransfer:
    """A transfer to record, with its idempotency key."""

    details: TransferDetails
    request: RequestKey


@dataclass(slots=True)
class _Recording:
    """A batch being decided: how accounts stand, and what is new so far."""

    now: datetime
    transfer_ids: list[str]
    answered: Answered[account_pb2.Transfer]
    standings: dict[str, Standing]
    last_sequences: dict[str, int] = field(default_factory=dict)
    transfers: list[Transfer] = field(default_factory=list)

    def decide(self, request: RequestKey, terms: Terms) -> account_pb2.Transfer:
        """Return the first answer of a repeat, else take the transfer on."""
        first = self.answered.first(request)
        if first is not None:
            return first
        account_id = terms.account_id
        standing = self.standings.get(account_id)
        if standing is None:
            raise not_found()
        if standing.status is Status.CLOSED:
            raise FailedPrecondition(
                "ACCOUNT_CLOSED",
                f"account {account_id} is closed",
                metadata={"account_id": account_id},
            )
        sequence = self.last_sequences.get(account_id, standing.last_sequence) + 1
        transfer_id = self.transfer_ids[len(self.transfers)]
        transfer = Transfer(transfer_id, terms, sequence, self.now)
        message = events.transfer_message(transfer)
        self.last_sequences[account_id] = sequence
        self.transfers.append(transfer)
        return self.answered.give(request, message)


async def create_transfers(
    tenant_id: str,
    commands: Sequence[CreateTransfer],
    *,
    uow: WorkUnits[Accounts],
    clock: BusinessClock,
) -> list[Outcome]:
    """Record transfers; each outcome is the transfer or why it was refused."""
    checked = [_checked(command, clock) for command in commands]
    if not any(isinstance(one, Terms) for one in checked):
        return [one for one in checked if isinstance(one, InterchangeError)]
    return await requests.settled(
        lambda: _create_transfers(tenant_id, commands, checked, uow=uow, clock=clock)
    )


def _checked(command: CreateTransfer, clock: BusinessClock) -> Terms | InterchangeError:
    # An id that breaks its rule names nothing, and could be one that Postgres can't hold.
    if not domain.is_account_id(command.details.account_id):
        return not_found()
    try:
        return transfers.checked(command.details, clock.now().date())
    except InterchangeError as error:
        return error


async def _create_transfers(
    tenant_id: str,
    commands: Sequence[CreateTransfer],
    checked: Sequence[Terms | InterchangeError],
    *,
    uow: WorkUnits[Accounts],
    clock: BusinessClock,
) -> list[Outcome]:
    account_ids = sorted({one.account_id for one in checked if isinstance(one, Terms)})
    async with uow.tenant(tenant_id) as work:
        await work.repository.lock(tenant_id, account_ids)
        keys = [command.request for command in commands]
        known = await work.repository.requests.find(tenant_id, keys)
        answered = Answered(account_pb2.Transfer, known)
        standings = await work.repository.standings(tenant_id, account_ids)
        transfer_ids = ids.uuid7_batch(len(commands), clock.now_us())
        recording = _Recording(clock.now(), transfer_ids, answered, standings)
        outcomes = [
            _decided(recording, command.request, one)
            for command, one in zip(commands, checked, strict=True)
        ]
        await recording.answered.store(tenant_id, work.repository.requests)
        await work.repository.insert_transfers(tenant_id, recording.transfers)
        await work.repository.advance(tenant_id, recording.last_sequences)
        work.outbox.add(events.transfers_recorded(tenant_id, recording.transfers))
    return outcomes


def _decided(
    recording: _Recording, request: RequestKey, checked: Terms | InterchangeError
) -> Outcome:
    if isinstance(checked, InterchangeError):
        return checked
    try:
        return recording.decide(request, checked)
    except InterchangeError as error:
        return error


async def get_transfer(
    tenant_id: str, transfer_id: str, *, uow: WorkUnits[Accounts]
) -> account_pb2.Transfer:
    """Return one transfer or raise NotFound."""
    async with uow.reading(tenant_id) as repository:
        transfer = await repository.find_transfer(tenant_id, transfer_id)
    if transfer is None:
        raise NotFound("TRANSFER_NOT_FOUND", "there is no such transfer")
    return events.transfer_message(transfer)


async def list_transfers(
    tenant_id: str, account_id: str, page_size: int, page_token: str, *, uow: WorkUnits[Accounts]
) -> tuple[list[account_pb2.Transfer], str]:
    """Return a page of an account's transfers, newest first, and the token of the next."""
    filters = {"list": "transfers", "tenant": tenant_id, "account": account_id}
    size = pagination.page_size(page_size)
    last = pagination.keyset(page_token, filters, int)
    before = SEQUENCE_MAX if last is None else int(last[0])
    async with uow.reading(tenant_id) as repository:
        await found(repository, tenant_id, account_id)
        rows = await repository.list_transfers(tenant_id, account_id, before, size + 1)
    page = rows[:size]
    token = pagination.page_token([page[-1].sequence], filters) if len(rows) > size else ""
    return [events.transfer_message(one) for one in page], token
