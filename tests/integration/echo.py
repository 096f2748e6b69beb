"""A service made for tests: it writes events of a key and applies those of another.

It has the real schema, roles, outbox, inbox, relay and consumer; only what it
does with events is its own: it notes them in a table.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import uuid4

import asyncpg
from confluent_kafka.admin import AdminClient, NewTopic
from interchange.position.v1.position_events_pb2 import PositionChanged

from services.common.applier import Applier
from services.common.config import Settings
from services.common.consumer import EventConsumer
from services.common.db import Connection, Database
from services.common.event_store import EventStore
from services.common.events import Event, EventColumns, EventTypes
from services.common.outbox import lock_keys
from services.common.relay import Relay
from services.common.work import UnitOfWork, Work
from services.stack.stack import Stack

TYPE = PositionChanged.DESCRIPTOR.full_name
POISON = -1
"""A version that the handler refuses."""


class Notes:
    """The repository: a table of what was applied, in order."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    async def note(self, events: Sequence[Event]) -> None:
        await self.connection.executemany(
            "INSERT INTO echo.notes (tenant_id, key, sequence) VALUES ($1, $2, $3)",
            [(event.tenant_id, event.key, event.sequence) for event in events],
        )


async def apply(events: Sequence[Event], *, work: Work[Notes]) -> None:
    for event in events:
        assert isinstance(event.message, PositionChanged)
        if event.message.version == POISON:
            raise ValueError("version was -1")
    await work.repository.note(events)


class Echo:
    """One instance of the service."""

    def __init__(self, settings: Settings, database: Database, topic: str) -> None:
        self.settings = settings
        self.database = database
        self.topic = topic
        self.relay = Relay(settings, "echo", 0)
        self.units = UnitOfWork(database, settings, Notes, [self.relay])
        self.applier = Applier(
            database,
            self.units,
            EventTypes([PositionChanged], {}, {}),
            apply,
            EventStore(settings),
            settings.consumer_gap_wait_ms,
        )
        self.consumer = EventConsumer(settings, database, [topic], self.applier)

    async def write(self, tenant_id: str, key: str, sequences: Sequence[int]) -> None:
        """Commit events of a key; a negative number poisons the event of that number."""
        async with self.units.tenant(tenant_id) as work:
            await lock_keys(work.repository.connection, "echo", tenant_id, [key])
            columns = EventColumns(tenant_id, self.topic)
            columns.extend(
                TYPE,
                1,
                [str(uuid4()) for _ in sequences],
                [key] * len(sequences),
                [abs(sequence) for sequence in sequences],
                [payload(sequence) for sequence in sequences],
            )
            work.outbox.add(columns)

    def event(self, sequence: int, key: str = "K1", tenant_id: str = "demo") -> Event:
        return Event(
            tenant_id, self.topic, key, abs(sequence), str(uuid4()), TYPE, 1, payload(sequence)
        )

    async def notes(self, key: str = "K1") -> list[int]:
        async with self.database.pipeline() as connection:
            rows = await connection.fetch(
                "SELECT sequence FROM echo.notes WHERE key = $1 ORDER BY id", key
            )
        return [row["sequence"] for row in rows]

    async def parked(self) -> list[asyncpg.Record]:
        async with self.database.pipeline() as connection:
            return await connection.fetch("SELECT key, state, reason FROM echo.parked_keys")

    async def until(self, key: str, expected: Sequence[int], timeout_s: float = 20) -> list[int]:
        """Wait until a key's notes are as expected; return what they are at last."""
        found: list[int] = []
        try:
            async with asyncio.timeout(timeout_s):
                while (found := await self.notes(key)) != list(expected):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            pass
        return found


def payload(sequence: int) -> bytes:
    return PositionChanged(
        account_id="A", version=POISON if sequence < 0 else sequence
    ).SerializeToString()


async def nothing(connection: object) -> None:
    """Move no offsets: the events did not come from Kafka."""


@asynccontextmanager
async def running(*loops: object) -> AsyncIterator[None]:
    """Run relays and consumers for the time of the block."""
    tasks = [asyncio.create_task(loop.run()) for loop in loops]  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def service_settings(stack: Stack, **changes: object) -> Settings:
    """Return the settings of a service of the stack, in a database of the tests' own."""
    url = stack.database_url("nobody").rpartition("@")[2].rpartition("/")[0]
    values: dict[str, object] = {
        "database_url": f"postgresql://{url}/mesh_tests",
        "database_password": stack.database_password(),
        "kafka_bootstrap": stack.kafka_bootstrap,
        "consumer_gap_wait_ms": 200,
        "database_pool_size": 5,
        **changes,
    }
    return Settings.model_validate(values)


def create_topics(settings: Settings, topic: str) -> None:
    """Create the topic and its dead letters."""
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap})
    topics = [NewTopic(topic, 3, 1), NewTopic(topic + ".dead", 1, 1)]
    for created in admin.create_topics(topics).values():
        created.result(30)


async def create_database(stack: Stack) -> None:
    """Make an empty database with the mesh's functions and the schema of the service."""
    admin = stack.database_url()
    connection = await asyncpg.connect(admin.rpartition("/")[0] + "/postgres")
    await connection.execute("DROP DATABASE IF EXISTS mesh_tests WITH (FORCE)")
    await connection.close()
    from services.common.migrate import migrate

    url = admin.rpartition("/")[0] + "/mesh_tests"
    await asyncio.to_thread(migrate, url, [], stack.database_password())
    connection = await asyncpg.connect(url)
    await connection.execute(
        """
        SELECT mesh.create_service('echo');
        CREATE TABLE echo.notes (
            id bigserial PRIMARY KEY, tenant_id text, key text, sequence bigint);
        SELECT mesh.isolate_tenants('echo.notes');
        GRANT SELECT, INSERT ON echo.notes TO echo_api, echo_pipeline;
        GRANT USAGE ON SEQUENCE echo.notes_id_seq TO echo_api, echo_pipeline;
        """
    )
    for role in ("echo_api", "echo_pipeline", "event_reader"):
        await connection.execute(f"ALTER ROLE {role} PASSWORD '{stack.database_password()}'")
    await connection.close()
