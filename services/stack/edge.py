"""A caller at the edge: gRPC over one connection, with a token that renews itself.

Every call here is safe to repeat, by its nature or by its key, so what fails
for a passing reason is repeated as long as the caller has patience.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Container, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc import code_pb2
from interchange.account.v1.account_pb2 import Account
from interchange.account.v1.account_service_pb2 import (
    BatchCreateAccountsRequest,
    CreateAccountRequest,
    ListAccountsRequest,
)
from interchange.account.v1.account_service_pb2_grpc import AccountServiceStub
from interchange.instrument.v1.instrument_pb2 import Instrument
from interchange.instrument.v1.instrument_service_pb2 import ListInstrumentsRequest
from interchange.instrument.v1.instrument_service_pb2_grpc import InstrumentServiceStub
from interchange.ledger.v1.ledger_service_pb2_grpc import LedgerServiceStub
from interchange.position.v1.position_service_pb2_grpc import PositionServiceStub
from interchange.trade.v1.trade_service_pb2_grpc import TradeServiceStub

from services.instrument import seed
from services.stack.booking import CHUNK_SIZE, PASSING, GaveUp, describe
from services.stack.stack import Stack

if TYPE_CHECKING:
    pass

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)

ROLE = "operations"
TOKEN_MINUTES = 60
TOKEN_RENEW_S = 20 * 60
CALL_TIMEOUT_S = 10.0
PAUSE_MIN_S = 0.05
PAUSE_MAX_S = 2.0
PAGE_SIZE = 1_000


class Edge:
    """One caller of one tenant. Use as `async with`."""

    def __init__(self, stack: Stack, tenant: str, subject: str, patience_s: float) -> None:
        self.stack = stack
        self.tenant = tenant
        self.patience_s = patience_s
        self._subject = subject
        self._token, self._renew_at = "", 0.0

    async def __aenter__(self) -> Self:
        """Open the connection."""
        settings = self.stack.settings
        self._channel = grpc.aio.insecure_channel(
            f"127.0.0.1:{settings.edge_port}",
            options=[
                # As fast as ours: gRPC would wait up to two minutes between attempts.
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 1_000),
                ("grpc.max_receive_message_length", 16 * 1024 * 1024),
                ("grpc.enable_retries", 0),
            ],
        )
        self.trades = TradeServiceStub(self._channel)
        self.accounts = AccountServiceStub(self._channel)
        self.instruments = InstrumentServiceStub(self._channel)
        self.positions = PositionServiceStub(self._channel)
        self.ledger = LedgerServiceStub(self._channel)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        await self._channel.close(None)

    @property
    def token(self) -> str:
        """A token that is valid for a good while yet."""
        if time.monotonic() >= self._renew_at:
            self._token = self.stack.token(self.tenant, [ROLE], self._subject, TOKEN_MINUTES)
            self._renew_at = time.monotonic() + TOKEN_RENEW_S
        return self._token

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return what every call carries."""
        return (("authorization", f"Bearer {self.token}"),)

    async def call(
        self,
        rpc: "grpc.aio.UnaryUnaryMultiCallable[Request, Response]",
        request: Request,
        timeout_s: float = CALL_TIMEOUT_S,
        passing: Container[int] = PASSING,
    ) -> Response:
        """Call, again and again while it fails with one of the `passing` codes.

        Raises AioRpcError for any other, `GaveUp` when patience ends.
        """
        ends = time.monotonic() + self.patience_s
        pause = PAUSE_MIN_S
        while True:
            try:
                return await rpc(request, timeout=timeout_s, metadata=self.metadata())
            except grpc.aio.AioRpcError as error:
                if error.code().value[0] not in passing:
                    raise
                if time.monotonic() > ends:
                    text = f"no answer for {self.patience_s:.0f} s: {describe(error)}"
                    raise GaveUp(text) from error
            await asyncio.sleep(pause)
            pause = min(2 * pause, PAUSE_MAX_S)

    async def all_instruments(self) -> list[Instrument]:
        """Return the tenant's instruments."""
        found: list[Instrument] = []
        request = ListInstrumentsRequest(page_size=PAGE_SIZE)
        while True:
            page = await self.call(self.instruments.ListInstruments, request)
            found += page.instruments
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    async def all_accounts(self) -> AsyncIterator[Account]:
        """Yield the tenant's accounts."""
        request = ListAccountsRequest(page_size=PAGE_SIZE)
        while True:
            page = await self.call(self.accounts.ListAccounts, request)
            for account in page.accounts:
                yield account
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def create_instruments(self, symbols: Container[str] | None = None) -> list[str]:
        """Create those of the built-in equities that are missing; return their ids.

        `symbols` says which, all when None.
        """
        known = {instrument.instrument_id for instrument in await self.all_instruments()}
        made = []
        for request in seed.requests():
            name = request.instrument.instrument_id
            if name in known or (symbols is not None and name not in symbols):
                continue
            try:
                await self.call(self.instruments.CreateInstrument, request)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.ALREADY_EXISTS:
                    raise
            made.append(name)
        return made

    async def create_accounts(self, accounts: Sequence[Account]) -> dict[str, str]:
        """Create accounts; return the reason by account id for those that were refused.

        One that exists already was created, perhaps by an earlier attempt whose
        answer was lost.
        """
        refused = {}
        for at in range(0, len(accounts), CHUNK_SIZE):
            part = accounts[at : at + CHUNK_SIZE]
            request = BatchCreateAccountsRequest(
                requests=[CreateAccountRequest(account=account) for account in part]
            )
            answer = await self.call(self.accounts.BatchCreateAccounts, request)
            for account, result in zip(part, answer.results, strict=True):
                if result.HasField("error") and result.error.code != code_pb2.ALREADY_EXISTS:
                    refused[account.account_id] = result.error.message
        return refused
