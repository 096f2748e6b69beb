"""All events of a topic, from the archive and the store: what a rebuild reads.

Archived months and the live table are merged in the order of the event store, by
(transaction id, id), in which each key's events have their sequence. A row that
is in both, because it was archived and not dropped yet, comes once.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from heapq import heapify, heappop, heappush
from typing import TypeAlias

from services.common import archive, db
from services.common.archive import Manifest, Position, StoredRow
from services.common.config import Settings
from services.common.db import Connection
from services.common.event_store import ROLE, service_of
from services.common.events import Event

Source: TypeAlias = tuple[Position, AsyncGenerator[StoredRow, None]]
"""A position before which it has nothing, and its rows in order."""

ROWS_AHEAD = 16
"""Rows of the outbox fetched together; one holds the events of a transaction."""

_ALL = """
SELECT transaction_id::text::bigint, id, tenant_id, event_ids::text[], types, versions, keys,
    sequences, payloads, traceparent
FROM {service}.outbox
WHERE shard = $1 AND topic = $2 AND ($3 = '' OR tenant_id = $3)
ORDER BY shard, outbox.transaction_id, id
"""
_NEXT_SHARD = "SELECT min(shard) FROM {service}.outbox WHERE shard > $1"


async def stream(settings: Settings, topic: str, tenant_id: str = "") -> AsyncIterator[list[Event]]:
    """Yield the events of a topic, of one tenant or of all, each key's in order.

    A list holds the events of one row of the outbox. What is committed after the
    start is left out. Memory holds a row group for each month being read.
    """
    service = service_of(topic)
    connection = await db.connect(settings, ROLE)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            await db_patience(connection)
            # From here on no partition can be dropped, so a month that is not in
            # the table has its manifest. The other way round it could be missed.
            await connection.execute(f"LOCK TABLE {service}.outbox IN ACCESS SHARE MODE")
            sources: list[Source] = [
                (manifest.summary.first, _archived(manifest, topic, tenant_id))
                for manifest in await asyncio.to_thread(
                    archive.manifests, settings.archive_dir, service
                )
                if manifest.summary.first is not None
            ]
            for shard in await _shards(connection, service):
                rows = _live(connection, _ALL.format(service=service), shard, topic, tenant_id)
                sources.append(((0, 0), rows))
            async with aclosing(_merged(sources)) as merged:
                async for row in merged:
                    yield row.events
    finally:
        await connection.close()


async def db_patience(connection: Connection) -> None:
    """Lift the limits on time that guard a service, until the end of the transaction."""
    await connection.execute(
        "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0"
    )


async def _shards(connection: Connection, service: str) -> list[int]:
    """Return the shards that have rows, each found by the index."""
    query = _NEXT_SHARD.format(service=service)
    shards: list[int] = []
    while (shard := await connection.fetchval(query, shards[-1] if shards else -1)) is not None:
        shards.append(shard)
    # One index per partition is in order already: a sort would copy the whole store.
    await connection.execute("SET LOCAL enable_sort = off")
    return shards


async def _live(
    connection: Connection, query: str, *arguments: object
) -> AsyncGenerator[StoredRow, None]:
    async for row in connection.cursor(query, *arguments, prefetch=ROWS_AHEAD):
        transaction_id, row_id, tenant_id, event_ids, types, versions, keys, *rest = row
        sequences, payloads, traceparent = rest
        topic = str(arguments[1])
        columns = zip(event_ids, types, versions, keys, sequences, payloads, strict=True)
        events = [
            Event(tenant_id, topic, key, sequence, event_id, kind, version, payload, traceparent)
            for event_id, kind, version, key, sequence, payload in columns
        ]
        yield StoredRow((transaction_id, row_id), events)


async def _archived(
    manifest: Manifest, topic: str, tenant_id: str
) -> AsyncGenerator[StoredRow, None]:
    # Imported here: Arrow is large, and few processes ever read the archive.
    from services.common import archive_files

    groups = archive_files.stream(manifest, topic, tenant_id)
    try:
        while (group := await asyncio.to_thread(next, groups, None)) is not None:
            for row in group:
                yield row
    finally:
        groups.close()


async def _merged(sources: Sequence[Source]) -> AsyncGenerator[StoredRow, None]:
    """Yield the rows of all sources in order, each once; open a source when it is its turn."""
    heap: list[tuple[Position, int, StoredRow | None]] = [
        (first, number, None) for number, (first, _) in enumerate(sources)
    ]
    heapify(heap)
    last: Position = (-1, -1)
    try:
        while heap:
            position, number, row = heappop(heap)
            if row is not None and position != last:
                yield row
                last = position
            following = await anext(sources[number][1], None)
            if following is not None:
                heappush(heap, (following.position, number, following))
    finally:
        for _, rows in sources:
            await rows.aclose()
