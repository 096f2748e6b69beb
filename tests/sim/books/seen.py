"""What the databases of all services hold of one tenant, read by their owner."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple, TypeVar

import asyncpg
from interchange.ledger.v1.ledger_events_pb2 import JournalsPosted
from interchange.position.v1.position_events_pb2 import PositionChanged

T = TypeVar("T")

SOURCES = ("trade", "account", "position", "ledger")
FOLLOWERS = ("position", "ledger")


class TradeSeen(NamedTuple):
    trade_id: str
    account: str
    sequence: int
    instrument: str
    side: int
    quantity: int
    gross: int
    fee: int
    currency: str
    trade_date: date


class Change(NamedTuple):
    account: str
    sequence: int
    instrument: str
    topic: str
    source_sequence: int
    event_id: str
    quantity_change: int
    quantity: int
    cost: int
    realized: int
    version: int


class PositionSeen(NamedTuple):
    account: str
    instrument: str
    currency: str
    quantity: int
    cost: int
    realized: int
    version: int


class LotSeen(NamedTuple):
    account: str
    instrument: str
    opened: int
    quantity: int
    cost: int


class Journal(NamedTuple):
    journal_id: str
    account: str
    kind: int
    source_id: str
    source_sequence: int
    effective_date: date


class Entry(NamedTuple):
    journal_id: str
    account: str
    sub_account: int
    asset: str
    asset_kind: int
    amount: int
    instrument: str


class Balance(NamedTuple):
    account: str
    asset: str
    asset_kind: int
    sub_account: int
    amount: int
    entries: int
    debit: int
    credit: int


class Parked(NamedTuple):
    service: str
    topic: str
    key: str
    state: str
    reason: str


@dataclass(slots=True)
class Seen:
    """The rows of one tenant."""

    trades: list[TradeSeen]
    changes: list[Change]
    positions: list[PositionSeen]
    lots: list[LotSeen]
    applied_trades: dict[str, int]
    """Number of the last trade that positions say they hold, by account."""
    journals: list[Journal]
    entries: list[Entry]
    balances: list[Balance]
    numbers: dict[tuple[str, str], list[int]]
    """Numbers of the events of each topic and key, in the order of the relay."""
    marks: dict[tuple[str, str, str], int]
    """Last applied number by service, topic and key."""
    parked: list[Parked]
    announced_positions: dict[tuple[str, str], PositionSeen]
    """The last PositionChanged of each position."""
    announced_journals: list[tuple[str, str]]
    """Account and journal of each JournalsPosted."""


_TRADES = """
SELECT trade_id::text, account_id, sequence, instrument_id, side::int, quantity_micros,
    gross_minor, fee_minor, currency, trade_date
FROM trade.trades WHERE tenant_id = $1
"""
_CHANGES = """
SELECT account_id, sequence, instrument_id, source_topic, source_sequence, event_id::text,
    quantity_change, quantity, open_cost, realized, version
FROM position.changes WHERE tenant_id = $1 ORDER BY account_id, sequence
"""
_POSITIONS = """
SELECT account_id, instrument_id, currency, quantity, open_cost, realized, version
FROM position.positions WHERE tenant_id = $1
"""
_LOTS = """
SELECT account_id, instrument_id, opened, quantity, open_cost
FROM position.lots WHERE tenant_id = $1 ORDER BY account_id, instrument_id, opened
"""
_JOURNALS = """
SELECT journal_id::text, account_id, kind::int, source_id::text, source_sequence, effective_date
FROM ledger.journals WHERE tenant_id = $1
"""
_ENTRIES = """
SELECT journal_id::text, account_id, sub_account::int, asset, asset_kind::int, amount,
    instrument_id
FROM ledger.entries WHERE tenant_id = $1
"""
_BALANCES = """
SELECT account_id, asset, asset_kind::int, sub_account::int, amount, entry_count,
    debit::bigint, credit::bigint
FROM ledger.balances WHERE tenant_id = $1
"""
_EVENTS = """
SELECT topic, key, sequence, type, payload FROM (
    SELECT topic, transaction_id, id, e.* FROM {service}.outbox,
        unnest(keys, sequences, types, payloads)
            WITH ORDINALITY AS e(key, sequence, type, payload, at)
    WHERE tenant_id = $1 AND topic = $2
) AS events ORDER BY transaction_id, id, at
"""


async def see(connection: "asyncpg.Connection[Any]", tenant: str) -> Seen:
    """Read all of a tenant."""

    async def rows(kind: type[T], query: str) -> list[T]:
        return [kind(*row) for row in await connection.fetch(query, tenant)]

    events = {
        f"{service}-events": await connection.fetch(
            _EVENTS.format(service=service), tenant, f"{service}-events"
        )
        for service in SOURCES
    }
    accounts = await connection.fetch(
        "SELECT account_id, trade_sequence FROM position.accounts WHERE tenant_id = $1", tenant
    )
    return Seen(
        trades=await rows(TradeSeen, _TRADES),
        changes=await rows(Change, _CHANGES),
        positions=await rows(PositionSeen, _POSITIONS),
        lots=await rows(LotSeen, _LOTS),
        applied_trades={row[0]: row[1] for row in accounts},
        journals=await rows(Journal, _JOURNALS),
        entries=await rows(Entry, _ENTRIES),
        balances=await rows(Balance, _BALANCES),
        numbers=_numbers(events),
        marks=await _marks(connection, tenant),
        parked=await _parked(connection, tenant),
        announced_positions=_positions(events["position-events"]),
        announced_journals=_journals(events["ledger-events"]),
    )


def _numbers(events: dict[str, list[Any]]) -> dict[tuple[str, str], list[int]]:
    found: dict[tuple[str, str], list[int]] = defaultdict(list)
    for topic, rows in events.items():
        for row in rows:
            found[topic, row["key"]].append(row["sequence"])
    return found


async def _marks(
    connection: "asyncpg.Connection[Any]", tenant: str
) -> dict[tuple[str, str, str], int]:
    found = {}
    for service in FOLLOWERS:
        query = f"SELECT topic, key, sequence FROM {service}.inbox_sequences WHERE tenant_id = $1"
        for topic, key, sequence in await connection.fetch(query, tenant):
            found[service, topic, key] = sequence
    return found


async def _parked(connection: "asyncpg.Connection[Any]", tenant: str) -> list[Parked]:
    found = []
    for service in (*FOLLOWERS, "trade"):
        query = f"SELECT topic, key, state, reason FROM {service}.parked_keys WHERE tenant_id = $1"
        found += [Parked(service, *row) for row in await connection.fetch(query, tenant)]
        query = f"SELECT topic, key FROM {service}.parked_events WHERE tenant_id = $1"
        found += [
            Parked(service, *row, "EVENT", "") for row in await connection.fetch(query, tenant)
        ]
    return found


def _positions(rows: list[Any]) -> dict[tuple[str, str], PositionSeen]:
    found = {}
    for row in rows:
        said = PositionChanged.FromString(row["payload"])
        found[said.account_id, said.instrument_id] = PositionSeen(
            said.account_id,
            said.instrument_id,
            said.currency,
            said.quantity_micros,
            said.open_cost_minor,
            said.realized_minor,
            said.version,
        )
    return found


def _journals(rows: list[Any]) -> list[tuple[str, str]]:
    posted = [JournalsPosted.FromString(row["payload"]) for row in rows]
    return [(one.account_id, journal_id) for one in posted for journal_id in one.journal_ids]
