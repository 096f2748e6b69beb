"""The SQL of bots and contexts, and of turns where a transaction ends them."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import asyncpg

from services.bot.domain import Context
from services.bot.turns import Turn
from services.common.db import Connection

_CONTEXT = """bot_id, hand_off, closed, misses, turns, last_intent, last_confidence_millis,
    handed_off, model_version, uses, event_sequence"""

_CONTEXTS = f"""
SELECT n.conversation_id::text, c.* FROM unnest($2::uuid[]) AS n(conversation_id)
CROSS JOIN LATERAL (
    SELECT {_CONTEXT} FROM bot.contexts AS c
    WHERE c.tenant_id = $1 AND c.conversation_id = n.conversation_id OFFSET 0
) AS c
"""

_STORE = f"""
INSERT INTO bot.contexts AS c (tenant_id, conversation_id, {_CONTEXT})
SELECT $1, * FROM unnest($2::uuid[], $3::text[], $4::int[], $5::int[], $6::int[], $7::int[],
    $8::text[], $9::int[], $10::boolean[], $11::bigint[], $12::jsonb[], $13::bigint[])
ON CONFLICT (tenant_id, conversation_id) DO UPDATE SET
    bot_id = excluded.bot_id, hand_off = excluded.hand_off,
    closed = greatest(c.closed, excluded.closed), misses = excluded.misses,
    turns = excluded.turns, last_intent = excluded.last_intent,
    last_confidence_millis = excluded.last_confidence_millis,
    handed_off = excluded.handed_off, model_version = excluded.model_version,
    uses = excluded.uses, event_sequence = excluded.event_sequence
"""

_CLOSE = f"""
INSERT INTO bot.contexts AS c (tenant_id, conversation_id, {_CONTEXT})
SELECT tenant_id, conversation_id, '', 0, closed, 0, 0, '', 0, false, 0, '{{}}', 0
FROM unnest($1::text[], $2::uuid[], $3::int[]) AS n(tenant_id, conversation_id, closed)
ON CONFLICT (tenant_id, conversation_id)
DO UPDATE SET closed = greatest(c.closed, excluded.closed)
"""

_ADD = """
INSERT INTO bot.turns (tenant_id, conversation_id, sequence, event_id, customer_id, bot_id,
    hand_off, sealed_body, traceparent)
SELECT * FROM unnest($1::text[], $2::uuid[], $3::bigint[], $4::uuid[], $5::text[], $6::text[],
    $7::int[], $8::bytea[], $9::text[])
ON CONFLICT DO NOTHING
"""

_FINISH = """
DELETE FROM bot.turns AS t USING unnest($2::uuid[], $3::bigint[], $4::uuid[])
    AS n(conversation_id, sequence, lease)
WHERE t.tenant_id = $1 AND t.conversation_id = n.conversation_id AND t.sequence = n.sequence
  AND t.lease = n.lease
RETURNING t.conversation_id::text, t.sequence
"""

_PUT = """
INSERT INTO bot.bots AS b (tenant_id, bot_id, version, body) VALUES ($1, $2, 1, $3)
ON CONFLICT (tenant_id, bot_id) DO UPDATE SET body = excluded.body,
    version = b.version + (b.body <> excluded.body)::int
RETURNING version
"""

_KNOWN = """
SELECT b.bot_id, b.version, CASE WHEN b.version <> n.version THEN b.body END
FROM unnest($2::text[], $3::bigint[]) AS n(bot_id, version)
JOIN bot.bots AS b ON b.tenant_id = $1 AND b.bot_id = n.bot_id
"""


class StoredBot(NamedTuple):
    """A bot as it is stored: its serialized message."""

    version: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Known:
    """What is stored of a conversation."""

    bot_id: str
    context: Context
    last_sequence: int
    """Number of its last bot event."""


NOTHING_KNOWN = Known("", Context(), 0)

ConversationId = tuple[str, str]
"""Tenant and conversation."""


class Bots(Protocol):
    """Bots and contexts within a transaction; the port that tests fake."""

    async def put(self, tenant_id: str, bot_id: str, body: bytes) -> int:
        """Store a bot and return its version, one higher when it changed."""
        ...

    async def newer(
        self, tenant_id: str, known: Mapping[str, int]
    ) -> Mapping[str, tuple[int, bytes | None]]:
        """Return the version of those bots that exist, and the body where it is not the known."""
        ...

    async def page(self, tenant_id: str, after: str, limit: int) -> Sequence[tuple[str, StoredBot]]:
        """Return bots by id, those after `after`."""
        ...

    async def contexts(
        self, tenant_id: str, conversation_ids: Collection[str]
    ) -> Mapping[str, Known]:
        """Return what is known of conversations."""
        ...

    async def store(self, tenant_id: str, known: Mapping[str, Known]) -> None:
        """Store what is known of conversations."""
        ...

    async def finish(self, tenant_id: str, turns: Sequence[Turn]) -> set[tuple[str, int]]:
        """Drop turns; return (conversation, sequence) of those whose lease was still ours."""
        ...

    async def add(self, turns: Sequence[Turn]) -> None:
        """Queue turns; those that are queued already stay as they are."""
        ...

    async def close(self, stints: Mapping[ConversationId, int]) -> None:
        """End the stints of bots below a number of hand-overs."""
        ...


class PostgresBots(Bots):
    """Bots and contexts in Postgres."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def put(self, tenant_id: str, bot_id: str, body: bytes) -> int:
        """Store a bot and return its version, one higher when it changed."""
        return int(await self._connection.fetchval(_PUT, tenant_id, bot_id, body))

    async def newer(
        self, tenant_id: str, known: Mapping[str, int]
    ) -> Mapping[str, tuple[int, bytes | None]]:
        """Return the version of those bots that exist, and the body where it is not the known."""
        columns = list(known), list(known.values())
        rows = await self._connection.fetch(_KNOWN, tenant_id, *columns)
        return {bot_id: (version, body) for bot_id, version, body in rows}

    async def page(self, tenant_id: str, after: str, limit: int) -> Sequence[tuple[str, StoredBot]]:
        """Return bots by id, those after `after`."""
        rows = await self._connection.fetch(
            "SELECT bot_id, version, body FROM bot.bots "
            "WHERE tenant_id = $1 AND bot_id > $2 ORDER BY bot_id LIMIT $3",
            tenant_id,
            after,
            limit,
        )
        return [(bot_id, StoredBot(version, body)) for bot_id, version, body in rows]

    async def contexts(
        self, tenant_id: str, conversation_ids: Collection[str]
    ) -> Mapping[str, Known]:
        """Return what is known of conversations."""
        rows = await self._connection.fetch(_CONTEXTS, tenant_id, sorted(conversation_ids))
        return {row["conversation_id"]: _known(row) for row in rows}

    async def store(self, tenant_id: str, known: Mapping[str, Known]) -> None:
        """Store what is known of conversations."""
        rows = [
            (
                conversation_id,
                one.bot_id,
                one.context.hand_off,
                one.context.closed,
                one.context.misses,
                one.context.turns,
                one.context.last_intent,
                one.context.last_confidence_millis,
                one.context.handed_off,
                one.context.model_version,
                json.dumps(dict(one.context.uses)),
                one.last_sequence,
            )
            for conversation_id, one in sorted(known.items(), key=lambda item: item[0])
        ]
        if rows:
            columns = zip(*rows, strict=True)
            await self._connection.execute(_STORE, tenant_id, *map(list, columns))

    async def finish(self, tenant_id: str, turns: Sequence[Turn]) -> set[tuple[str, int]]:
        """Drop turns; return (conversation, sequence) of those whose lease was still ours."""
        rows = await self._connection.fetch(
            _FINISH,
            tenant_id,
            [turn.conversation_id for turn in turns],
            [turn.sequence for turn in turns],
            [turn.lease for turn in turns],
        )
        return {(conversation_id, sequence) for conversation_id, sequence in rows}

    async def add(self, turns: Sequence[Turn]) -> None:
        """Queue turns; those that are queued already stay as they are."""
        rows = [
            (
                turn.tenant_id,
                turn.conversation_id,
                turn.sequence,
                turn.event_id,
                turn.customer_id,
                turn.bot_id,
                turn.hand_off,
                turn.sealed_body,
                turn.traceparent,
            )
            for turn in turns
        ]
        if rows:
            await self._connection.execute(_ADD, *map(list, zip(*rows, strict=True)))

    async def close(self, stints: Mapping[ConversationId, int]) -> None:
        """End the stints of bots below a number of hand-overs."""
        if not stints:
            return
        # In one order, as whoever answers writes: two transactions can't wait for each other.
        rows = [(*key, closed) for key, closed in sorted(stints.items())]
        columns = [list(column) for column in zip(*rows, strict=True)]
        await self._connection.execute(_CLOSE, *columns)


def _known(row: asyncpg.Record) -> Known:
    context = Context(
        hand_off=row["hand_off"],
        closed=row["closed"],
        misses=row["misses"],
        turns=row["turns"],
        last_intent=row["last_intent"],
        last_confidence_millis=row["last_confidence_millis"],
        handed_off=row["handed_off"],
        model_version=row["model_version"],
        uses=json.loads(row["uses"]),
    )
    return Known(row["bot_id"], context, row["event_sequence"])
