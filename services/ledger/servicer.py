"""gRPC in: requests to reads, rows to responses."""

from typing import Any, TypeAlias

from grpc.aio import ServicerContext
from interchange.ledger.v1 import ledger_service_pb2 as pb
from interchange.ledger.v1.ledger_pb2 import (
    SUB_ACCOUNT_PENDING,
    Balance,
    Journal,
    LedgerWatermark,
)
from interchange.ledger.v1.ledger_service_pb2_grpc import LedgerServiceServicer

from services.common import deadline, identity, pagination
from services.common.errors import InvalidArgument
from services.common.watermarks import Watermarks
from services.ledger import handlers, pages, responses
from services.ledger.consumer import TRADES, TRANSFERS

Context: TypeAlias = ServicerContext[Any, Any]

ALL = "-"
WAIT_MAX_S = 30.0


class LedgerServicer(LedgerServiceServicer):
    """Shows the books."""

    def __init__(self, units: handlers.Units, watermarks: Watermarks) -> None:
        self._units = units
        self._watermarks = watermarks

    async def GetJournal(self, request: pb.GetJournalRequest, context: Context) -> Journal:
        """Return one journal with its entries."""
        tenant_id = identity.current().tenant_id
        row = await handlers.get_journal(tenant_id, request.journal_id, uow=self._units)
        return responses.journal(row)

    async def ListEntries(
        self, request: pb.ListEntriesRequest, context: Context
    ) -> pb.ListEntriesResponse:
        """List entries, newest first."""
        tenant_id, account_id = await self._account(request.account_id, request.min_sequence)
        filters = {"account": request.account_id, "asset": request.asset}
        size = pagination.page_size(request.page_size)
        after = pages.entries_after(request.page_token, filters)
        async with self._units.reading(tenant_id) as repository:
            rows = await repository.entries(
                tenant_id, account_id, request.asset or None, after, size + 1
            )
        token = ""
        if len(rows) > size:
            end = rows[size - 1]
            token = pagination.page_token([end.journal_id, end.leg], filters)
        return pb.ListEntriesResponse(
            entries=map(responses.entry, rows[:size]), next_page_token=token
        )

    async def GetBalance(self, request: pb.GetBalanceRequest, context: Context) -> Balance:
        """Return one balance; zero when nothing was ever booked."""
        tenant_id = identity.current().tenant_id
        sub_account = request.sub_account or SUB_ACCOUNT_PENDING
        await self._reach(tenant_id, request.account_id, request.min_sequence)
        async with self._units.reading(tenant_id) as repository:
            row = await repository.balance(
                tenant_id, request.account_id, request.asset, sub_account
            )
        if row is None:
            return responses.no_balance(request.account_id, request.asset, sub_account)
        return responses.balance(row)

    async def ListBalances(
        self, request: pb.ListBalancesRequest, context: Context
    ) -> pb.ListBalancesResponse:
        """List balances by account, asset and sub-account."""
        tenant_id, account_id = await self._account(request.account_id, request.min_sequence)
        filters = {"account": request.account_id}
        size = pagination.page_size(request.page_size)
        after = pages.balances_after(request.page_token, filters)
        async with self._units.reading(tenant_id) as repository:
            rows = await repository.balances(tenant_id, account_id, after, size + 1)
        token = ""
        if len(rows) > size:
            token = pagination.page_token(rows[size - 1].key, filters)
        return pb.ListBalancesResponse(
            balances=map(responses.balance, rows[:size]), next_page_token=token
        )

    async def GetTrialBalance(
        self, request: pb.GetTrialBalanceRequest, context: Context
    ) -> pb.GetTrialBalanceResponse:
        """Sum the balances of all accounts per asset and sub-account."""
        tenant_id = identity.current().tenant_id
        async with self._units.reading(tenant_id) as repository:
            return responses.trial_balance(await repository.trial_balance(tenant_id))

    async def CheckLedger(
        self, request: pb.CheckLedgerRequest, context: Context
    ) -> pb.CheckLedgerResponse:
        """Recompute the books from their entries."""
        tenant_id = identity.current().tenant_id
        async with self._units.reading(tenant_id) as repository:
            return responses.check(await repository.check(tenant_id, deadline.remaining()))

    async def GetLedgerWatermark(
        self, request: pb.GetLedgerWatermarkRequest, context: Context
    ) -> LedgerWatermark:
        """Return how far the account's events have been posted."""
        wanted = {TRADES: request.min_sequence, TRANSFERS: request.min_transfer_sequence}
        reached = await self._watermarks.wait(
            identity.current().tenant_id, request.account_id, wanted, deadline.patience(WAIT_MAX_S)
        )
        return responses.watermark(request.account_id, reached)

    async def _account(self, given: str, min_sequence: int) -> tuple[str, str | None]:
        """Return the tenant and the account, None for all, once its events are posted."""
        tenant_id = identity.current().tenant_id
        if given != ALL:
            await self._reach(tenant_id, given, min_sequence)
            return tenant_id, given
        if min_sequence:
            raise InvalidArgument.of(
                "min_sequence", "MIN_SEQUENCE_NEEDS_ACCOUNT", "is of one account, not of all"
            )
        return tenant_id, None

    async def _reach(self, tenant_id: str, account_id: str, sequence: int) -> None:
        if sequence:
            await self._watermarks.wait(
                tenant_id, account_id, {TRADES: sequence}, deadline.patience(WAIT_MAX_S)
            )
