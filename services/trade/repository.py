"""All SQL of the trade service."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple, Protocol
from zoneinfo import ZoneInfo

import asyncpg
import numpy as np
from interchange.account.v1.account_pb2 import ACCOUNT_STATUS_OPEN, COST_METHOD_FIFO, Account
from interchange.instrument.v1.instrument_pb2 import Instrument

from native import money
from services.common import currencies, markets
from services.common.db import Connection
from services.trade import domain
from services.trade.commands import TradeRow


class Key(NamedTuple):
    """What an idempotency key was used for."""

    body_hash: bytes
    trade_id: str


class KeyRaced(Exception):
    """Another transaction used one of the keys meanwhile; the batch starts over."""


@dataclass(slots=True)
class NewKeys:
    """Idempotency keys to take, as columns."""

    request_ids: list[str]
    request_hashes: list[bytes]
    request_trades: list[str]
    sources: list[str]
    external_ids: list[str]
    external_hashes: list[bytes]
    external_trades: list[str]


@dataclass(slots=True)
class TradeFilter:
    """Which trades a list shows; None where it does not matter."""

    account_id: str | None
    instrument_id: str | None
    trade_date: date | None


class TradeRepository(Protocol):
    """What the handlers need of the database."""

    async def accounts(
        self, tenant_id: str, account_ids: Sequence[str]
    ) -> Mapping[str, domain.Account]:
        """Return those of the accounts that exist."""

    async def instruments(
        self, tenant_id: str, instrument_ids: Sequence[str]
    ) -> domain.Instruments:
        """Return those of the instruments that exist."""

    async def request_keys(self, tenant_id: str, request_ids: Sequence[str]) -> Mapping[str, Key]:
        """Return what those of the keys that are taken were used for."""

    async def external_keys(
        self, tenant_id: str, sources: Sequence[str], external_ids: Sequence[str]
    ) -> Mapping[tuple[str, str], Key]:
        """Return what those of the external ids that are taken were used for."""

    async def take_keys(self, tenant_id: str, keys: NewKeys, recorded_us: int) -> None:
        """Take keys; raise KeyRaced when one was taken meanwhile."""

    async def insert(
        self, tenant_id: str, rows: Sequence[TradeRow], booked_by: Sequence[str]
    ) -> None:
        """Insert trades and move the sequences of their accounts."""

    async def trades(self, tenant_id: str, trade_ids: Sequence[str]) -> Mapping[str, TradeRow]:
        """Return those of the trades that exist."""

    async def list(
        self, tenant_id: str, wanted: TradeFilter, before: str | None, limit: int
    ) -> Sequence[TradeRow]:
        """Return trades, newest first, older than the trade `before`."""


_COLUMNS = """trade_id::text, version, account_id, sequence, instrument_id, side, quantity_micros,
    price_e8, currency, gross_minor, fee_minor, (extract(epoch FROM trade_time) * 1000000)::bigint,
    trade_date - date '1970-01-01', venue, external_source, external_id,
    (extract(epoch FROM recorded_at) * 1000000)::bigint"""

# Exact: an interval counts microseconds as an integer, days stay days.
_TIME = "timestamptz '1970-01-01 00:00:00+00' + {} * interval '1 microsecond'"

_INSERT = """
WITH moved AS (
    UPDATE trade.accounts AS a SET last_sequence = n.sequence
    FROM (SELECT account_id, max(sequence) AS sequence
          FROM unnest($4::text[], $5::bigint[]) AS t(account_id, sequence)
          GROUP BY account_id) AS n
    WHERE a.tenant_id = $1 AND a.account_id = n.account_id
)
INSERT INTO trade.trades (
    tenant_id, trade_id, version, account_id, sequence, instrument_id, side, quantity_micros,
    price_e8, currency, gross_minor, fee_minor, trade_time, trade_date, venue, external_source,
    external_id, recorded_at, booked_by)
SELECT $1, trade_id, version, account_id, sequence, instrument_id, side, quantity_micros, price_e8,
    currency, gross_minor, fee_minor, {trade_time}, date '1970-01-01' + day, venue,
    external_source, external_id, {recorded_at}, booked_by
FROM unnest(
    $2::uuid[], $3::int[], $4::text[], $5::bigint[], $6::text[], $7::smallint[], $8::bigint[],
    $9::bigint[], $10::text[], $11::bigint[], $12::bigint[], $13::bigint[], $14::int[],
    $15::text[], $16::text[], $17::text[], $18::bigint[], $19::text[]
) AS n(trade_id, version, account_id, sequence, instrument_id, side, quantity_micros, price_e8,
    currency, gross_minor, fee_minor, time_us, day, venue, external_source, external_id,
    recorded_us, booked_by)
""".format(trade_time=_TIME.format("time_us"), recorded_at=_TIME.format("recorded_us"))


class PostgresTrades(TradeRepository):
    """Trades in Postgres, within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def accounts(
        self, tenant_id: str, account_ids: Sequence[str]
    ) -> Mapping[str, domain.Account]:
        """Return those of the accounts that exist."""
        rows = await self._connection.fetch(
            "SELECT account_id, open, fifo, last_sequence FROM trade.accounts "
            "WHERE tenant_id = $1 AND account_id = ANY ($2::text[])",
            tenant_id,
            account_ids,
        )
        return {name: domain.Account(open_, fifo, last) for name, open_, fifo, last in rows}

    async def instruments(
        self, tenant_id: str, instrument_ids: Sequence[str]
    ) -> domain.Instruments:
        """Return those of the instruments that exist."""
        rows = await self._connection.fetch(
            "SELECT instrument_id, status, currency, lot_micros, tick_e8, calendar "
            "FROM trade.instruments WHERE tenant_id = $1 AND instrument_id = ANY ($2::text[])",
            tenant_id,
            instrument_ids,
        )
        return domain.Instruments(
            index={row["instrument_id"]: index for index, row in enumerate(rows)},
            status=np.array([row["status"] for row in rows], np.int64),
            currency=[row["currency"] for row in rows],
            exponent=np.array([_exponent(row["currency"]) for row in rows], np.uint8),
            lot=np.array([row["lot_micros"] for row in rows], np.int64),
            tick=np.array([row["tick_e8"] for row in rows], np.int64),
            zone=[_zone(row["calendar"]) for row in rows],
        )

    async def request_keys(self, tenant_id: str, request_ids: Sequence[str]) -> Mapping[str, Key]:
        """Return what those of the keys that are taken were used for."""
        rows = await self._connection.fetch(
            "SELECT request_id, body_hash, trade_id::text FROM trade.request_keys "
            "WHERE tenant_id = $1 AND request_id = ANY ($2::text[])",
            tenant_id,
            request_ids,
        )
        return {request_id: Key(body_hash, trade_id) for request_id, body_hash, trade_id in rows}

    async def external_keys(
        self, tenant_id: str, sources: Sequence[str], external_ids: Sequence[str]
    ) -> Mapping[tuple[str, str], Key]:
        """Return what those of the external ids that are taken were used for."""
        rows = await self._connection.fetch(
            "SELECT source, external_id, body_hash, trade_id::text FROM trade.external_keys "
            "WHERE tenant_id = $1 AND (source, external_id) IN "
            "(SELECT * FROM unnest($2::text[], $3::text[]))",
            tenant_id,
            sources,
            external_ids,
        )
        return {(source, name): Key(body_hash, trade) for source, name, body_hash, trade in rows}

    async def take_keys(self, tenant_id: str, keys: NewKeys, recorded_us: int) -> None:
        """Take keys; raise KeyRaced when one was taken meanwhile.

        Sorted, so that two transactions can't wait for each other.
        """
        if keys.request_ids:
            status = await self._connection.execute(
                "INSERT INTO trade.request_keys SELECT $1, n.*, "
                f"{_TIME.format('$5::bigint')} FROM "
                "unnest($2::text[], $3::bytea[], $4::uuid[]) AS n(request_id) "
                "ORDER BY n.request_id ON CONFLICT DO NOTHING",
                tenant_id,
                keys.request_ids,
                keys.request_hashes,
                keys.request_trades,
                recorded_us,
            )
            _all_taken(status, len(keys.request_ids))
        if keys.external_ids:
            status = await self._connection.execute(
                "INSERT INTO trade.external_keys SELECT $1, n.* FROM "
                "unnest($2::text[], $3::text[], $4::bytea[], $5::uuid[]) AS n(source, external_id) "
                "ORDER BY n.source, n.external_id ON CONFLICT DO NOTHING",
                tenant_id,
                keys.sources,
                keys.external_ids,
                keys.external_hashes,
                keys.external_trades,
            )
            _all_taken(status, len(keys.external_ids))

    async def insert(
        self, tenant_id: str, rows: Sequence[TradeRow], booked_by: Sequence[str]
    ) -> None:
        """Insert trades and move the sequences of their accounts."""
        columns = [list(column) for column in zip(*rows, strict=True)]
        status = await self._connection.execute(_INSERT, tenant_id, *columns, booked_by)
        if status != f"INSERT 0 {len(rows)}":
            raise asyncpg.DataError(f"{status} of {len(rows)} trades")

    async def trades(self, tenant_id: str, trade_ids: Sequence[str]) -> Mapping[str, TradeRow]:
        """Return those of the trades that exist."""
        rows = await self._connection.fetch(
            f"SELECT {_COLUMNS} FROM trade.trades "
            "WHERE tenant_id = $1 AND trade_id = ANY ($2::uuid[])",
            tenant_id,
            trade_ids,
        )
        return {row["trade_id"]: TradeRow(*row) for row in rows}

    async def list(
        self, tenant_id: str, wanted: TradeFilter, before: str | None, limit: int
    ) -> Sequence[TradeRow]:
        """Return trades, newest first, older than the trade `before`."""
        conditions = ["tenant_id = $1"]
        arguments: list[object] = [tenant_id]
        for condition, value in (
            ("account_id = ${}", wanted.account_id),
            ("instrument_id = ${}", wanted.instrument_id),
            ("trade_date = ${}", wanted.trade_date),
            ("trade_id < ${}::uuid", before),
        ):
            if value is not None:
                arguments.append(value)
                conditions.append(condition.format(len(arguments)))
        arguments.append(limit)
        rows = await self._connection.fetch(
            f"SELECT {_COLUMNS} FROM trade.trades WHERE {' AND '.join(conditions)} "
            f"ORDER BY trade_id DESC LIMIT ${len(arguments)}",
            *arguments,
        )
        return [TradeRow(*row) for row in rows]

    async def copy_accounts(self, tenant_ids: Sequence[str], accounts: Sequence[Account]) -> None:
        """Keep the local copy of accounts; each account once."""
        await self._connection.execute(
            "INSERT INTO trade.accounts (tenant_id, account_id, open, fifo, version) "
            "SELECT * FROM unnest($1::text[], $2::text[], $3::bool[], $4::bool[], $5::bigint[]) "
            "ON CONFLICT (tenant_id, account_id) DO UPDATE "
            "SET open = excluded.open, fifo = excluded.fifo, version = excluded.version "
            "WHERE accounts.version < excluded.version",
            tenant_ids,
            [account.account_id for account in accounts],
            [account.status == ACCOUNT_STATUS_OPEN for account in accounts],
            [account.cost_method == COST_METHOD_FIFO for account in accounts],
            [account.version for account in accounts],
        )

    async def copy_instruments(
        self, tenant_ids: Sequence[str], instruments: Sequence[Instrument]
    ) -> None:
        """Keep the local copy of instruments; each instrument once."""
        lots, _ = money.parse_decimals(
            [instrument.lot_size.value for instrument in instruments], money.QUANTITY_SCALE
        )
        ticks, _ = money.parse_decimals(
            [instrument.tick_size.value for instrument in instruments], money.PRICE_SCALE
        )
        await self._connection.execute(
            "INSERT INTO trade.instruments SELECT * FROM unnest($1::text[], $2::text[], "
            "$3::smallint[], $4::text[], $5::bigint[], $6::bigint[], $7::text[], $8::bigint[]) "
            "ON CONFLICT (tenant_id, instrument_id) DO UPDATE SET status = excluded.status, "
            "currency = excluded.currency, lot_micros = excluded.lot_micros, "
            "tick_e8 = excluded.tick_e8, calendar = excluded.calendar, "
            "version = excluded.version WHERE instruments.version < excluded.version",
            tenant_ids,
            [instrument.instrument_id for instrument in instruments],
            [instrument.status for instrument in instruments],
            [instrument.currency for instrument in instruments],
            lots.tolist(),
            ticks.tolist(),
            [instrument.calendar or instrument.mic for instrument in instruments],
            [instrument.version for instrument in instruments],
        )


def _all_taken(status: str, count: int) -> None:
    if status != f"INSERT 0 {count}":
        raise KeyRaced


def _exponent(currency: str) -> int:
    found = currencies.exponent(currency)
    if found is None:
        raise ValueError(f"an instrument is traded in {currency!r}, which is no currency")
    return found


def _zone(calendar: str) -> ZoneInfo:
    found = markets.zone(calendar)
    if found is None:
        raise ValueError(f"an instrument has the calendar {calendar!r}, which is unknown")
    return found
