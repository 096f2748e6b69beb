"""Waiting for what follows by events: reference data in trade, trades in position and ledger."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

import grpc
from google.rpc import code_pb2
from interchange.ledger.v1.ledger_service_pb2 import GetLedgerWatermarkRequest
from interchange.position.v1.position_service_pb2 import GetPositionWatermarkRequest
from interchange.trade.v1.trade_pb2 import SIDE_BUY
from interchange.trade.v1.trade_service_pb2 import BatchCreateTradesRequest

from services.stack.booking import CHUNK_SIZE, PASSING, GaveUp, violations
from services.stack.edge import Edge

if TYPE_CHECKING:
    from interchange.ledger.v1.ledger_pb2 import LedgerWatermark
    from interchange.position.v1.position_pb2 import PositionWatermark

    Rpc = grpc.aio.UnaryUnaryMultiCallable[
        GetPositionWatermarkRequest | GetLedgerWatermarkRequest, PositionWatermark | LedgerWatermark
    ]

NO_CURRENCY = "XXX"
"""No instrument is traded in it: a trade in it can never be booked."""
UNKNOWN = frozenset({"ACCOUNT_NOT_FOUND", "INSTRUMENT_NOT_FOUND"})
AT_ONCE = 64
"""Calls in flight."""
PAUSE_S = 0.05
NOT_YET = (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.DEADLINE_EXCEEDED)
PASSING_BUT_LATE = PASSING - {code_pb2.DEADLINE_EXCEEDED}


class Mark(NamedTuple):
    """Numbers of the last applied events of an account."""

    trades: int
    transfers: int


async def until_tradable(edge: Edge, accounts: Iterable[str], instruments: Sequence[str]) -> None:
    """Wait until the trade service knows accounts and instruments.

    It follows their events, a moment later. It is asked by trades that can never
    be booked, whose refusal names everything that is wrong with them. A real
    trade that came too early would be refused and, tried again, be out of order.
    """
    pairs = _pairs(list(accounts), list(instruments))
    ends = time.monotonic() + edge.patience_s
    while pairs:
        left = []
        for at in range(0, len(pairs), CHUNK_SIZE):
            left += await _unknown(edge, pairs[at : at + CHUNK_SIZE])
        if left and time.monotonic() > ends:
            raise GaveUp(
                f"the trade service does not know {len(left)} accounts or instruments after "
                f"{edge.patience_s:.0f} s, {left[0]} among them",
                "Its consumer says why: `interchange logs trade`.",
            )
        pairs = left
        if pairs:
            await asyncio.sleep(PAUSE_S)


def _pairs(accounts: list[str], instruments: list[str]) -> list[tuple[str, str]]:
    """Return pairs that name each account and each instrument at least once."""
    if not accounts or not instruments:
        return []
    count = max(len(accounts), len(instruments))
    return [(accounts[n % len(accounts)], instruments[n % len(instruments)]) for n in range(count)]


async def _unknown(edge: Edge, pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    request = BatchCreateTradesRequest()
    for at, (account, instrument) in enumerate(pairs):
        trade = request.requests.add(
            account_id=account,
            instrument_id=instrument,
            side=SIDE_BUY,
            currency=NO_CURRENCY,
            external_source="probe",
            external_id=f"probe-{at}",
        )
        trade.quantity.value = trade.price.value = "1"
    answer = await edge.call(edge.trades.BatchCreateTrades, request)
    return [
        pair
        for pair, result in zip(pairs, answer.results, strict=True)
        if result.error.code in PASSING
        or UNKNOWN & {reason for _, reason, _ in violations(result.error)}
    ]


async def until_posted(
    edge: Edge,
    last: Mapping[str, int],
    transfers: Mapping[str, int] | None = None,
    reached: Callable[[], None] = lambda: None,
) -> dict[str, Mark]:
    """Wait until position and ledger hold each account's trades up to a number.

    `transfers` does the same for account events. `reached` is called once an
    account. Return how far the ledger is by then. Raises `GaveUp` when an account stands still
    for as long as the caller has patience.
    """
    gate = asyncio.Semaphore(AT_ONCE)
    rpcs = (
        (cast("Rpc", edge.positions.GetPositionWatermark), GetPositionWatermarkRequest),
        (cast("Rpc", edge.ledger.GetLedgerWatermark), GetLedgerWatermarkRequest),
    )

    marks: dict[str, Mark] = {}

    async def one(account: str) -> None:
        wanted = Mark(last.get(account, 0), (transfers or {}).get(account, 0))
        async with gate:
            for rpc, kind in rpcs:
                marks[account] = await _reach(edge, rpc, kind, account, wanted)
        reached()

    waiting = [asyncio.ensure_future(one(name)) for name in {**last, **(transfers or {})}]
    try:
        await asyncio.gather(*waiting)
        return marks
    finally:
        for task in waiting:
            task.cancel()


async def _reach(
    edge: Edge,
    rpc: "Rpc",
    kind: type[GetPositionWatermarkRequest | GetLedgerWatermarkRequest],
    account: str,
    wanted: Mark,
) -> Mark:
    trades, transfers = wanted
    request = kind(account_id=account, min_sequence=trades, min_transfer_sequence=transfers)
    seen, since = -1, time.monotonic()
    while True:
        try:
            mark = await edge.call(rpc, request, passing=PASSING_BUT_LATE)
            return Mark(mark.trade_sequence, mark.transfer_sequence)
        except grpc.aio.AioRpcError as error:
            if error.code() not in NOT_YET:
                raise
        mark = await edge.call(rpc, kind(account_id=account))
        if mark.trade_sequence + mark.transfer_sequence > seen:
            seen, since = mark.trade_sequence + mark.transfer_sequence, time.monotonic()
        elif time.monotonic() - since > edge.patience_s:
            name = kind.__name__.removeprefix("Get").removesuffix("WatermarkRequest").lower()
            raise GaveUp(
                f"{name} stands at trade {mark.trade_sequence} of {trades} of account {account}",
                f"Its consumer says why: `interchange logs {name}`.",
            )
