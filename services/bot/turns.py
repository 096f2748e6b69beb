"""The queue of turns: who takes one has it for the time of a lease.

The turns of a conversation are taken in order, one at a time: only the first one
that is there can be taken, and it is there until it was answered.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID, uuid4

from services.common.db import Database

# The queue grows and shrinks faster than statistics follow. By its order it is read
# alone as far as needed; without these, a long one would be read and sorted whole.
_BY_INDEX = """
SET LOCAL enable_sort = off; SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off;
SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off
"""

# Each tenant gets his share of what is taken: one that floods waits behind himself.
_CLAIM = """
WITH RECURSIVE tenants(tenant_id) AS (
    (SELECT tenant_id FROM bot.turns WHERE tenant_id > $6 ORDER BY tenant_id LIMIT 1)
    UNION ALL
    SELECT (SELECT t.tenant_id FROM bot.turns AS t WHERE t.tenant_id > tenants.tenant_id
            ORDER BY t.tenant_id LIMIT 1)
    FROM tenants WHERE tenants.tenant_id IS NOT NULL
), chosen AS (
    SELECT tenants.tenant_id, due.conversation_ids, due.sequences
    FROM tenants CROSS JOIN LATERAL (
        SELECT array_agg(f.conversation_id) AS conversation_ids, array_agg(f.sequence) AS sequences
        FROM (
            SELECT t.conversation_id, t.sequence FROM bot.turns AS t
            WHERE t.tenant_id = tenants.tenant_id AND t.due_at <= clock_timestamp()
              AND NOT EXISTS (
                SELECT FROM bot.turns AS e WHERE e.tenant_id = t.tenant_id
                  AND e.conversation_id = t.conversation_id AND e.sequence < t.sequence)
            ORDER BY t.turn_id LIMIT $1 FOR UPDATE SKIP LOCKED
        ) AS f
        HAVING count(*) > 0
    ) AS due
    WHERE tenants.tenant_id IS NOT NULL AND tenants.tenant_id <> ALL ($2::text[])
    LIMIT $5
)
UPDATE bot.turns AS t
SET lease = $3, attempts = t.attempts + 1,
    due_at = clock_timestamp() + $4 * interval '1 millisecond'
FROM chosen AS c
CROSS JOIN LATERAL unnest(c.conversation_ids, c.sequences) AS n(conversation_id, sequence)
WHERE t.tenant_id = c.tenant_id AND t.conversation_id = n.conversation_id
  AND t.sequence = n.sequence
RETURNING t.tenant_id, t.conversation_id::text, t.sequence, t.event_id::text, t.customer_id,
    t.bot_id, t.hand_off, t.sealed_body, t.traceparent, t.lease, t.attempts
"""

_POSTPONE = """
UPDATE bot.turns AS t
SET lease = NULL, due_at = clock_timestamp() + n.pause_ms * interval '1 millisecond'
FROM unnest($2::uuid[], $3::bigint[], $4::uuid[], $5::bigint[])
    AS n(conversation_id, sequence, lease, pause_ms)
WHERE t.tenant_id = $1 AND t.conversation_id = n.conversation_id AND t.sequence = n.sequence
  AND t.lease = n.lease
"""


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn of a customer that waits for its answer."""

    tenant_id: str
    conversation_id: str
    sequence: int
    """Number of the message; zero for a greeting."""
    event_id: str
    customer_id: str
    bot_id: str
    hand_off: int
    sealed_body: bytes
    traceparent: str | None = None
    lease: UUID | None = None
    attempts: int = 0
    """How often it was taken, this time included."""

    @property
    def reopens(self) -> bool:
        """True for the note that the conversation is with the bot again: it has no body."""
        return self.sequence > 0 and not self.sealed_body


class Queue(Protocol):
    """Turns as the worker takes them; the fake of the unit tests has a list."""

    async def claim(self, busy: Collection[str], tenants_max: int) -> Mapping[str, Sequence[Turn]]:
        """Take turns that are due, of some tenants, but none of the busy ones."""
        ...

    async def postpone(
        self, tenant_id: str, turns: Sequence[Turn], pauses_ms: Sequence[int]
    ) -> None:
        """Give turns back, to be taken again after a pause."""
        ...


class PostgresQueue(Queue):
    """The queue in Postgres."""

    def __init__(self, database: Database, size_max: int, lease_ms: int) -> None:
        self._database = database
        self._size_max = size_max
        self._lease_ms = lease_ms
        self._after = ""
        """Tenant after which the next look begins."""

    async def claim(self, busy: Collection[str], tenants_max: int) -> Mapping[str, Sequence[Turn]]:
        """Take turns that are due, of some tenants, but none of the busy ones."""
        found = await self._claim(busy, tenants_max)
        if not found and self._after:
            self._after = ""
            found = await self._claim(busy, tenants_max)
        # Where all can't be served at once, the next ones are, and then the first again.
        self._after = max(found) if len(found) == tenants_max else ""
        return found

    async def _claim(self, busy: Collection[str], tenants_max: int) -> Mapping[str, Sequence[Turn]]:
        async with self._database.pipeline() as connection:
            await connection.execute(_BY_INDEX)
            rows = await connection.fetch(
                _CLAIM,
                self._size_max,
                list(busy),
                uuid4(),
                self._lease_ms,
                tenants_max,
                self._after,
            )
        found: dict[str, list[Turn]] = {}
        for row in rows:
            found.setdefault(row["tenant_id"], []).append(Turn(*row))
        return found

    async def postpone(
        self, tenant_id: str, turns: Sequence[Turn], pauses_ms: Sequence[int]
    ) -> None:
        """Give turns back, to be taken again after a pause."""
        async with self._database.pipeline() as connection:
            await connection.execute(
                _POSTPONE,
                tenant_id,
                [turn.conversation_id for turn in turns],
                [turn.sequence for turn in turns],
                [turn.lease for turn in turns],
                list(pauses_ms),
            )
