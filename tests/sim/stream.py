"""A stream of trades through the edge that goes on until it is told to end."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress
from decimal import Decimal
from types import TracebackType
from typing import Self

import asyncpg
from google.rpc import code_pb2
from interchange.account.v1.account_pb2 import COST_METHOD_AVERAGE, COST_METHOD_FIFO, Account
from interchange.trade.v1.trade_service_pb2 import CreateTradeRequest, TradeReceipt

from services.instrument import seed
from services.stack.booking import Chunk, Stream
from services.stack.edge import Edge
from services.stack.stack import Stack
from services.stack.waiting import until_posted, until_tradable
from tests.sim.books.laws import breaches
from tests.sim.books.seen import see
from tests.sim.books.sent import Fill, Sent, Trade
from tests.sim.chance import Chance

INSTRUMENTS = {"AIG": "USD", "BAC": "USD", "SAP": "EUR"}
FIFO = {f"A{n}": n % 2 == 1 for n in range(8)}
CHUNK = 2
"""Few: the stream is to be long, not broad."""
PATIENCE_S = 60.0


class Trading:
    """One tenant that trades without pause. Use as `async with`."""

    def __init__(self, stack: Stack, tenant: str, number: int) -> None:
        self.edge = Edge(stack, tenant, "sim", PATIENCE_S)
        self.sent = Sent(fifo=dict(FIFO))
        self._chance = Chance(number)
        self._orders = 0
        self._ended = False
        self._answer = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self.edge.__aenter__()
        await open_tenant(self.edge)
        stream = Stream(
            lambda: self.edge.trades.StreamTrades(metadata=self.edge.metadata()),
            self._answered,
            PATIENCE_S,
        )
        self._task = asyncio.create_task(stream.book(self._chunks()))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        await self.edge.__aexit__(kind, error, trace)

    async def go_on(self, trades: int) -> None:
        """Return when so many more trades are acknowledged."""
        wanted = len(self.sent.trades) + trades
        async with asyncio.timeout(PATIENCE_S):
            while len(self.sent.trades) < wanted:
                self._answer.clear()
                answer = asyncio.create_task(self._answer.wait())
                await asyncio.wait([answer, self._task], return_when="FIRST_COMPLETED")
                answer.cancel()
                if self._task.done():
                    self._task.result()

    async def end(self) -> None:
        """End the stream: wait until all that was sent is answered and posted."""
        self._ended = True
        await self._task
        await until_posted(self.edge, self.sent.last(), dict.fromkeys(FIFO, 1))

    def _chunks(self) -> Iterator[Chunk[CreateTradeRequest]]:
        while not self._ended:
            chunk: Chunk[CreateTradeRequest] = Chunk()
            for _ in range(CHUNK):
                request = order(self._chance, self._orders)
                self._orders += 1
                chunk.request.requests.append(request)
                chunk.notes.append(request)
            yield chunk

    def _answered(self, chunk: Chunk[CreateTradeRequest], receipts: Sequence[TradeReceipt]) -> None:
        for request, receipt in zip(chunk.notes, receipts, strict=True):
            if receipt.error.code != code_pb2.OK:
                self.sent.problems.append(f"{request.external_id} was refused: {receipt.error}")
                continue
            name = request.account_id
            booked = Trade(receipt.trade_id, name, receipt.sequence, fill(request))
            self.sent.booked(booked)
        self._answer.set()


async def open_tenant(edge: Edge) -> None:
    """Create what is traded and who trades, and wait until the trade service knows."""
    for request in seed.requests():
        if request.instrument.instrument_id in INSTRUMENTS:
            await edge.call(edge.instruments.CreateInstrument, request)
    accounts = [
        Account(
            account_id=name,
            base_currency="USD",
            cost_method=COST_METHOD_FIFO if fifo else COST_METHOD_AVERAGE,
        )
        for name, fifo in FIFO.items()
    ]
    assert await edge.create_accounts(accounts) == {}
    await until_tradable(edge, FIFO, list(INSTRUMENTS))


def order(chance: Chance, number: int) -> CreateTradeRequest:
    """Draw a trade."""
    instrument = chance.pick(list(INSTRUMENTS))
    request = CreateTradeRequest(
        account_id=chance.pick(list(FIFO)),
        instrument_id=instrument,
        side=chance.between(1, 2),  # type: ignore[arg-type]
        currency=INSTRUMENTS[instrument],
        external_source="stream",
        external_id=f"x{number}",
    )
    request.quantity.value = str(chance.between(1, 500))
    request.price.value = str(Decimal(chance.between(100_000, 900_000)).scaleb(-4))
    return request


def fill(request: CreateTradeRequest) -> Fill:
    """Return what a drawn trade moves."""
    quantity, price = Decimal(request.quantity.value), Decimal(request.price.value)
    return Fill.of(request.instrument_id, request.side, quantity, price, request.currency, 0)


async def breaches_of(stack: Stack, tenant: str, sent: Sent) -> list[str]:
    """Return what breaks a law, in the databases of a running stack."""
    connection = await asyncpg.connect(stack.database_url())
    try:
        return breaches(sent, await see(connection, tenant))
    finally:
        await connection.close()
