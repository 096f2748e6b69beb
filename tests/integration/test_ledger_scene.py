"""The scene of the ledger's tests: real books in Postgres, and events out of nowhere."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from interchange.account.v1.account_events_pb2 import TransferRecorded
from interchange.trade.v1.trade_events_pb2 import TradeBooked
from interchange.trade.v1.trade_pb2 import SIDE_BUY

from services.common.applier import Applier
from services.common.clock import SystemClock
from services.common.config import Settings
from services.common.db import Connection, Database
from services.common.event_store import EventStore
from services.common.events import Event, EventTypes
from services.common.identity import Caller, enter
from services.common.ids import Uuid7
from services.common.migrate import migrate
from services.common.upcasters import UPCASTERS, VERSIONS
from services.common.watermarks import Watermarks
from services.common.work import UnitOfWork
from services.ledger import consumer
from services.ledger.repository import PostgresBooks
from services.ledger.rows import CheckRow
from services.ledger.servicer import LedgerServicer

DATABASE = "ledger_tests"
IDS = Uuid7()
CLOCK = SystemClock()


async def nothing(connection: object) -> None:
    """Move no offsets: the events did not come from Kafka."""


def new_id() -> str:
    return IDS.batch(1, CLOCK.now_us())[0]


def trade(sequence: int, account: str = "A1", tenant: str = "acme", **changes: Any) -> Event:
    """Return the event of a purchase of 100 XYZ for 1,000.00 USD, unless told otherwise."""
    event_id = changes.pop("event_id", None) or new_id()
    fields: dict[str, Any] = {
        "event_id": event_id,
        "trade_id": event_id,
        "account_id": account,
        "instrument_id": "XYZ",
        "side": SIDE_BUY,
        "quantity_micros": 100_000_000,
        "price_e8": 1_000_000_000,
        "currency": "USD",
        "gross_minor": 100_000,
        "trade_day": 20_000,
        **changes,
    }
    message = TradeBooked(**fields)
    name = message.DESCRIPTOR.full_name
    payload = message.SerializeToString()
    return Event(tenant, consumer.TRADES, account, sequence, event_id, name, 2, payload)


def transfer(sequence: int, account: str = "A1", tenant: str = "acme", **changes: Any) -> Event:
    """Return the event of a deposit of 500.00 USD, unless told otherwise."""
    event_id = new_id()
    fields: dict[str, Any] = {
        "event_id": event_id,
        "account_id": account,
        "asset": "USD",
        "is_cash": True,
        "amount": 50_000,
        "value_day": 20_000,
        **changes,
    }
    message = TransferRecorded(**fields)
    name = message.DESCRIPTOR.full_name
    payload = message.SerializeToString()
    return Event(tenant, consumer.TRANSFERS, account, sequence, event_id, name, 1, payload)


@dataclass(frozen=True, slots=True)
class Scene:
    """One instance of the ledger, without Kafka."""

    settings: Settings
    admin_url: str
    database: Database
    units: UnitOfWork[PostgresBooks]
    applier: Applier[PostgresBooks]
    servicer: LedgerServicer

    @classmethod
    async def open(cls, settings: Settings, admin_url: str) -> "Scene":
        database = await Database.open(settings, "ledger")
        units = UnitOfWork(database, settings, PostgresBooks, [])
        applier = Applier(
            database,
            units,
            EventTypes(consumer.MESSAGES, UPCASTERS, VERSIONS),
            consumer.posting(CLOCK, IDS),
            EventStore(settings),
            settings.consumer_gap_wait_ms,
        )
        servicer = LedgerServicer(units, Watermarks(database))
        return cls(settings, admin_url, database, units, applier, servicer)

    async def apply(self, *events: Event) -> None:
        await self.applier.apply(events, [], nothing)

    def enter(self, tenant: str = "acme") -> None:
        """Call as somebody of the tenant from now on."""
        enter(Caller(tenant, "tester", ("auditor",)))

    @asynccontextmanager
    async def owner(self) -> AsyncIterator[Connection]:
        connection = await asyncpg.connect(self.admin_url)
        try:
            yield connection
        finally:
            await connection.close()

    async def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        async with self.owner() as connection:
            return await connection.fetch(query, *arguments)

    async def value(self, query: str, *arguments: object) -> Any:
        async with self.owner() as connection:
            return await connection.fetchval(query, *arguments)

    async def check(self, tenant: str = "acme") -> CheckRow:
        async with self.units.reading(tenant) as repository:
            return await repository.check(tenant, None)

    async def amount(self, asset: str, sub_account: int, account: str = "A1") -> int | None:
        found = await self.value(
            "SELECT amount FROM ledger.balances "
            "WHERE tenant_id = 'acme' AND account_id = $1 AND asset = $2 AND sub_account = $3",
            account,
            asset,
            sub_account,
        )
        return None if found is None else int(found)


async def fresh_books(server_url: str, password: str) -> tuple[Settings, str]:
    """Make an empty database with the ledger's schema; return its settings and URL."""
    server = server_url.rpartition("/")[0]
    connection = await asyncpg.connect(server + "/postgres")
    await connection.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
    await connection.close()
    admin_url = f"{server}/{DATABASE}"
    await asyncio.to_thread(migrate, admin_url, ["ledger"], password)
    settings = Settings.model_validate(
        {
            "database_url": f"postgresql://{server.rpartition('@')[2].rpartition('/')[2]}/{DATABASE}",
            "database_password": password,
            "consumer_gap_wait_ms": 100,
            "database_pool_size": 5,
        }
    )
    return settings, admin_url


async def empty(scene: Scene) -> None:
    """Forget all that was booked: tests begin with empty books."""
    async with scene.owner() as connection, connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        tables = "journals entries balances accounts inbox_sequences parked_keys parked_events"
        for table in (*tables.split(), "outbox"):
            await connection.execute(f"DELETE FROM ledger.{table}")


def entry(leg: int, amount: int, **changes: Any) -> tuple[object, ...]:
    """Return a row of ledger.entries in the order of ENTRY."""
    row: dict[str, Any] = {
        "tenant_id": "acme",
        "journal_id": "01930000-0000-7000-8000-000000000001",
        "leg": leg,
        "account_id": "A1",
        "sub_account": 1 + 2 * (leg % 2),
        "asset": "USD",
        "asset_kind": 1,
        "amount": amount,
        "instrument_id": "",
        "posted_at": datetime(2026, 1, 1, tzinfo=UTC),
        **changes,
    }
    return tuple(row.values())


ENTRY: Sequence[str] = (
    "tenant_id",
    "journal_id",
    "leg",
    "account_id",
    "sub_account",
    "asset",
    "asset_kind",
    "amount",
    "instrument_id",
    "posted_at",
)


async def insert(connection: Connection, rows: Sequence[tuple[object, ...]]) -> None:
    """Insert entries by hand, in one statement."""
    values = ", ".join(
        f"({', '.join(f'${at * len(ENTRY) + i + 1}' for i in range(len(ENTRY)))})"
        for at in range(len(rows))
    )
    await connection.execute(
        f"INSERT INTO ledger.entries ({', '.join(ENTRY)}) VALUES {values}",
        *(value for row in rows for value in row),
    )


async def copy(connection: Connection, rows: Sequence[tuple[object, ...]]) -> None:
    """Copy entries by hand."""
    await connection.copy_records_to_table(
        "entries", schema_name="ledger", records=rows, columns=ENTRY
    )


GIVEN_SERVER = os.environ.get("INTERCHANGE_TEST_DATABASE_URL", "")
"""A Postgres to use in place of the stack's: an admin's URL; its roles need no password."""


@asynccontextmanager
async def opened(request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    """Open empty books on the test's servers, or on a given one."""
    server_url, password = GIVEN_SERVER, ""
    if not server_url:
        stack = request.getfixturevalue("servers")
        server_url, password = stack.database_url(), stack.database_password()
    scene = await Scene.open(*await fresh_books(server_url, password))
    yield scene
    await scene.database.close()
