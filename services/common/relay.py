"""The relay: publishes a service's outbox to Kafka, in order.

One relay owns a shard through an advisory lock on a connection of its own. A
crash between publishing and storing the cursor publishes again; consumers drop
the repeats by sequence.
"""

import asyncio
from dataclasses import dataclass

import asyncpg
import structlog
from confluent_kafka import KafkaException, Producer
from prometheus_client import Counter, Gauge

from services.common import db, kafka
from services.common.config import Settings

log = structlog.get_logger()

PUBLISHED = Counter("outbox_published_total", "Events published", ["service", "topic"])
LAG = Gauge("outbox_lag_seconds", "Age of the oldest row read last", ["service", "shard"])

ROWS_MAX = 64
EVENTS_MAX = 20_000

# Below the oldest running transaction nothing can appear any more. The order is by
# the column: its name alone is the text of the list above, where 1000 is less than 999.
NEXT = """
SELECT tenant_id, id, transaction_id::text, topic, event_ids::text[], types, versions, keys,
       sequences, payloads, traceparent, reason,
       extract(epoch FROM clock_timestamp() - recorded_at)::float8 AS age
FROM {service}.outbox
WHERE shard = $1 AND (transaction_id, id) > ($2::text::xid8, $3)
  AND transaction_id < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY outbox.transaction_id, outbox.id LIMIT $4
"""


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last published row."""

    transaction_id: str = "0"
    id: int = 0


CROWD_S = 0.008
"""Time between two requests to Kafka when commits come one upon the other."""


class Relay:
    """Publishes one shard of one service's outbox for as long as it owns it."""

    def __init__(self, settings: Settings, service: str, shard: int) -> None:
        self._settings = settings
        self._service = service
        self._shard = shard
        self._wake = asyncio.Event()
        self._failures: list[str] = []

    def wake(self) -> None:
        """Look at once: a transaction with events was committed here."""
        self._wake.set()

    async def run(self) -> None:
        """Publish until cancelled; reconnect after faults."""
        while True:
            try:
                await self._own_and_publish()
            except (
                OSError,
                asyncpg.PostgresError,
                asyncpg.InterfaceError,
                asyncpg.InternalClientError,  # the first use of a connection whose server died
                KafkaException,
            ) as error:
                log.warning("relay interrupted", service=self._service, error=str(error))
                await asyncio.sleep(0.5)

    async def _own_and_publish(self) -> None:
        connection = await db.connect(self._settings, f"{self._service}_pipeline")
        try:
            await self._own(connection)
            # A cursor that is lost with the server publishes again what was published,
            # which its readers drop; nobody waits for the disk.
            await connection.execute("SET synchronous_commit = off")
            producer = kafka.producer(self._settings, f"{self._service}-relay-{self._shard}")
            try:
                await self._publish_all(connection, producer)
            finally:
                # Else it goes on trying in the background: the cursor knows better.
                producer.purge()
                producer.close()
        finally:
            # Ends the ownership too; nothing else may hold the connection back.
            connection.terminate()

    async def _own(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        """Wait until no other process relays this shard.

        Polls instead of waiting in the lock, where the statement timeout would
        end the wait.
        """
        query = "SELECT pg_try_advisory_lock(hashtext($1), $2)"
        while not await connection.fetchval(query, f"{self._service}.outbox", self._shard):
            await asyncio.sleep(1)

    async def _publish_all(
        self, connection: "asyncpg.Connection[asyncpg.Record]", producer: Producer
    ) -> None:
        cursor = await self._load(connection)
        query = await connection.prepare(NEXT.format(service=self._service))
        pause_ms = self._settings.outbox_poll_min_ms
        loop, published_at = asyncio.get_running_loop(), 0.0
        while True:
            if self._wake.is_set():
                # In a crowd commits come one upon the other: they share what a request
                # to Kafka costs. The first one after a pause waits for nobody.
                await asyncio.sleep(published_at + CROWD_S - loop.time())
            self._wake.clear()
            rows = await query.fetch(self._shard, cursor.transaction_id, cursor.id, ROWS_MAX)
            if not rows:
                await self._idle(pause_ms)
                pause_ms = min(pause_ms * 2, self._settings.outbox_poll_max_ms)
                continue
            pause_ms = self._settings.outbox_poll_min_ms
            LAG.labels(self._service, str(self._shard)).set(rows[0]["age"])
            published = await self._publish(producer, rows)
            cursor = Cursor(published["transaction_id"], published["id"])
            await self._store(connection, cursor)
            published_at = loop.time()

    async def _idle(self, pause_ms: int) -> None:
        try:
            async with asyncio.timeout(pause_ms / 1000):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _publish(self, producer: Producer, rows: list[asyncpg.Record]) -> asyncpg.Record:
        """Publish rows until there are enough events in flight; return the last."""
        count = 0
        for row in rows:
            count += self._produce(producer, row)
            last = row
            if count >= EVENTS_MAX:
                break
        loop = asyncio.get_running_loop()
        remaining = await loop.run_in_executor(None, producer.flush, 35.0)
        if self._failures or remaining:
            reason = self._failures[0] if self._failures else "flush timed out"
            self._failures.clear()
            raise OSError(f"{remaining} events not acknowledged by Kafka: {reason}")
        return last

    def _produce(self, producer: Producer, row: asyncpg.Record) -> int:
        topic = self._settings.kafka_topic_prefix + row["topic"]
        prefix = row["tenant_id"] + ":"
        traceparent, reason = row["traceparent"], row["reason"]
        columns = (row[name] for name in ("event_ids", "types", "versions", "keys", "sequences"))
        for event_id, type_name, version, key, sequence, payload in zip(
            *columns, row["payloads"], strict=True
        ):
            attributes = kafka.headers(event_id, type_name, version, sequence, traceparent, reason)
            while True:
                try:
                    producer.produce(
                        topic, payload, prefix + key, on_delivery=self._failed, headers=attributes
                    )
                    break
                except BufferError:
                    producer.poll(0.05)
        PUBLISHED.labels(self._service, row["topic"]).inc(len(row["payloads"]))
        return len(row["payloads"])

    def _failed(self, error: object, message: object) -> None:
        self._failures.append(kafka.describe(error))

    async def _load(self, connection: "asyncpg.Connection[asyncpg.Record]") -> Cursor:
        row = await connection.fetchrow(
            f"SELECT transaction_id::text, id FROM {self._service}.outbox_cursors WHERE shard = $1",
            self._shard,
        )
        return Cursor(row["transaction_id"], row["id"]) if row else Cursor()

    async def _store(
        self, connection: "asyncpg.Connection[asyncpg.Record]", cursor: Cursor
    ) -> None:
        await connection.execute(
            f"INSERT INTO {self._service}.outbox_cursors VALUES ($1, $2::text::xid8, $3) "
            "ON CONFLICT (shard) DO UPDATE SET transaction_id = excluded.transaction_id, "
            "id = excluded.id",
            self._shard,
            cursor.transaction_id,
            cursor.id,
        )
