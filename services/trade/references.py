"""Accounts and instruments that the local copies lack: unknown, or only not here yet?

Copies follow by events, some milliseconds behind. Who creates an account and
trades at once must not be told that it does not exist.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Protocol, cast

import grpc
from interchange.account.v1.account_service_pb2 import GetAccountRequest
from interchange.account.v1.account_service_pb2_grpc import AccountServiceStub
from interchange.instrument.v1.instrument_service_pb2 import GetInstrumentRequest
from interchange.instrument.v1.instrument_service_pb2_grpc import InstrumentServiceStub

from services.common import deadline
from services.common.clients import Channel
from services.common.work import WorkUnits
from services.trade.repository import TradeRepository

if TYPE_CHECKING:
    from interchange.account.v1.account_service_pb2_grpc import AccountServiceAsyncStub
    from interchange.instrument.v1.instrument_service_pb2_grpc import InstrumentServiceAsyncStub

ASKED_MAX = 32
"""Names that are looked up for one batch: a blotter of garbage must not flood others."""
LOOK_S = 1.0
ARRIVAL_S = 5.0
"""How long a copy that must come is awaited: a consumer that has just started joins
its group first, which takes seconds."""
POLL_S = 0.01


class References(Protocol):
    """Tells whether missing copies exist elsewhere, and waits for them."""

    async def appear(
        self, tenant_id: str, accounts: Sequence[str], instruments: Sequence[str]
    ) -> bool:
        """Return true once a copy that was missing has come; false when none will."""


class PeerReferences(References):
    """Asks the services that own accounts and instruments."""

    def __init__(self, channel: Channel, units: WorkUnits[TradeRepository]) -> None:
        self._units = units
        self._account = cast("AccountServiceAsyncStub", channel.stub(AccountServiceStub))
        self._instrument = cast("InstrumentServiceAsyncStub", channel.stub(InstrumentServiceStub))

    async def appear(
        self, tenant_id: str, accounts: Sequence[str], instruments: Sequence[str]
    ) -> bool:
        """Return true once a copy that was missing has come; false when none will."""
        coming_accounts = await self._existing(accounts, self._has_account)
        coming_instruments = await self._existing(instruments, self._has_instrument)
        if not coming_accounts and not coming_instruments:
            return False
        left = deadline.remaining()
        patience = ARRIVAL_S if left is None else min(ARRIVAL_S, left / 2)
        try:
            async with asyncio.timeout(patience):
                while not await self._here(tenant_id, coming_accounts, coming_instruments):
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            pass
        return True

    async def _here(
        self, tenant_id: str, accounts: Sequence[str], instruments: Sequence[str]
    ) -> bool:
        async with self._units.reading(tenant_id) as repository:
            found_accounts = await repository.accounts(tenant_id, accounts)
            found_instruments = await repository.instruments(tenant_id, instruments)
        return len(found_accounts) == len(accounts) and (
            len(found_instruments.index) == len(instruments)
        )

    async def _existing(
        self, names: Sequence[str], has: Callable[[str], Awaitable[object]]
    ) -> list[str]:
        """Return those that their service knows; a service that is down knows none."""
        asked = list(names)[:ASKED_MAX]
        answers = await asyncio.gather(*map(has, asked), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, grpc.aio.AioRpcError):
                raise answer
        return [
            name
            for name, answer in zip(asked, answers, strict=True)
            if not isinstance(answer, BaseException)
        ]

    def _has_account(self, account_id: str) -> Awaitable[object]:
        return self._account.GetAccount(GetAccountRequest(account_id=account_id), timeout=LOOK_S)

    def _has_instrument(self, instrument_id: str) -> Awaitable[object]:
        request = GetInstrumentRequest(instrument_id=instrument_id)
        return self._instrument.GetInstrument(request, timeout=LOOK_S)
