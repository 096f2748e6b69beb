"""The inbox tables: offsets, sequences and parked events of one service.

Everything here runs in the transaction of the batch, so that what was applied
and how far go together.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import asyncpg

from services.common.admission import KeyId, key_id
from services.common.db import Connection
from services.common.events import Event

PartitionId: TypeAlias = tuple[str, int]
"""Topic and partition."""

PARKED_KEYS_MAX = 10_000
TENDED_KEYS_MAX = 100
"""Parked keys that are worked on in one transaction."""


class LostPartition(Exception):
    """Another process moved the offset: it owns the partition now."""


class Inbox:
    """The inbox of one service."""

    def __init__(self, service: str) -> None:
        self.service = service

    async def offsets(
        self, connection: Connection, partitions: Sequence[PartitionId]
    ) -> dict[PartitionId, int]:
        """Return the next offset of each partition, 0 for those never seen."""
        topics, numbers = _columns(partitions, 2)
        await connection.execute(
            f"INSERT INTO {self.service}.inbox_offsets "
            "SELECT *, 0 FROM unnest($1::text[], $2::int[]) ON CONFLICT DO NOTHING",
            topics,
            numbers,
        )
        rows = await connection.fetch(
            f"SELECT topic, partition, next_offset FROM {self.service}.inbox_offsets "
            "WHERE (topic, partition) IN (SELECT * FROM unnest($1::text[], $2::int[]))",
            topics,
            numbers,
        )
        return {(row["topic"], row["partition"]): row["next_offset"] for row in rows}

    async def advance(
        self,
        connection: Connection,
        expected: Mapping[PartitionId, int],
        following: Mapping[PartitionId, int],
    ) -> None:
        """Move offsets from `expected` to `following`, or raise LostPartition."""
        partitions = sorted(following)
        topics, numbers = _columns(partitions, 2)
        status = await connection.execute(
            f"UPDATE {self.service}.inbox_offsets AS o SET next_offset = n.following "
            "FROM unnest($1::text[], $2::int[], $3::bigint[], $4::bigint[]) "
            "AS n(topic, partition, expected, following) "
            "WHERE o.topic = n.topic AND o.partition = n.partition AND o.next_offset = n.expected",
            topics,
            numbers,
            [expected[partition] for partition in partitions],
            [following[partition] for partition in partitions],
        )
        if status != f"UPDATE {len(partitions)}":
            raise LostPartition(f"{status} of {len(partitions)} offsets")

    async def sequences(self, connection: Connection, keys: Iterable[KeyId]) -> dict[KeyId, int]:
        """Return and lock the last applied number of each key."""
        wanted = sorted(set(keys))
        found = await self._locked(connection, wanted)
        if missing := [key for key in wanted if key not in found]:
            # What is not there can't be locked, and two instances would apply a key's
            # first events both: one from Kafka, one from the event store.
            await connection.execute(
                f"INSERT INTO {self.service}.inbox_sequences "
                "SELECT *, 0 FROM unnest($1::text[], $2::text[], $3::text[]) "
                "ON CONFLICT DO NOTHING",
                *_columns(missing, 3),
            )
            found |= await self._locked(connection, missing)
        return found

    async def _locked(self, connection: Connection, keys: Sequence[KeyId]) -> dict[KeyId, int]:
        rows = await connection.fetch(
            f"SELECT tenant_id, topic, key, sequence FROM {self.service}.inbox_sequences "
            "WHERE (tenant_id, topic, key) IN "
            "(SELECT * FROM unnest($1::text[], $2::text[], $3::text[])) "
            "ORDER BY tenant_id, topic, key FOR UPDATE",
            *_columns(keys, 3),
        )
        return {(row["tenant_id"], row["topic"], row["key"]): row["sequence"] for row in rows}

    async def store_sequences(self, connection: Connection, sequences: Mapping[KeyId, int]) -> None:
        """Set the last applied number of keys."""
        ordered = sorted(sequences)
        await connection.execute(
            f"INSERT INTO {self.service}.inbox_sequences "
            "SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) "
            "ON CONFLICT (tenant_id, topic, key) DO UPDATE SET sequence = excluded.sequence",
            *_columns(ordered, 3),
            [sequences[key] for key in ordered],
        )

    async def parked_keys(self, connection: Connection) -> dict[KeyId, str]:
        """Return the state of every key that waits."""
        rows = await connection.fetch(
            f"SELECT tenant_id, topic, key, state FROM {self.service}.parked_keys LIMIT $1",
            PARKED_KEYS_MAX,
        )
        return {(row["tenant_id"], row["topic"], row["key"]): row["state"] for row in rows}

    async def park(
        self,
        connection: Connection,
        events: Sequence[Event],
        states: Mapping[KeyId, tuple[str, str]],
    ) -> None:
        """Store events that wait and the (state, reason) of newly parked keys."""
        for (tenant_id, topic, key), (state, reason) in sorted(states.items()):
            await connection.execute(
                f"INSERT INTO {self.service}.parked_keys VALUES ($1, $2, $3, $4, $5) "
                "ON CONFLICT (tenant_id, topic, key) DO UPDATE "
                "SET state = excluded.state, reason = excluded.reason",
                tenant_id,
                topic,
                key,
                state,
                reason[:1000],
            )
        await connection.executemany(
            f"INSERT INTO {self.service}.parked_events "
            "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING",
            [
                (*key_id(e), e.sequence, e.event_id, e.type, e.version, e.payload, e.traceparent)
                for e in events
            ],
        )

    async def waiting(self, connection: Connection) -> list[asyncpg.Record]:
        """Return and lock the parked keys that nobody else works on, the released first."""
        return await connection.fetch(
            f"SELECT tenant_id, topic, key, state FROM {self.service}.parked_keys "
            "WHERE state <> 'POISONED' "
            "ORDER BY state = 'GAP', parked_at LIMIT $1 FOR UPDATE SKIP LOCKED",
            TENDED_KEYS_MAX,
        )

    async def gaps(self, connection: Connection, age_min_ms: int) -> list[tuple[KeyId, int, int]]:
        """Return keys that have missed events for so long, the longest first.

        With each comes the number of the last event that was applied and that of
        the first one that waits. A key whose next event waits already misses none.
        """
        rows = await connection.fetch(
            "SELECT k.tenant_id, k.topic, k.key, coalesce(s.sequence, 0) AS last, e.following "
            f"FROM {self.service}.parked_keys AS k "
            f"LEFT JOIN {self.service}.inbox_sequences AS s USING (tenant_id, topic, key) "
            f"CROSS JOIN LATERAL (SELECT min(sequence) AS following "
            f"FROM {self.service}.parked_events AS e WHERE e.tenant_id = k.tenant_id "
            "AND e.topic = k.topic AND e.key = k.key) AS e "
            "WHERE k.state = 'GAP' AND e.following > coalesce(s.sequence, 0) + 1 "
            "AND k.parked_at <= clock_timestamp() - $1 * interval '1 millisecond' "
            "ORDER BY k.parked_at LIMIT $2",
            age_min_ms,
            TENDED_KEYS_MAX,
        )
        return [
            ((row["tenant_id"], row["topic"], row["key"]), row["last"], row["following"])
            for row in rows
        ]

    async def parked_events(self, connection: Connection, key: KeyId, limit: int) -> list[Event]:
        """Return the first events that wait with a key, by sequence."""
        rows = await connection.fetch(
            f"SELECT * FROM {self.service}.parked_events "
            "WHERE tenant_id = $1 AND topic = $2 AND key = $3 ORDER BY sequence LIMIT $4",
            *key,
            limit,
        )
        return [
            Event(
                row["tenant_id"],
                row["topic"],
                row["key"],
                row["sequence"],
                str(row["event_id"]),
                row["type"],
                row["version"],
                row["payload"],
                row["traceparent"],
            )
            for row in rows
        ]

    async def unpark(self, connection: Connection, key: KeyId, through: int) -> bool:
        """Drop what waits up to a sequence; tell whether the key is free again."""
        await connection.execute(
            f"DELETE FROM {self.service}.parked_events "
            "WHERE tenant_id = $1 AND topic = $2 AND key = $3 AND sequence <= $4",
            *key,
            through,
        )
        status = await connection.execute(
            f"DELETE FROM {self.service}.parked_keys AS k "
            "WHERE tenant_id = $1 AND topic = $2 AND key = $3 AND NOT EXISTS "
            f"(SELECT FROM {self.service}.parked_events AS e WHERE e.tenant_id = k.tenant_id "
            "AND e.topic = k.topic AND e.key = k.key)",
            *key,
        )
        return status == "DELETE 1"

    async def set_state(self, connection: Connection, key: KeyId, state: str, reason: str) -> None:
        """Change the state of a parked key."""
        await self.park(connection, (), {key: (state, reason)})


def _columns(rows: Iterable[tuple[object, ...]], width: int) -> list[list[object]]:
    columns = [list(column) for column in zip(*rows, strict=True)]
    return columns or [[] for _ in range(width)]
