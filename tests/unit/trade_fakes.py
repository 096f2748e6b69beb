"""Fakes of the trade service's ports, in memory."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.decimal_pb2 import Decimal
from interchange.trade.v1.trade_service_pb2 import CreateTradeRequest

from services.common.clock import ManualClock
from services.common.errors import InterchangeError
from services.common.ids import Uuid7
from services.common.outbox import Outbox
from services.common.work import Work, WorkUnits
from services.trade import handlers
from services.trade.booking import Outcome
from services.trade.commands import Booked, TradeRow, columns
from services.trade.domain import Account, Instruments
from services.trade.references import References
from services.trade.repository import Key, KeyRaced, NewKeys, TradeFilter, TradeRepository

NOW = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)


class MemoryTrades(TradeRepository):
    """Keeps rows in dictionaries; `races` makes that many key grabs fail."""

    def __init__(self) -> None:
        self.rows: dict[str, TradeRow] = {}
        self.requests: dict[str, Key] = {}
        self.externals: dict[tuple[str, str], Key] = {}
        self.known = {"ACC1": Account(True, False, 0), "ACC2": Account(True, True, 7)}
        self.known["SHUT"] = Account(False, False, 0)
        self.listed = {"AIG": 1, "HALT": 2, "DEAD": 3}
        self.races = 0

    async def accounts(self, tenant_id: str, account_ids: Sequence[str]) -> Mapping[str, Account]:
        return {name: self.known[name] for name in account_ids if name in self.known}

    async def instruments(self, tenant_id: str, instrument_ids: Sequence[str]) -> Instruments:
        names = [name for name in instrument_ids if name in self.listed]
        return Instruments(
            index={name: index for index, name in enumerate(names)},
            status=np.array([self.listed[name] for name in names], np.int64),
            currency=["USD"] * len(names),
            exponent=np.array([2] * len(names), np.uint8),
            lot=np.array([1_000_000] * len(names), np.int64),
            tick=np.array([10_000] * len(names), np.int64),
            zone=[ZoneInfo("America/New_York")] * len(names),
        )

    async def request_keys(self, tenant_id: str, request_ids: Sequence[str]) -> Mapping[str, Key]:
        return {name: self.requests[name] for name in request_ids if name in self.requests}

    async def external_keys(
        self, tenant_id: str, sources: Sequence[str], external_ids: Sequence[str]
    ) -> Mapping[tuple[str, str], Key]:
        names = zip(sources, external_ids, strict=True)
        return {name: self.externals[name] for name in names if name in self.externals}

    async def take_keys(self, tenant_id: str, keys: NewKeys, recorded_us: int) -> None:
        if self.races:
            self.races -= 1
            raise KeyRaced
        requests = zip(keys.request_hashes, keys.request_trades, strict=True)
        self.requests.update(
            {name: Key(*key) for name, key in zip(keys.request_ids, requests, strict=True)}
        )
        externals = zip(keys.external_hashes, keys.external_trades, strict=True)
        names = zip(keys.sources, keys.external_ids, strict=True)
        self.externals.update({name: Key(*key) for name, key in zip(names, externals, strict=True)})

    async def insert(
        self, tenant_id: str, rows: Sequence[TradeRow], booked_by: Sequence[str]
    ) -> None:
        assert len(rows) == len(booked_by)
        for row in rows:
            self.rows[row.trade_id] = row
            self.known[row.account_id] = Account(
                True, self.known[row.account_id].fifo, row.sequence
            )

    async def trades(self, tenant_id: str, trade_ids: Sequence[str]) -> Mapping[str, TradeRow]:
        return {name: self.rows[name] for name in trade_ids if name in self.rows}

    async def list(
        self, tenant_id: str, wanted: TradeFilter, before: str | None, limit: int
    ) -> Sequence[TradeRow]:
        found = sorted(self.rows, reverse=True)
        return [self.rows[name] for name in found if before is None or name < before][:limit]


class MemoryUnits(WorkUnits[TradeRepository]):
    """Commits nothing anywhere: what the fake repository holds is the truth."""

    def __init__(self, repository: MemoryTrades) -> None:
        self.repository = repository
        self.outboxes: list[Outbox] = []

    @asynccontextmanager
    async def tenant(
        self, tenant_id: str, lock: Sequence[str] = ()
    ) -> AsyncIterator[Work[TradeRepository]]:
        work: Work[TradeRepository] = Work(self.repository, Outbox("trade", 1))
        yield work
        self.outboxes.append(work.outbox)

    @asynccontextmanager
    async def reading(self, tenant_id: str) -> AsyncIterator[TradeRepository]:
        yield self.repository


class NoReferences(References):
    """Nothing that is missing will ever come."""

    async def appear(
        self, tenant_id: str, accounts: Sequence[str], instruments: Sequence[str]
    ) -> bool:
        return False


class Desk:
    """Books requests with fakes all around."""

    def __init__(self) -> None:
        self.repository = MemoryTrades()
        self.units = MemoryUnits(self.repository)
        self.clock = ManualClock(NOW)
        self.ids = Uuid7()
        self.references: References = NoReferences()

    async def book(self, *requests: CreateTradeRequest) -> list[Outcome]:
        copies = [CreateTradeRequest.FromString(r.SerializeToString()) for r in requests]
        prepared = handlers.prepare(columns(copies), ["ann"] * len(copies), self.clock)
        return await handlers.create_trades(
            "demo", prepared, uow=self.units, ids=self.ids, references=self.references
        )

    async def book_one(self, request: CreateTradeRequest) -> TradeRow:
        [outcome] = await self.book(request)
        assert isinstance(outcome, Booked), outcome
        return outcome.row

    async def refusal(self, request: CreateTradeRequest) -> InterchangeError:
        """Return the error of a request, having checked that nothing was stored."""
        [outcome] = await self.book(request)
        assert isinstance(outcome, InterchangeError), outcome
        assert not self.repository.rows
        assert not self.repository.requests
        assert not self.repository.externals
        assert not any(outbox.columns for outbox in self.units.outboxes)
        return outcome


def order(**changes: Any) -> CreateTradeRequest:
    """Return a request to buy 100 AIG at 49.18, with changes."""
    values: dict[str, Any] = {
        "request_id": "r1",
        "account_id": "ACC1",
        "instrument_id": "AIG",
        "side": 1,
        "quantity": "100",
        "price": "49.18",
        "currency": "USD",
        "venue": "ARCX",
        **changes,
    }
    values["quantity"] = Decimal(value=values["quantity"])
    values["price"] = Decimal(value=values["price"])
    if isinstance(values.get("trade_time"), str):
        stamp = Timestamp()
        stamp.FromJsonString(values["trade_time"])
        values["trade_time"] = stamp
    return CreateTradeRequest(**values)
