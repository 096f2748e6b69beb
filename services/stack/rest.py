"""What the outside sees: reads over REST, by the same door as any other caller."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, NamedTuple, Self

import aiohttp

from services.stack.booking import GaveUp
from services.stack.edge import Edge
from services.stack.errors import StackError
from services.stack.recount import (
    MONEY_DECIMALS,
    PRICE_DECIMALS,
    QUANTITY_DECIMALS,
    exponent,
    scaled,
)

PAGE_SIZE = 1_000
TIMEOUT_S = 60.0
PAUSE_MIN_S = 0.05
PAUSE_MAX_S = 2.0
ALL_ACCOUNTS = "-"
PENDING = "SUB_ACCOUNT_PENDING"
SETTLED = "SUB_ACCOUNT_SETTLED"
CASH = "ASSET_KIND_CURRENCY"


class StoredPosition(NamedTuple):
    """A position as it is shown; 1e-6 units, minor units, 1e-8 of the currency."""

    currency: str
    quantity: int
    cost: int
    realized: int
    average_cost: int


class StoredBalance(NamedTuple):
    """A balance as it is shown; minor units of money or 1e-6 units of securities."""

    sub_account: str
    asset: str
    is_cash: bool
    amount: int
    entries: int


class StoredEntry(NamedTuple):
    """An entry as it is shown; minor units of money or 1e-6 units of securities."""

    journal_id: str
    sub_account: str
    asset: str
    amount: int


class StoredTrade(NamedTuple):
    """What counts of a trade, as it is shown."""

    account: str
    sequence: int
    instrument: str
    side: str
    quantity: str
    price: str
    currency: str
    fees: int


class Reader:
    """Reads as the tenant of an edge. Use as `async with`."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    async def __aenter__(self) -> Self:
        """Open the connections."""
        self._session = aiohttp.ClientSession(
            self._edge.stack.edge_url, timeout=aiohttp.ClientTimeout(TIMEOUT_S)
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connections."""
        await self._session.close()

    async def positions(self, account: str = ALL_ACCOUNTS) -> dict[tuple[str, str], StoredPosition]:
        """Return positions by account and instrument."""
        found = {}
        async for row in self._rows(f"/v1/accounts/{account}/positions", "positions"):
            currency = row["openCost"]["currencyCode"]
            found[row["accountId"], row["instrumentId"]] = StoredPosition(
                currency,
                scaled(row["quantity"]["value"], QUANTITY_DECIMALS),
                minor(row["openCost"]),
                minor(row["realizedPnl"]),
                scaled(row["averageCost"]["value"], PRICE_DECIMALS),
            )
        return found

    async def balances(self, account: str = ALL_ACCOUNTS) -> dict[str, list[StoredBalance]]:
        """Return balances by account."""
        found: dict[str, list[StoredBalance]] = {}
        async for row in self._rows(f"/v1/accounts/{account}/balances", "balances"):
            balance = StoredBalance(
                row["subAccount"],
                row["asset"],
                row["assetKind"] == CASH,
                scaled(row["amount"]["value"], _decimals(row)),
                int(row["entryCount"]),
            )
            found.setdefault(row["accountId"], []).append(balance)
        return found

    async def entries(self, account: str) -> AsyncIterator[StoredEntry]:
        """Yield the entries of an account, newest first."""
        async for row in self._rows(f"/v1/accounts/{account}/entries", "entries"):
            decimals = _decimals(row)
            amount = scaled(row["amount"]["value"], decimals)
            yield StoredEntry(row["journalId"], row["subAccount"], row["asset"], amount)

    async def trades(self, account: str) -> AsyncIterator[StoredTrade]:
        """Yield the trades of an account, newest first."""
        async for row in self._rows("/v1/trades", "trades", accountId=account):
            yield StoredTrade(
                row["accountId"],
                int(row["sequence"]),
                row["instrumentId"],
                row["side"],
                row["quantity"]["value"],
                row["price"]["value"],
                row["grossAmount"]["currencyCode"],
                minor(row["fees"]),
            )

    async def transfers(self, account: str) -> AsyncIterator[dict[str, Any]]:
        """Yield the transfers of an account, newest first, as they come."""
        async for row in self._rows(f"/v1/accounts/{account}/transfers", "transfers"):
            yield row

    async def trial_balance(self) -> list[dict[str, Any]]:
        """Return the lines of the trial balance, as they come."""
        lines: list[dict[str, Any]] = (await self.get("/v1/trialBalance"))["lines"]
        return lines

    async def get(self, path: str, **query: str) -> dict[str, Any]:
        """Return what a path answers; tries again while the fault is not the caller's."""
        ends = time.monotonic() + self._edge.patience_s
        pause = PAUSE_MIN_S
        while True:
            try:
                status, body = await self._get(path, query)
            except (aiohttp.ClientError, TimeoutError) as error:
                status, body = 503, str(error) or type(error).__name__
            if status == 200:
                found: dict[str, Any] = json.loads(body)
                return found
            if status < 500 and status != 429:
                raise StackError(f"GET {path} was answered {status}: {body[:500]}")
            if time.monotonic() > ends:
                raise GaveUp(f"GET {path} failed for {self._edge.patience_s:.0f} s: {body[:500]}")
            await asyncio.sleep(pause)
            pause = min(2 * pause, PAUSE_MAX_S)

    async def _get(self, path: str, query: dict[str, str]) -> tuple[int, str]:
        headers = {"authorization": f"Bearer {self._edge.token}", "grpc-timeout": "55S"}
        async with self._session.get(path, params=query, headers=headers) as response:
            return response.status, await response.text()

    async def _rows(self, path: str, name: str, **query: str) -> AsyncIterator[dict[str, Any]]:
        query = {**query, "pageSize": str(PAGE_SIZE)}
        while True:
            page = await self.get(path, **query)
            for row in page[name]:
                yield row
            query["pageToken"] = page["nextPageToken"]
            if not query["pageToken"]:
                return


def _decimals(row: dict[str, Any]) -> int:
    return exponent(row["asset"]) if row["assetKind"] == CASH else QUANTITY_DECIMALS


def minor(money: dict[str, Any]) -> int:
    """Return a google.type.Money as JSON in minor units."""
    whole = int(money["units"]) * 10**MONEY_DECIMALS + int(money["nanos"])
    amount: int
    amount, rest = divmod(whole, 10 ** (MONEY_DECIMALS - exponent(money["currencyCode"])))
    if rest:
        raise ValueError(f"{money} is finer than its currency")
    return amount
