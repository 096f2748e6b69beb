"""The outbox: events are rows of the transaction that causes them.

Rows are packed: one a transaction, tenant, topic and shard holds its events as
arrays. They stay and are the event store.

Order: writers take advisory locks on their keys, sorted, before the first write
of the transaction. Such a lock takes no transaction id, so transactions of one
key get their ids in the order of their sequences, and a relay that publishes by
(transaction id, id) below the oldest running transaction keeps that order.
"""

import zlib
from collections.abc import Iterable, Sequence
from hashlib import blake2b

from services.common.db import Connection
from services.common.events import EventColumns

_INSERT = """
INSERT INTO {service}.outbox
    (tenant_id, shard, topic, event_ids, types, versions, keys, sequences, payloads,
     traceparent, reason)
VALUES ($1, $2, $3, $4::uuid[], $5, $6, $7, $8, $9, $10, $11)
"""


def lock_numbers(service: str, tenant_id: str, keys: Iterable[str]) -> list[int]:
    """Return the advisory locks of a service's writers of `keys`, sorted.

    Sorted, so that two transactions can't wait for each other. Advisory locks
    are the whole database's: the name of the service keeps those of two apart.
    """
    prefix = f"{service}:{tenant_id}:"
    return sorted(
        {
            int.from_bytes(
                blake2b((prefix + key).encode(), digest_size=8).digest(), "big", signed=True
            )
            for key in keys
        }
    )


async def lock_keys(
    connection: Connection, service: str, tenant_id: str, keys: Iterable[str]
) -> None:
    """Serialise a service's writers of `keys`; call before the first write."""
    await lock(connection, lock_numbers(service, tenant_id, keys))


async def lock(connection: Connection, numbers: Sequence[int]) -> None:
    """Take the advisory locks of `lock_numbers` until the transaction ends."""
    if numbers:
        await connection.execute(
            "SELECT pg_advisory_xact_lock(lock) FROM unnest($1::bigint[]) AS lock", numbers
        )


def shard_of(key: str, shards: int) -> int:
    """Return the shard of a key, the same in every process."""
    return zlib.crc32(key.encode()) % shards


class Outbox:
    """Events of one transaction, written by `flush` at its end."""

    def __init__(self, service: str, shards: int) -> None:
        self._insert = _INSERT.format(service=service)
        self._shards = shards
        self._columns: list[EventColumns] = []

    def add(self, columns: EventColumns) -> None:
        """Take events along with the transaction."""
        if columns.payloads:
            self._columns.append(columns)

    @property
    def columns(self) -> Sequence[EventColumns]:
        """What was added so far."""
        return self._columns

    async def flush(self, connection: Connection, traceparent: str | None) -> bool:
        """Insert the rows; tell whether there were any."""
        rows = [
            (
                part.tenant_id,
                shard,
                part.topic,
                part.event_ids,
                part.types,
                part.versions,
                part.keys,
                part.sequences,
                part.payloads,
                traceparent,
                part.reason,
            )
            for columns in self._columns
            for shard, part in _by_shard(columns, self._shards)
        ]
        if rows:
            await connection.executemany(self._insert, rows)
        return bool(rows)


def _by_shard(columns: EventColumns, shards: int) -> Iterable[tuple[int, EventColumns]]:
    if shards == 1:
        yield 0, columns
        return
    parts: dict[int, EventColumns] = {}
    for index, key in enumerate(columns.keys):
        shard = shard_of(f"{columns.tenant_id}:{key}", shards)
        part = parts.get(shard)
        if part is None:
            part = EventColumns(columns.tenant_id, columns.topic, reason=columns.reason)
            parts[shard] = part
        part.event_ids.append(columns.event_ids[index])
        part.types.append(columns.types[index])
        part.versions.append(columns.versions[index])
        part.keys.append(key)
        part.sequences.append(columns.sequences[index])
        part.payloads.append(columns.payloads[index])
    yield from sorted(parts.items(), key=lambda item: item[0])
