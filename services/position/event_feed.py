"""All events of a topic, from the event store: what a rebuild reads.

An archive of older partitions would be read before, by a feed of the same form.
"""

from collections.abc import AsyncIterator

from services.common import db
from services.common.config import Settings
from services.common.event_store import ROLE, service_of
from services.common.events import Event

ROWS_AHEAD = 16
"""Rows of the outbox fetched together; one holds the events of a transaction."""

# A key stays in one shard, and there (transaction, id) is the order of its events.
_ALL = """
SELECT tenant_id, event_ids::text[], types, versions, keys, sequences, payloads
FROM {service}.outbox
WHERE topic = $1 AND ($2 = '' OR tenant_id = $2)
ORDER BY shard, transaction_id, id
"""


async def stream(settings: Settings, topic: str, tenant_id: str = "") -> AsyncIterator[list[Event]]:
    """Yield the events of a topic, of one tenant or of all, each key's in order."""
    connection = await db.connect(settings, ROLE)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            await db_patience(connection)
            query = _ALL.format(service=service_of(topic))
            async for row in connection.cursor(query, topic, tenant_id, prefetch=ROWS_AHEAD):
                tenant, *columns = row
                yield [
                    Event(tenant, topic, key, sequence, event_id, kind, version, payload)
                    for event_id, kind, version, key, sequence, payload in zip(
                        *columns, strict=True
                    )
                ]
    finally:
        await connection.close()


async def db_patience(connection: db.Connection) -> None:
    """Lift the limits on time that guard a service, until the end of the transaction."""
    await connection.execute(
        "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0"
    )
