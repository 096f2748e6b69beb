"""Whether position and ledger hold a trade, asked of them."""

import asyncio
from collections.abc import Awaitable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, cast

import grpc
from interchange.ledger.v1.ledger_service_pb2 import GetLedgerWatermarkRequest
from interchange.ledger.v1.ledger_service_pb2_grpc import LedgerServiceStub
from interchange.position.v1.position_service_pb2 import GetPositionWatermarkRequest
from interchange.position.v1.position_service_pb2_grpc import PositionServiceStub
from interchange.trade.v1.trade_pb2 import (
    PROCESSING_STATE_ACCEPTED,
    PROCESSING_STATE_POSTED,
    ProcessingState,
)
from interchange.trade.v1.trade_service_pb2 import WAIT_FOR_LEDGER, WAIT_FOR_POSITION, WaitFor

from services.common import deadline
from services.common.clients import Channel
from services.common.errors import DeadlineExceeded
from services.trade.commands import TradeRow

if TYPE_CHECKING:
    from interchange.ledger.v1.ledger_service_pb2_grpc import LedgerServiceAsyncStub
    from interchange.position.v1.position_service_pb2_grpc import PositionServiceAsyncStub

ACCOUNTS_AT_ONCE = 64
MARGIN_S = 0.05
"""Left of the deadline for the way back."""
LOOK_S = 1.0
"""How long a read waits for the other services before it says ACCEPTED."""


class Posting:
    """Asks position and ledger how far they are."""

    def __init__(self, channel: Channel) -> None:
        self._position: PositionServiceAsyncStub = cast(
            "PositionServiceAsyncStub", channel.stub(PositionServiceStub)
        )
        self._ledger: LedgerServiceAsyncStub = cast(
            "LedgerServiceAsyncStub", channel.stub(LedgerServiceStub)
        )

    async def wait(self, rows: Iterable[TradeRow], wait_for: WaitFor.ValueType) -> None:
        """Return once those asked for hold the trades.

        Raises DeadlineExceeded when they don't in time: the trades are booked
        all the same, and the same call with the same key waits again.
        """
        furthest: dict[str, int] = {}
        for row in rows:
            furthest[row.account_id] = max(row.sequence, furthest.get(row.account_id, 0))
        gate = asyncio.Semaphore(ACCOUNTS_AT_ONCE)

        async def one(account_id: str, sequence: int) -> None:
            async with gate:
                await self._reach(account_id, sequence, wait_for)

        timeout = deadline.remaining()
        try:
            async with asyncio.timeout(None if timeout is None else max(0.0, timeout - MARGIN_S)):
                await asyncio.gather(*(one(name, sequence) for name, sequence in furthest.items()))
        except (TimeoutError, grpc.aio.AioRpcError) as error:
            raise DeadlineExceeded(
                "NOT_YET_POSTED", "booked, but not posted in time; the same call waits again"
            ) from error

    async def state(self, row: TradeRow) -> ProcessingState.ValueType:
        """Return how far one trade has come; ACCEPTED when the others don't answer."""
        with suppress(TimeoutError, grpc.aio.AioRpcError):
            async with asyncio.timeout(LOOK_S):
                position, ledger = await asyncio.gather(
                    self._position.GetPositionWatermark(
                        GetPositionWatermarkRequest(account_id=row.account_id)
                    ),
                    self._ledger.GetLedgerWatermark(
                        GetLedgerWatermarkRequest(account_id=row.account_id)
                    ),
                )
            if min(position.trade_sequence, ledger.trade_sequence) >= row.sequence:
                return PROCESSING_STATE_POSTED
        return PROCESSING_STATE_ACCEPTED

    async def _reach(self, account_id: str, sequence: int, wait_for: WaitFor.ValueType) -> None:
        calls: list[Awaitable[object]] = []
        if wait_for != WAIT_FOR_LEDGER:
            request = GetPositionWatermarkRequest(account_id=account_id, min_sequence=sequence)
            calls.append(self._position.GetPositionWatermark(request))
        if wait_for != WAIT_FOR_POSITION:
            asked = GetLedgerWatermarkRequest(account_id=account_id, min_sequence=sequence)
            calls.append(self._ledger.GetLedgerWatermark(asked))
        await asyncio.gather(*calls)
