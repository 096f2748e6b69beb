"""A stream that breaks is opened anew, and what was not answered is sent again, in order."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2
from interchange.trade.v1.trade_service_pb2 import (
    StreamTradesRequest,
    StreamTradesResponse,
    TradeReceipt,
)

from services.common.errors import InvalidArgument, Unavailable
from services.stack import booking
from services.stack.blotter import BlotterError
from services.stack.booking import Chunk, GaveUp, Stream, violations

NO_METADATA = grpc.aio.Metadata()


def broken(code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, NO_METADATA, NO_METADATA, details="gone")


class Book:
    """The other side: books each external id once, over as many calls as it takes."""

    def __init__(self, *, answers_a_call: int = 10**9, code: grpc.StatusCode | None = None) -> None:
        self.booked: dict[str, int] = {}
        self.answers_a_call = answers_a_call
        self.code = code or grpc.StatusCode.UNAVAILABLE
        self.calls = 0
        self.unanswered_max = 0
        self.faults: list[TradeReceipt] = []

    def open(self) -> Any:
        self.calls += 1
        return Call(self)

    def receipt(self, external_id: str) -> TradeReceipt:
        if self.faults:
            return self.faults.pop()
        repeated = external_id in self.booked
        sequence = self.booked.setdefault(external_id, len(self.booked) + 1)
        return TradeReceipt(trade_id="t", sequence=sequence, repeated_call=repeated)


class Call:
    """One stream: it books what it is sent and breaks after some answers."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._left = book.answers_a_call
        self._answers: asyncio.Queue[StreamTradesResponse | None] = asyncio.Queue()
        self._waiting = 0

    async def write(self, request: StreamTradesRequest) -> None:
        receipts = [self._book.receipt(trade.external_id) for trade in request.requests]
        self._waiting += 1
        self._book.unanswered_max = max(self._book.unanswered_max, self._waiting)
        await self._answers.put(StreamTradesResponse(receipts=receipts))

    async def read(self) -> Any:
        await asyncio.sleep(0)
        if not self._left:
            raise broken(self._book.code)
        self._left -= 1
        response = await self._answers.get()
        self._waiting -= 1
        return grpc.aio.EOF if response is None else response

    async def done_writing(self) -> None:
        await self._answers.put(None)

    def cancel(self) -> bool:
        return True


class Answers:
    """What the sender was told."""

    def __init__(self) -> None:
        self.chunks: list[int] = []
        self.receipts: list[TradeReceipt] = []

    def take(self, chunk: Chunk[int], receipts: Sequence[TradeReceipt]) -> None:
        self.chunks.append(chunk.notes[0])
        self.receipts += receipts


def chunks(count: int) -> Iterator[Chunk[int]]:
    for number in range(count):
        chunk = Chunk(notes=[number])
        chunk.request.requests.add(external_id=str(number))
        yield chunk


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(booking, "PAUSE_MIN_S", 0.001)
    monkeypatch.setattr(booking, "PAUSE_MAX_S", 0.01)


async def test_every_chunk_is_answered_once_in_order() -> None:
    book, answers = Book(), Answers()
    await Stream(book.open, answers.take, 1.0).book(chunks(20))
    assert answers.chunks == list(range(20))
    assert len(book.booked) == 20
    assert book.unanswered_max <= booking.WINDOW


async def test_connection_breaks_again_and_again_and_nothing_is_twice() -> None:
    book, answers = Book(answers_a_call=3), Answers()
    stream = Stream(book.open, answers.take, 1.0)
    await stream.book(chunks(20))
    assert answers.chunks == list(range(20))
    assert sorted(book.booked.values()) == list(range(1, 21))
    assert list(book.booked) == [str(number) for number in range(20)]
    assert stream.reconnects == book.calls - 1 > 0


async def test_patience_ends() -> None:
    book, answers = Book(answers_a_call=0), Answers()
    with pytest.raises(GaveUp, match="UNAVAILABLE: gone"):
        await Stream(book.open, answers.take, 0.05).book(chunks(3))
    assert book.calls > 1


async def test_refused_caller_is_told_at_once() -> None:
    book = Book(answers_a_call=0, code=grpc.StatusCode.PERMISSION_DENIED)
    with pytest.raises(GaveUp, match="PERMISSION_DENIED"):
        await Stream(book.open, Answers().take, 10.0).book(chunks(3))
    assert book.calls == 1


async def test_receipt_of_a_passing_fault_is_no_refusal() -> None:
    book, answers = Book(), Answers()
    book.faults = [TradeReceipt(error=Unavailable("DATABASE_UNAVAILABLE", "later").to_status())]
    await Stream(book.open, answers.take, 1.0).book(chunks(6))
    assert answers.chunks == list(range(6))
    assert not any(receipt.HasField("error") for receipt in answers.receipts)


async def test_trade_that_breaks_the_service_does_not_stop_the_others() -> None:
    book, answers = Book(), Answers()
    fault = TradeReceipt()
    fault.error.code = code_pb2.INTERNAL
    original = book.receipt

    def only_first(external_id: str) -> TradeReceipt:
        return fault if external_id == "0" else original(external_id)

    book.receipt = only_first  # type: ignore[method-assign]
    await Stream(book.open, answers.take, 5.0).book(chunks(4))
    assert answers.chunks == [0, 1, 2, 3]
    assert [receipt.HasField("error") for receipt in answers.receipts] == [
        True,
        False,
        False,
        False,
    ]


@pytest.mark.parametrize("answers_a_call", [2, 10**9])
async def test_error_of_the_source_comes_after_the_answers(answers_a_call: int) -> None:
    def damaged() -> Iterator[Chunk[int]]:
        yield from chunks(5)
        raise BlotterError("damaged after line 6")

    book, answers = Book(answers_a_call=answers_a_call), Answers()
    with pytest.raises(BlotterError, match="damaged"):
        await Stream(book.open, answers.take, 1.0).book(damaged())
    assert answers.chunks == list(range(5))


def test_violations_of_a_refusal_are_named() -> None:
    error = InvalidArgument.of("price", "PRICE_OFF_TICK", "must be a multiple")
    assert violations(error.to_status()) == [("price", "PRICE_OFF_TICK", "must be a multiple")]
    assert violations(Unavailable("GONE", "try again").to_status()) == [("", "GONE", "try again")]
