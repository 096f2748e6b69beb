"""gRPC in: requests to commands, results to responses.

Calls that write are gathered: those that arrive while a batch is being written
are the next one.
"""

from collections.abc import Sequence
from typing import Any

from interchange.account.v1 import account_pb2
from interchange.account.v1 import account_service_pb2 as pb
from interchange.account.v1.account_service_pb2_grpc import AccountServiceServicer

from services.account import commands, handlers, transfer_handlers
from services.account.repository import Accounts
from services.common import identity
from services.common.batcher import Batcher, isolated
from services.common.clock import BusinessClock
from services.common.errors import InterchangeError
from services.common.work import WorkUnits


class AccountServicer(AccountServiceServicer):
    """Keeps the accounts of a tenant and their transfers."""

    def __init__(self, uow: WorkUnits[Accounts], clock: BusinessClock, batch_size_max: int) -> None:
        self._uow = uow
        self._clock = clock
        self._accounts = Batcher(self._create_accounts, batch_size_max)
        self._transfers = Batcher(self._create_transfers, batch_size_max)

    async def CreateAccount(
        self, request: pb.CreateAccountRequest, context: Any
    ) -> account_pb2.Account:
        """Create an account."""
        tenant_id = identity.current().tenant_id
        return await self._accounts.submit(tenant_id, commands.create_account(request))

    async def BatchCreateAccounts(
        self, request: pb.BatchCreateAccountsRequest, context: Any
    ) -> pb.BatchCreateAccountsResponse:
        """Create accounts in one transaction, each with its own result."""
        batch = [commands.create_account(one) for one in request.requests]
        outcomes = await isolated(self._create_accounts, identity.current().tenant_id, batch)
        return pb.BatchCreateAccountsResponse(results=[_result(one) for one in outcomes])

    async def GetAccount(self, request: pb.GetAccountRequest, context: Any) -> account_pb2.Account:
        """Return one account."""
        tenant_id = identity.current().tenant_id
        return await handlers.get_account(tenant_id, request.account_id, uow=self._uow)

    async def ListAccounts(
        self, request: pb.ListAccountsRequest, context: Any
    ) -> pb.ListAccountsResponse:
        """List accounts by id."""
        accounts, token = await handlers.list_accounts(
            identity.current().tenant_id, request.page_size, request.page_token, uow=self._uow
        )
        return pb.ListAccountsResponse(accounts=accounts, next_page_token=token)

    async def CreateTransfer(
        self, request: pb.CreateTransferRequest, context: Any
    ) -> account_pb2.Transfer:
        """Deposit or withdraw cash or securities."""
        tenant_id = identity.current().tenant_id
        return await self._transfers.submit(tenant_id, commands.create_transfer(request))

    async def GetTransfer(
        self, request: pb.GetTransferRequest, context: Any
    ) -> account_pb2.Transfer:
        """Return one transfer."""
        tenant_id = identity.current().tenant_id
        return await transfer_handlers.get_transfer(tenant_id, request.transfer_id, uow=self._uow)

    async def ListTransfers(
        self, request: pb.ListTransfersRequest, context: Any
    ) -> pb.ListTransfersResponse:
        """List the transfers of an account, newest first."""
        transfers, token = await transfer_handlers.list_transfers(
            identity.current().tenant_id,
            request.account_id,
            request.page_size,
            request.page_token,
            uow=self._uow,
        )
        return pb.ListTransfersResponse(transfers=transfers, next_page_token=token)

    async def _create_accounts(
        self, tenant_id: str, batch: Sequence[handlers.CreateAccount]
    ) -> list[account_pb2.Account | InterchangeError]:
        return await handlers.create_accounts(tenant_id, batch, uow=self._uow, clock=self._clock)

    async def _create_transfers(
        self, tenant_id: str, batch: Sequence[transfer_handlers.CreateTransfer]
    ) -> list[account_pb2.Transfer | InterchangeError]:
        return await transfer_handlers.create_transfers(
            tenant_id, batch, uow=self._uow, clock=self._clock
        )


def _result(outcome: account_pb2.Account | InterchangeError) -> pb.CreateAccountResult:
    if isinstance(outcome, InterchangeError):
        return pb.CreateAccountResult(error=outcome.to_status())
    return pb.CreateAccountResult(account=outcome)
