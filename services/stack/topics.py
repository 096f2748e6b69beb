"""Kafka topics of the services."""

from collections.abc import Sequence
from importlib.util import find_spec

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.cimpl import NewTopic

from services.stack.errors import StackError
from services.stack.kafka import admin

TIMEOUT_S = 20
RETENTION_MS = 7 * 24 * 3600 * 1000


def names(services: Sequence[str], prefix: str = "") -> list[str]:
    """Return topics of events and of dead letters, of each service that has protos of events."""
    emitting = [name for name in services if _has_events(name)]
    return [f"{prefix}{name}-events{end}" for name in emitting for end in ("", ".dead")]


def _has_events(service: str) -> bool:
    try:
        return find_spec(f"interchange.{service}.v1.{service}_events_pb2") is not None
    except ModuleNotFoundError:
        return False  # no protos at all


def create(bootstrap: str, topics: Sequence[str], partitions: int, replication: int) -> int:
    """Create the topics that are missing. Return how many were.

    Raises `StackError` when a broker refuses one, or holds it with a different
    number of partitions: more partitions would tear a key's events apart.
    """
    client = admin(bootstrap)
    known = client.list_topics(timeout=TIMEOUT_S).topics
    for name in topics:
        if name in known and len(known[name].partitions) != partitions:
            raise StackError(
                f"topic {name} has {len(known[name].partitions)} partitions, expected {partitions}",
                "Set INTERCHANGE_KAFKA_PARTITIONS to what it has; the order of a key's events "
                "would not survive a change.",
            )
    missing = [
        NewTopic(
            name,
            num_partitions=partitions,
            replication_factor=replication,
            config={"retention.ms": str(RETENTION_MS)},
        )
        for name in topics
        if name not in known
    ]
    if not missing:
        return 0
    for name, future in client.create_topics(missing, operation_timeout=TIMEOUT_S).items():
        try:
            future.result(TIMEOUT_S)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise StackError(
                    f"topic {name} could not be created: {error}",
                    "Check the rights of the given brokers, and INTERCHANGE_KAFKA_REPLICATION.",
                ) from error
    return len(missing)
