"""The position service on real Postgres, fed by hand in place of Kafka."""

import asyncio
from collections.abc import Sequence

import asyncpg

from services.common.applier import Applier
from services.common.clock import SystemClock
from services.common.config import Settings
from services.common.db import Database
from services.common.event_store import EventStore
from services.common.events import Event, EventColumns
from services.common.migrate import migrate
from services.common.outbox import Outbox
from services.common.watermarks import Watermarks
from services.common.work import UnitOfWork
from services.position import consumer
from services.position.comparison import Report
from services.position.fills import TRADES, TRANSFERS
from services.position.queries import Queries
from services.position.reads import PostgresReads
from services.position.rebuild import rebuild
from services.position.repository import PostgresBooks
from services.stack.stack import Stack
from tests.integration.echo import nothing
from tests.unit.test_position_scene import TYPES

NAME = "position_tests"
TEMPLATE = "position_template"
GAP_WAIT_MS = 1_000

_prepared: set[str] = set()


class Scene:
    """One instance of the service in an empty database."""

    def __init__(self, settings: Settings, admin_url: str, database: Database) -> None:
        self.settings = settings
        self.admin_url = admin_url
        self.database = database
        books = UnitOfWork(database, settings, PostgresBooks, [])
        self.reads = UnitOfWork(database, settings, PostgresReads, [])
        self.queries = Queries(self.reads, Watermarks(database))
        self.applier = Applier(
            database,
            books,
            TYPES,
            consumer.on_events(SystemClock()),
            EventStore(settings),
            GAP_WAIT_MS,
        )

    @classmethod
    async def open(cls, stack: Stack) -> "Scene":
        """Make the database: positions, and the event stores of what they follow."""
        server = stack.database_url().rpartition("/")[0]
        if server not in _prepared:
            await _prepare(server, stack.database_password())
        await _replace(server, NAME, f"TEMPLATE {TEMPLATE}")
        settings = Settings.model_validate(
            {
                "database_url": f"postgresql://{server.rpartition('@')[2]}/{NAME}",
                "database_password": stack.database_password(),
                "database_pool_size": 5,
            }
        )
        return cls(settings, f"{server}/{NAME}", await Database.open(settings, "position"))

    async def apply(self, events: Sequence[Event], size: int = 4_000) -> None:
        """Apply events in batches, as the consumer does."""
        for start in range(0, len(events), size):
            await self.applier.apply(events[start : start + size], [], nothing)
            await self.applier.tend()

    async def store(self, events: Sequence[Event]) -> None:
        """Put events into the event stores, as the services that caused them did."""
        connection = await asyncpg.connect(self.admin_url)
        async with connection.transaction():
            for topic, service in ((TRADES, "trade"), (TRANSFERS, "account")):
                outbox = Outbox(service, 1)
                for event in events:
                    if event.topic == topic:
                        columns = EventColumns(event.tenant_id, topic)
                        columns.extend(
                            event.type,
                            event.version,
                            [event.event_id],
                            [event.key],
                            [event.sequence],
                            [event.payload],
                        )
                        outbox.add(columns)
                await outbox.flush(connection, None)
        await connection.close()

    async def admin(self, query: str) -> list[asyncpg.Record]:
        """Run a query that no role of the service may."""
        connection = await asyncpg.connect(self.admin_url)
        try:
            return await connection.fetch(query)
        finally:
            await connection.close()

    async def held(
        self, columns: str = "instrument_id, quantity, open_cost"
    ) -> list[tuple[object, ...]]:
        """Return columns of all positions."""
        query = f"SELECT {columns} FROM position.positions ORDER BY 1, 2, 3"
        return [tuple(row) for row in await self.admin(query)]

    async def rebuild(self, tenant_id: str = "", *, apply: bool = False) -> Report:
        """Rebuild and compare."""
        return await rebuild(
            self.settings, tenant_id, apply=apply, progress=lambda stage, count: None
        )


async def _prepare(server: str, password: str) -> None:
    """Make the database that those of the tests are copies of."""
    await _replace(server, TEMPLATE)
    url = f"{server}/{TEMPLATE}"
    await asyncio.to_thread(migrate, url, ["position"], password)
    connection = await asyncpg.connect(url)
    await connection.execute("SELECT mesh.create_service('trade'), mesh.create_service('account')")
    for role in ("trade_pipeline", "account_pipeline"):
        await connection.execute(f"ALTER ROLE {role} PASSWORD '{password}'")
    await connection.close()
    _prepared.add(server)


async def _replace(server: str, name: str, options: str = "") -> None:
    connection = await asyncpg.connect(f"{server}/postgres")
    await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    await connection.execute(f"CREATE DATABASE {name} {options}")
    await connection.close()
