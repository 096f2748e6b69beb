"""Books chunks of trades over one stream, and sends again what was not answered.

Answers come in the order of the chunks, so what is unanswered when a
connection breaks is the last few chunks. They are sent again first, in their
order; whatever of them had been booked is answered as a repeat, because every
trade carries its external id.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

import grpc
from google.rpc import code_pb2, error_details_pb2, status_pb2
from interchange.trade.v1.trade_pb2 import Side
from interchange.trade.v1.trade_service_pb2 import (
    StreamTradesRequest,
    StreamTradesResponse,
    TradeReceipt,
)

from services.stack.errors import StackError

if TYPE_CHECKING:
    Call = grpc.aio.StreamStreamCall[StreamTradesRequest, StreamTradesResponse]

T = TypeVar("T")

CHUNK_SIZE = 1_000
WINDOW = 4
"""Chunks sent and not answered: the service writes one and prepares the next
while two are on their way."""
PAUSE_MIN_S = 0.1
PAUSE_MAX_S = 3.0
ANSWER_TIMEOUT_S = 60.0
"""A stream that is silent for longer is given up and opened anew."""

PASSING = frozenset(
    {
        code_pb2.CANCELLED,
        code_pb2.UNKNOWN,
        code_pb2.DEADLINE_EXCEEDED,
        code_pb2.RESOURCE_EXHAUSTED,
        code_pb2.ABORTED,
        code_pb2.INTERNAL,
        code_pb2.UNAVAILABLE,
    }
)
"""Codes after which the same call may succeed: the fault is not the caller's."""


FAULTS = frozenset({code_pb2.INTERNAL, code_pb2.UNKNOWN})
"""Faults of the service, perhaps by one trade: that trade must not stop the others."""
FAULT_SENDINGS_MAX = 5


class GaveUp(StackError):
    """Nothing was answered for as long as the caller had patience."""


class _Broken(Exception):
    """The stream ended before all was answered."""


@dataclass(slots=True)
class Chunk(Generic[T]):
    """Up to 1,000 trades, and what the sender wants to remember of each."""

    request: StreamTradesRequest = field(default_factory=StreamTradesRequest)
    notes: list[T] = field(default_factory=list)
    sendings: int = 0


def add_trade(
    request: StreamTradesRequest,
    source: str,
    external_id: str,
    account: str,
    instrument: str,
    side: int,
    quantity: str,
    price: str,
    currency: str,
    time_us: int,
    venue: str,
    fees: str = "",
) -> None:
    """Add a trade to a chunk, field by field into place: a third of what building parts costs."""
    trade = request.requests.add(
        account_id=account,
        instrument_id=instrument,
        side=Side.ValueType(side),
        currency=currency,
        venue=venue,
        external_source=source,
        external_id=external_id,
    )
    trade.quantity.value = quantity
    trade.price.value = price
    trade.trade_time.seconds, micros = divmod(time_us, 1_000_000)
    trade.trade_time.nanos = micros * 1_000
    if fees:
        whole, _, part = fees.partition(".")
        sign = -1 if fees.startswith("-") else 1
        trade.fees.currency_code = currency
        trade.fees.units = int(whole)
        trade.fees.nanos = sign * int(part.ljust(9, "0"))


class Stream(Generic[T]):
    """Books what an iterator of chunks yields; `answered` gets each chunk once, in order."""

    def __init__(
        self,
        open_call: "Callable[[], Call]",
        answered: Callable[[Chunk[T], Sequence[TradeReceipt]], None],
        patience_s: float,
    ) -> None:
        self._open_call = open_call
        self._answered = answered
        self._patience_s = patience_s
        self._unanswered: deque[Chunk[T]] = deque()
        self._last_answer = 0.0
        self._source_error: Exception | None = None
        self.reconnects = 0

    async def book(self, chunks: Iterator[Chunk[T]]) -> None:
        """Return when every chunk is answered.

        Raises `GaveUp` after `patience_s` without an answer, or at once for what
        no repetition heals; an error of the iterator comes after the answers to
        what it had yielded before.
        """
        self._last_answer = time.monotonic()
        pause = PAUSE_MIN_S
        while True:
            answers = self._last_answer
            try:
                await self._attempt(chunks)
                break
            except grpc.aio.AioRpcError as error:
                if error.code().value[0] not in PASSING:
                    raise GaveUp(f"the stream was refused: {describe(error)}") from error
                reason = describe(error)
            except (_Broken, TimeoutError) as error:
                reason = str(error) or "the stream was silent"
            if time.monotonic() - self._last_answer > self._patience_s:
                raise GaveUp(
                    f"no trade was answered for {self._patience_s:.0f} s: {reason}",
                    "Start it again when the stack is well: what is booked stays booked once.",
                )
            self.reconnects += 1
            pause = PAUSE_MIN_S if self._last_answer > answers else min(2 * pause, PAUSE_MAX_S)
            await asyncio.sleep(pause)
        if self._source_error is not None:
            raise self._source_error

    async def _attempt(self, chunks: Iterator[Chunk[T]]) -> None:
        call = self._open_call()
        slots = asyncio.Semaphore(max(0, WINDOW - len(self._unanswered)))
        writer = asyncio.create_task(self._write(call, chunks, slots))
        try:
            while True:
                async with asyncio.timeout(min(ANSWER_TIMEOUT_S, self._patience_s)):
                    response = await call.read()
                if not isinstance(response, StreamTradesResponse):
                    break
                self._take(response.receipts)
                slots.release()
            if not self._unanswered:
                # Every slot is free, so it has finished or is about to; what it
                # still took from the source would be unanswered.
                await asyncio.wait([writer])
            if self._unanswered:
                raise _Broken("the stream ended early")
        finally:
            call.cancel()
            writer.cancel()
            await asyncio.wait([writer])

    async def _write(
        self, call: "Call", chunks: Iterator[Chunk[T]], slots: asyncio.Semaphore
    ) -> None:
        try:
            for chunk in tuple(self._unanswered):
                await self._send(call, chunk)
            while True:
                await slots.acquire()
                following = self._next(chunks)
                if following is None:
                    break
                self._unanswered.append(following)
                await self._send(call, following)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # the reader learns of it too, and better
        finally:
            with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await call.done_writing()

    def _next(self, chunks: Iterator[Chunk[T]]) -> Chunk[T] | None:
        try:
            return next(chunks, None)
        except Exception as error:
            # Kept: the answers to what was sent come first, over more streams if need be.
            self._source_error = error
            return None

    async def _send(self, call: "Call", chunk: Chunk[T]) -> None:
        chunk.sendings += 1
        await call.write(chunk.request)

    def _take(self, receipts: Sequence[TradeReceipt]) -> None:
        chunk = self._unanswered[0]
        if len(receipts) != len(chunk.notes):
            raise _Broken(f"{len(receipts)} receipts for {len(chunk.notes)} trades")
        for receipt in receipts:
            if receipt.HasField("error") and _may_pass(receipt.error.code, chunk.sendings):
                # Not a refusal: the chunk is sent again, before any later one.
                raise _Broken(receipt.error.message)
        self._unanswered.popleft()
        self._last_answer = time.monotonic()
        self._answered(chunk, receipts)


def _may_pass(code: int, sendings: int) -> bool:
    return code in PASSING and (code not in FAULTS or sendings < FAULT_SENDINGS_MAX)


def violations(error: status_pb2.Status) -> list[tuple[str, str, str]]:
    """Return field, reason and description of each fault that a refusal names."""
    bad_request = error_details_pb2.BadRequest()
    info = error_details_pb2.ErrorInfo()
    for detail in error.details:
        # Unpacks only what it fits.
        _ = detail.Unpack(bad_request) or detail.Unpack(info)
    found = [
        (each.field, each.reason or info.reason, each.description)
        for each in bad_request.field_violations
    ]
    return found or [("", info.reason or code_pb2.Code.Name(error.code), error.message)]


def describe(error: grpc.aio.AioRpcError) -> str:
    """Return code and message of a failed call."""
    return f"{error.code().name}: {error.details() or 'no details'}"
