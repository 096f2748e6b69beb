"""gRPC in: requests to commands, outcomes to responses."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import date
from typing import Any, TypeAlias

from google.type.date_pb2 import Date
from grpc.aio import ServicerContext
from interchange.trade.v1 import trade_service_pb2 as pb
from interchange.trade.v1.trade_pb2 import (
    PROCESSING_STATE_ACCEPTED,
    PROCESSING_STATE_POSTED,
    ProcessingState,
    Trade,
)
from interchange.trade.v1.trade_service_pb2_grpc import TradeServiceServicer

from services.common import identity, pagination
from services.common.batcher import Batcher, isolated
from services.common.clock import BusinessClock
from services.common.errors import InvalidArgument, Unavailable
from services.common.ids import Uuid7
from services.trade import handlers, responses
from services.trade.booking import Outcome, Prepared
from services.trade.commands import Booked, CreateTrades, columns, merged
from services.trade.posting import Posting
from services.trade.references import References
from services.trade.repository import TradeFilter

Context: TypeAlias = ServicerContext[Any, Any]

BATCH_MAX = 1_000


class TradeServicer(TradeServiceServicer):
    """Books and shows trades."""

    def __init__(
        self,
        units: handlers.Units,
        posting: Posting,
        references: References,
        clock: BusinessClock,
        ids: Uuid7,
        batch_size_max: int,
        draining: asyncio.Event,
    ) -> None:
        self._units = units
        self._posting = posting
        self._references = references
        self._clock = clock
        self._ids = ids
        self._draining = draining
        self._batcher: Batcher[tuple[CreateTrades, str], Booked] = Batcher(
            self._book_singles, batch_size_max
        )

    async def CreateTrade(self, request: pb.CreateTradeRequest, context: Context) -> Trade:
        """Book one trade."""
        caller = identity.current()
        wait_for = _wait_for(request.wait_for)
        command = columns([request])
        booked = await self._batcher.submit(caller.tenant_id, (command, caller.subject))
        state = await self._wait([booked], wait_for)
        return responses.trade(booked.row, state)

    async def BatchCreateTrades(
        self, request: pb.BatchCreateTradesRequest, context: Context
    ) -> pb.BatchCreateTradesResponse:
        """Book up to 1,000 trades, each with its own result."""
        wait_for = _wait_for(request.wait_for)
        outcomes = await self._book(identity.current(), await self._prepare(request.requests))
        state = await self._wait(outcomes, wait_for)
        return pb.BatchCreateTradesResponse(
            results=[responses.result(outcome, state) for outcome in outcomes]
        )

    async def StreamTrades(
        self, request_iterator: AsyncIterator[pb.StreamTradesRequest], context: Context
    ) -> AsyncIterator[pb.StreamTradesResponse]:
        """Book chunk after chunk; the next is prepared while one is being written.

        Chunks are written one at a time, so that the trades of an account keep
        the order of the stream. When the server drains, the stream ends after
        the chunk in hand; the caller sends what was not answered again.
        """
        caller = identity.current()
        prepared: asyncio.Queue[Prepared | BaseException | None] = asyncio.Queue(1)

        async def read() -> None:
            try:
                async for chunk in request_iterator:
                    await prepared.put(await self._prepare(chunk.requests))
                await prepared.put(None)
            except Exception as error:
                await prepared.put(error)

        reader = asyncio.create_task(read())
        try:
            while (item := await prepared.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                outcomes = await self._book(caller, item)
                yield pb.StreamTradesResponse(
                    receipts=[responses.receipt(outcome) for outcome in outcomes]
                )
                if self._draining.is_set():
                    raise Unavailable("DRAINING", "the server is leaving; go on elsewhere")
        finally:
            reader.cancel()

    async def GetTrade(self, request: pb.GetTradeRequest, context: Context) -> Trade:
        """Return one trade."""
        tenant_id = identity.current().tenant_id
        row = await handlers.get_trade(tenant_id, request.trade_id, uow=self._units)
        return responses.trade(row, await self._posting.state(row))

    async def ListTrades(
        self, request: pb.ListTradesRequest, context: Context
    ) -> pb.ListTradesResponse:
        """List trades, newest first."""
        wanted = TradeFilter(
            request.account_id or None,
            request.instrument_id or None,
            _date(request.trade_date) if request.HasField("trade_date") else None,
        )
        filters = {"a": wanted.account_id, "i": wanted.instrument_id, "d": wanted.trade_date}
        size = pagination.page_size(request.page_size)
        last = pagination.keyset(request.page_token, filters, str)
        rows = await handlers.list_trades(
            identity.current().tenant_id,
            wanted,
            pagination.uuid(last[0]) if last else None,
            size + 1,
            uow=self._units,
        )
        token = ""
        if len(rows) > size:
            token = pagination.page_token([rows[size - 1].trade_id], filters)
        return pb.ListTradesResponse(
            trades=[responses.trade(row) for row in rows[:size]], next_page_token=token
        )

    async def _prepare(self, requests: Sequence[pb.CreateTradeRequest]) -> Prepared:
        if not 1 <= len(requests) <= BATCH_MAX:
            raise InvalidArgument.of(
                "requests", "BATCH_SIZE_INVALID", f"were {len(requests)}, expected 1 to {BATCH_MAX}"
            )
        commands = columns(requests)
        prepared = handlers.prepare(
            commands, [identity.current().subject] * len(commands), self._clock
        )
        inner = [bool(wait_for) for wait_for in commands.wait_fors]
        if any(inner):
            rows = [row for row, given in enumerate(inner) if given]
            prepared.faults.add(
                rows, "wait_for", "WAIT_FOR_NOT_ALLOWED", "is allowed on CreateTrade only"
            )
        return prepared

    async def _book(self, caller: identity.Caller, prepared: Prepared) -> list[Outcome]:
        async def book(tenant_id: str, rows: Sequence[int]) -> list[Outcome]:
            part = prepared if len(rows) == len(prepared.commands) else prepared.chosen(rows)
            return await self._create(tenant_id, part)

        return await isolated(book, caller.tenant_id, range(len(prepared.commands)))

    async def _book_singles(
        self, tenant_id: str, singles: Sequence[tuple[CreateTrades, str]]
    ) -> list[Outcome]:
        commands = merged([command for command, _ in singles])
        prepared = handlers.prepare(commands, [subject for _, subject in singles], self._clock)
        return await self._create(tenant_id, prepared)

    async def _create(self, tenant_id: str, prepared: Prepared) -> list[Outcome]:
        return await handlers.create_trades(
            tenant_id, prepared, uow=self._units, ids=self._ids, references=self._references
        )

    async def _wait(
        self, outcomes: Sequence[Outcome], wait_for: pb.WaitFor.ValueType
    ) -> ProcessingState.ValueType:
        if wait_for == pb.WAIT_FOR_UNSPECIFIED:
            return PROCESSING_STATE_ACCEPTED
        rows = [outcome.row for outcome in outcomes if isinstance(outcome, Booked)]
        await self._posting.wait(rows, wait_for)
        posted = wait_for == pb.WAIT_FOR_POSTED
        return PROCESSING_STATE_POSTED if posted else PROCESSING_STATE_ACCEPTED


def _wait_for(given: pb.WaitFor.ValueType) -> pb.WaitFor.ValueType:
    if given not in pb.WaitFor.values():
        raise InvalidArgument.of("wait_for", "WAIT_FOR_UNKNOWN", "is not a known value")
    return given


def _date(given: Date) -> date:
    try:
        return date(given.year, given.month, given.day)
    except ValueError as error:
        raise InvalidArgument.of("trade_date", "TRADE_DATE_INVALID", str(error)) from error
