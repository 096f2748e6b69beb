"""The consumer: Kafka in, batches of events applied exactly once in effect.

A batch is applied in one transaction with its partition offsets, its sequence
numbers and the events that it causes. Whatever crashes, the transaction decides.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

import asyncpg
import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, TopicPartition
from prometheus_client import Counter as Metric

from services.common import kafka
from services.common.applier import Applier
from services.common.config import Settings
from services.common.db import Database
from services.common.events import Event, Undecodable
from services.common.handling import TRANSIENT
from services.common.inbox import Inbox, LostPartition, PartitionId

log = structlog.get_logger()

R = TypeVar("R")

CONSUMED = Metric("inbox_consumed_total", "Events taken from Kafka", ["service", "topic"])

TEND_SECONDS = 0.25
PACED_MAX = 500
"""Events of a batch with a pace: each may lock a key of its own in the database."""
BUSY = 8
"""Events in a batch from which on the next one gathers."""


class EventConsumer(Generic[R]):
    """Feeds the events of some topics to one service.

    A busy one lets events gather, as the settings say. One with a pace does not: it
    begins a batch `pace_ms` after the one before at the earliest. Where people wait
    for each other, events come one by one all the time, and each would cost a
    transaction of its own.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        topics: Sequence[str],
        applier: Applier[R],
        pace_ms: int | None = None,
    ) -> None:
        self._settings = settings
        self._pace_s = None if pace_ms is None else pace_ms / 1000
        self._began = 0.0
        self._database = database
        self._inbox = Inbox(database.service)
        self._topics = {settings.kafka_topic_prefix + topic: topic for topic in topics}
        self._applier = applier
        self._positions: dict[PartitionId, int] = {}
        self._busy = False

    async def run(self) -> None:
        """Consume until cancelled; start again from the stored offsets after faults."""
        while True:
            try:
                await self._consume()
            except (*TRANSIENT, KafkaException, LostPartition) as error:
                log.warning("consumer restarts", service=self._database.service, error=repr(error))
                await asyncio.sleep(0.5)

    async def _consume(self) -> None:
        loop = asyncio.get_running_loop()
        self._positions.clear()
        consumer = kafka.consumer(self._settings, self._database.service)
        # A thread of its own: rebalance callbacks run in it, in order.
        with ThreadPoolExecutor(1, f"{self._database.service}-consumer") as thread:
            try:
                await loop.run_in_executor(thread, self._subscribe, consumer, loop)
                tended = 0.0
                while True:
                    messages = await loop.run_in_executor(thread, self._poll, consumer)
                    if messages:
                        await self._take(messages)
                    if loop.time() - tended >= TEND_SECONDS:
                        await self._applier.tend()
                        tended = loop.time()
            finally:
                await asyncio.shield(loop.run_in_executor(thread, consumer.close))

    def _subscribe(self, consumer: Consumer, loop: asyncio.AbstractEventLoop) -> None:
        def assigned(_: Consumer, partitions: list[TopicPartition]) -> None:
            stored = asyncio.run_coroutine_threadsafe(self._stored(partitions), loop).result(30)
            self._positions = stored
            for partition in partitions:
                offset = stored[self._topics[partition.topic], partition.partition]
                partition.offset = offset or OFFSET_BEGINNING
            consumer.assign(partitions)

        def revoked(_: Consumer, partitions: list[TopicPartition]) -> None:
            self._positions = {}
            consumer.unassign()

        consumer.subscribe(list(self._topics), on_assign=assigned, on_revoke=revoked)

    async def _stored(self, partitions: list[TopicPartition]) -> dict[PartitionId, int]:
        wanted = [(self._topics[partition.topic], partition.partition) for partition in partitions]
        async with self._database.pipeline() as connection:
            return await self._inbox.offsets(connection, wanted)

    def _poll(self, consumer: Consumer) -> list[Message]:
        """Return what is there, waiting for the first message only.

        While it is busy it lets more gather: a batch costs much that its events
        share. When it is not, nobody waits.
        """
        first = consumer.poll(0.1)
        if first is None:
            self._busy = False
            return []
        size = self._settings.consumer_batch_size_max
        if self._pace_s is not None:
            size = min(size, PACED_MAX)
        messages = [first, *consumer.consume(size - 1, self._pause_s())]
        self._busy = len(messages) >= BUSY
        kafka.raise_for(messages)
        return messages

    def _pause_s(self) -> float:
        """Return how long more events may gather."""
        if self._pace_s is None:
            return self._settings.consumer_gather_ms / 1000 if self._busy else 0
        now = time.monotonic()
        self._began = max(now, self._began + self._pace_s)
        return self._began - now

    async def _take(self, messages: list[Message]) -> None:
        following: dict[PartitionId, int] = {}
        events: list[Event] = []
        strangers: list[tuple[Message, str]] = []
        for message in messages:
            topic = self._topics[str(message.topic())]
            partition = (topic, int(message.partition() or 0))
            if partition not in self._positions:
                continue  # revoked while it was on its way
            following[partition] = int(message.offset() or 0) + 1
            try:
                events.append(kafka.read(message, topic))
            except Undecodable as error:
                strangers.append((message, str(error)))
        if not following:
            return
        for topic, count in Counter(event.topic for event in events).items():
            CONSUMED.labels(self._database.service, topic).inc(count)
        expected = {partition: self._positions[partition] for partition in following}
        await self._apply(events, strangers, expected, following)
        for partition, offset in following.items():
            if partition in self._positions:
                self._positions[partition] = offset

    async def _apply(
        self,
        events: list[Event],
        strangers: list[tuple[Message, str]],
        expected: dict[PartitionId, int],
        following: dict[PartitionId, int],
    ) -> None:
        async def advance(connection: Any) -> None:
            await self._inbox.advance(connection, expected, following)

        dead = [
            (self._topics[str(m.topic())], m.key() or b"", m.value() or b"", r)
            for m, r in strangers
        ]
        try:
            await self._applier.apply(events, dead, advance)
        except asyncpg.PostgresError as error:
            # What is left here is no fault of an event: those are parked.
            raise OSError(f"batch not applied: {error}") from error
