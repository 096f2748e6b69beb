"""The event store, read: the outboxes of all services, by a role that sees only them."""

from typing import Protocol

from services.common import db
from services.common.admission import KeyId
from services.common.config import Settings
from services.common.events import Event

ROLE = "event_reader"

_READ = """
SELECT DISTINCT ON (e.sequence) e.*, o.traceparent
FROM {service}.outbox AS o,
     unnest(o.event_ids, o.types, o.versions, o.keys, o.sequences, o.payloads)
         AS e(event_id, type, version, key, sequence, payload)
WHERE o.tenant_id = $1 AND o.topic = $2 AND $3 = ANY (o.keys)
  AND e.key = $3 AND e.sequence BETWEEN $4 AND $5
ORDER BY e.sequence
"""


def service_of(topic: str) -> str:
    """Return the service whose outbox feeds a topic: one name runs through all."""
    return topic.removesuffix("-events")


class EventSource(Protocol):
    """Where missing events are fetched from."""

    async def read(self, key: KeyId, first: int, last: int) -> list[Event]:
        """Return the events of a key numbered first to last, those that exist, in order."""
        ...


class EventStore(EventSource):
    """Reads the outboxes. Connects for each read: reads are rare."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def read(self, key: KeyId, first: int, last: int) -> list[Event]:
        """Return the events of a key numbered first to last, those that exist, in order."""
        tenant_id, topic, name = key
        connection = await db.connect(self._settings, ROLE)
        try:
            query = _READ.format(service=service_of(topic))
            rows = await connection.fetch(query, tenant_id, topic, name, first, last)
        finally:
            await connection.close()
        return [
            Event(
                tenant_id,
                topic,
                name,
                row["sequence"],
                str(row["event_id"]),
                row["type"],
                row["version"],
                row["payload"],
                row["traceparent"],
            )
            for row in rows
        ]
