"""A day of trading through the whole stack, and what must be true afterwards.

Each run has accounts of its own, so everything about them can be recounted
from what the run itself sent, whatever else the tenant holds.
"""

import asyncio
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import grpc
from interchange.account.v1.account_pb2 import (
    ACCOUNT_KIND_CLIENT,
    ACCOUNT_KIND_HOUSE,
    TRANSFER_DIRECTION_DEPOSIT,
    Account,
    AccountKind,
    Transfer,
)
from interchange.account.v1.account_service_pb2 import CreateAccountRequest, CreateTransferRequest
from interchange.instrument.v1.instrument_pb2 import INSTRUMENT_STATUS_ACTIVE, Instrument
from interchange.trade.v1.trade_service_pb2 import (
    WAIT_FOR_POSTED,
    StreamTradesRequest,
    TradeReceipt,
)

from services.stack import recount
from services.stack.booking import CHUNK_SIZE, Chunk, Stream, add_trade, violations
from services.stack.day import Trade, last_weekday, trading_day
from services.stack.edge import Edge
from services.stack.faults import Fault, faults
from services.stack.recount import Recount
from services.stack.report import Bars
from services.stack.waiting import Mark, until_posted, until_tradable

if TYPE_CHECKING:
    from services.stack.booking import Call

SOURCE = "demo"
SEED = 20131007
DEPOSITS = (("USD", 1_000_000), ("EUR", 500_000))
CALLS_AT_ONCE = 32
MEASURE_S_MAX = 12.0
REPEATED = 1_000
"""Trades that are sent a second time."""
Note = tuple[Trade, str]
"""A trade and its external id."""


@dataclass(slots=True)
class Outcome:
    """What a run did."""

    run: int = 0
    accounts: list[str] = field(default_factory=list)
    instruments_created: int = 0
    sent: int = 0
    booked: int = 0
    posting_s: float = 0.0
    """From the first trade sent until position and ledger held the last."""
    booking_s: float = 0.0
    repeated: int = 0
    """Of the trades that were sent a second time, those answered as booked before."""
    unexpected: list[str] = field(default_factory=list)
    """Good trades that were refused."""
    refused: list[tuple[Fault, str]] = field(default_factory=list)
    """Bad trades and the reasons they were given; empty for one that was booked."""
    latencies_ms: list[float] = field(default_factory=list)
    reconnects: int = 0
    marks: dict[str, Mark] = field(default_factory=dict)


class Demo:
    """One run."""

    def __init__(self, edge: Edge, bars: Bars) -> None:
        self._edge = edge
        self._bars = bars
        self._instruments: list[Instrument] = []
        self._transfers: dict[str, int] = {}
        self._booked: list[tuple[Trade, int]] = []
        """Trades and the numbers of their events. Counted later: booking goes first."""
        self.outcome = Outcome()

    async def prepare(self, clients: int) -> None:
        """Make instruments, the run's accounts and their cash."""
        outcome = self.outcome
        outcome.instruments_created = len(await self._edge.create_instruments())
        self._instruments = [
            one
            for one in await self._edge.all_instruments()
            if one.status == INSTRUMENT_STATUS_ACTIVE and one.currency in dict(DEPOSITS)
        ]
        outcome.run = await self._claim()
        names = [f"DEMO{outcome.run}-{number:04d}" for number in range(1, clients + 1)]
        made = [_account(name, ACCOUNT_KIND_CLIENT) for name in names]
        await self._edge.create_accounts(made)
        outcome.accounts = [_house(outcome.run), *names]
        await self._deposit()
        instruments = [one.instrument_id for one in self._instruments]
        await until_tradable(self._edge, outcome.accounts, instruments)

    async def trade(self, count: int) -> None:
        """Book the day, then what must be refused, then a part of the day again."""
        outcome = self.outcome
        today = datetime.now(UTC).date()
        day = list(
            trading_day(self._instruments, outcome.accounts, count, SEED, last_weekday(today))
        )
        notes = [(trade, f"{outcome.run}-{number}") for number, trade in enumerate(day)]
        outcome.sent = count
        began = time.monotonic()
        await self._book(notes)
        outcome.booking_s = time.monotonic() - began
        last: dict[str, int] = {}
        for trade, sequence in self._booked:
            last[trade.account] = max(sequence, last.get(trade.account, 0))
        stage = self._bars.stage("posting, by account", len(outcome.accounts))
        reach = partial(until_posted, self._edge, transfers=self._transfers)
        outcome.marks = await reach(last, reached=stage.advance)
        outcome.posting_s = time.monotonic() - began
        await self._refuse(notes)
        await self._repeat(notes[:REPEATED])

    async def measure(self, calls: int) -> None:
        """Book trades one by one, each until position and ledger hold it.

        On a slow machine it ends early: a demonstration must not take for ever.
        """
        ends = time.monotonic() + MEASURE_S_MAX
        chance = random.Random(SEED)
        stage = self._bars.stage("single calls", calls)
        rpc = self._edge.trades.CreateTrade
        for number in range(calls):
            trade = chance.choice(self._booked)[0]
            request = StreamTradesRequest()
            _add(request, trade, f"{self.outcome.run}-single-{number}")
            single = request.requests[0]
            single.wait_for = WAIT_FOR_POSTED
            began = time.perf_counter()
            answer = await self._edge.call(rpc, single)
            self.outcome.latencies_ms.append((time.perf_counter() - began) * 1_000)
            self._booked.append((trade, answer.sequence))
            stage.advance()
            if time.monotonic() > ends:
                stage.end()
                break

    def recount(self) -> Recount:
        """Count what was sent and booked."""
        counted = Recount()
        for trade, sequence in self._booked:
            counted.add(
                trade.account,
                sequence,
                recount.fill(
                    trade.instrument,
                    trade.side,
                    trade.quantity,
                    trade.price,
                    trade.currency,
                    trade.fees,
                ),
            )
        return counted

    async def _claim(self) -> int:
        """Return a number that no other run has: whoever creates its house account owns it."""
        run = 1
        while True:
            request = CreateAccountRequest(account=_account(_house(run), ACCOUNT_KIND_HOUSE))
            try:
                await self._edge.call(self._edge.accounts.CreateAccount, request)
                return run
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.ALREADY_EXISTS:
                    raise
                run += 1

    async def _deposit(self) -> None:
        gate = asyncio.Semaphore(CALLS_AT_ONCE)
        accounts = self.outcome.accounts
        stage = self._bars.stage("cash deposits", len(accounts) * len(DEPOSITS))

        async def one(account: str, currency: str, units: int) -> None:
            transfer = Transfer(
                direction=TRANSFER_DIRECTION_DEPOSIT, description="opening cash of the demo"
            )
            transfer.cash.currency_code, transfer.cash.units = currency, units
            request = CreateTransferRequest(
                account_id=account, transfer=transfer, request_id=f"{account}-{currency}"
            )
            async with gate:
                answer = await self._edge.call(self._edge.accounts.CreateTransfer, request)
            self._transfers[account] = max(answer.sequence, self._transfers.get(account, 0))
            stage.advance()

        await asyncio.gather(
            *(one(account, *deposit) for account in accounts for deposit in DEPOSITS)
        )

    async def _book(self, notes: Sequence[Note]) -> None:
        outcome = self.outcome
        stage = self._bars.stage("booking", len(notes))

        def answered(chunk: Chunk[Note], receipts: Sequence[TradeReceipt]) -> None:
            for (trade, external_id), receipt in zip(chunk.notes, receipts, strict=True):
                if receipt.HasField("error"):
                    outcome.unexpected.append(f"{external_id}: {receipt.error.message}")
                else:
                    self._booked.append((trade, receipt.sequence))
            outcome.booked = len(self._booked)
            stage.reach(outcome.booked + len(outcome.unexpected), len(outcome.unexpected))

        stream = Stream(self._open, answered, self._edge.patience_s)
        await stream.book(_chunks(notes))
        outcome.reconnects = stream.reconnects

    async def _refuse(self, notes: Sequence[Note]) -> None:
        """Send the bad trades."""
        good, booked = notes[0]
        bad = faults(good, f"{self.outcome.run}-bad", booked, time.time_ns() // 1_000)

        def answered(chunk: Chunk[Note], receipts: Sequence[TradeReceipt]) -> None:
            for fault, receipt in zip(bad, receipts, strict=True):
                reasons = [reason for _, reason, _ in violations(receipt.error)]
                refused = receipt.HasField("error")
                self.outcome.refused.append((fault, ", ".join(reasons) if refused else ""))

        stream = Stream(self._open, answered, self._edge.patience_s)
        await stream.book(_chunks([(fault.trade, fault.external_id) for fault in bad]))

    async def _repeat(self, notes: Sequence[Note]) -> None:
        """Send good trades again: each must be answered as the one that was booked."""
        first = dict(zip((name for _, name in notes), self._booked, strict=False))

        def answered(chunk: Chunk[Note], receipts: Sequence[TradeReceipt]) -> None:
            for (_, name), receipt in zip(chunk.notes, receipts, strict=True):
                same = receipt.sequence == first[name][1]
                self.outcome.repeated += receipt.repeated_call and same

        stream = Stream(self._open, answered, self._edge.patience_s)
        await stream.book(_chunks(notes))

    def _open(self) -> "Call":
        return self._edge.trades.StreamTrades(metadata=self._edge.metadata())


def _chunks(notes: Sequence[Note]) -> Iterator[Chunk[Note]]:
    for at in range(0, len(notes), CHUNK_SIZE):
        chunk: Chunk[Note] = Chunk(notes=list(notes[at : at + CHUNK_SIZE]))
        for trade, external_id in chunk.notes:
            _add(chunk.request, trade, external_id)
        yield chunk


def _add(request: StreamTradesRequest, trade: Trade, external_id: str) -> None:
    add_trade(
        request,
        SOURCE,
        external_id,
        trade.account,
        trade.instrument,
        trade.side,
        trade.quantity,
        trade.price,
        trade.currency,
        trade.time_us,
        trade.venue,
        trade.fees,
    )


def _account(name: str, kind: AccountKind.ValueType) -> Account:
    return Account(account_id=name, display_name=name, kind=kind, base_currency="USD")


def _house(run: int) -> str:
    return f"DEMO{run}-HOUSE"
