"""Kafka: producer and consumer settings, and how events become messages.

Events travel as CloudEvents in binary mode: the attributes are headers, the
value is the protobuf payload. The key is `tenant:key`, so that one key stays in
order within its partition.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer

from services.common.config import Settings
from services.common.events import Event, Undecodable

SEQUENCE = "ce_sequence"
TYPE = "ce_type"
VERSION = "ce_dataversion"
EVENT_ID = "ce_id"
TRACEPARENT = "traceparent"
REASON = "ce_reason"


def producer(settings: Settings, client_id: str) -> Producer:
    """Return an idempotent producer that waits for all replicas.

    Only failures are called back: a flush that leaves nothing means success,
    without a Python call for each event.
    """
    return Producer(
        {
            "bootstrap.servers": settings.kafka_bootstrap,
            "reconnect.backoff.max.ms": 1_000,  # ten seconds by default: long for a mesh
            "client.id": client_id,
            "enable.idempotence": True,
            "acks": "all",
            "compression.type": "lz4",
            "linger.ms": 1,
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": 500_000,
            "delivery.timeout.ms": 30_000,
            "delivery.report.only.error": True,
        }
    )


def consumer(settings: Settings, group: str) -> Consumer:
    """Return a consumer that keeps no offsets in Kafka: Postgres has them.

    An offset that a rebuilt Kafka does not have starts at the earliest event;
    what was applied already is dropped by its sequence.
    """
    return Consumer(
        {
            "bootstrap.servers": settings.kafka_bootstrap,
            "reconnect.backoff.max.ms": 1_000,  # ten seconds by default: long for a mesh
            "group.id": settings.kafka_topic_prefix + group,
            "client.id": group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            # Gives the same partition of all topics to the same member, so that
            # the events of a key come to one process whatever their topic.
            "partition.assignment.strategy": "range",
            "session.timeout.ms": 6_000,
            "heartbeat.interval.ms": 1_500,
            "fetch.wait.max.ms": 500,
            "fetch.min.bytes": 1,
            # What a lagging consumer fetches ahead: each message takes several times
            # its size there, and by default a hundred thousand are kept.
            "queued.min.messages": 8_000,
            "queued.max.messages.kbytes": 4_096,
            "max.poll.interval.ms": 120_000,
            "isolation.level": "read_committed",
            "allow.auto.create.topics": True,
        }
    )


def headers(
    event_id: str,
    type_name: str,
    version: int,
    sequence: int,
    traceparent: str | None,
    reason: str | None = None,
) -> list[tuple[str, str | bytes | None]]:
    """Return the headers of one event."""
    found: list[tuple[str, str | bytes | None]] = [
        (EVENT_ID, event_id.encode()),
        (TYPE, type_name.encode()),
        (VERSION, b"%d" % version),
        (SEQUENCE, b"%d" % sequence),
    ]
    if traceparent is not None:
        found.append((TRACEPARENT, traceparent.encode()))
    if reason is not None:
        found.append((REASON, reason.encode()[:1000]))
    return found


def read(message: Message, topic: str) -> Event:
    """Return the event in a Kafka message; raise Undecodable when it is none."""
    try:
        found = dict(message.headers() or ())
        tenant_id, _, key = _text(message.key()).partition(":")
        event = Event(
            tenant_id,
            topic,
            key,
            int(found[SEQUENCE] or ""),
            _text(found[EVENT_ID]),
            _name(found[TYPE]),
            int(found[VERSION] or ""),
            message.value() or b"",
            _text(found[TRACEPARENT]) if TRACEPARENT in found else None,
        )
    except (KeyError, ValueError) as error:
        raise Undecodable(f"message is no event: {error!r}") from error
    if not tenant_id or not key:
        raise Undecodable(f"key of the message was {message.key()!r}, expected tenant:key")
    return event


def _text(value: str | bytes | None) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""


# There are few types: one string each serves all events.
_name = lru_cache(maxsize=256)(_text)


def raise_for(messages: Sequence[Message]) -> None:
    """Raise the first fatal error among polled messages."""
    for message in messages:
        error = message.error()
        if error is not None and error.code() != KafkaError._PARTITION_EOF:
            raise KafkaException(error)


def describe(error: Any) -> str:
    """Return a short text for a Kafka error."""
    return error.str() if isinstance(error, KafkaError) else str(error)
