"""SQL of what the consumer writes: hand-overs, ends, and agents who come and go.

Batches span tenants, and no agent is locked: what concerns agents is only noted here
(`settle_time`, `departures`) and done by whoever takes their locks.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from services.agent.domain import Request, RequestState
from services.common.db import Connection

Key = tuple[str, str]
"""Tenant and conversation, or tenant and agent."""

_LOCK = """
SELECT r.tenant_id, r.conversation_id, r.hand_off, r.state
FROM agent.requests AS r
WHERE (r.tenant_id, r.conversation_id) IN (SELECT * FROM unnest($1::text[], $2::text[]::uuid[]))
ORDER BY r.tenant_id, r.conversation_id FOR UPDATE
"""

# What an earlier hand-over left open is to be settled; a request that waited left nothing.
_UPSERT = """
INSERT INTO agent.requests (tenant_id, conversation_id, hand_off, customer_id, channel, reason,
                            pool_id, rank, needs, previous_agent_id, hand_off_time, state,
                            declined, settle_time, change_time)
SELECT tenant_id, conversation_id, hand_off, customer_id, channel, reason, pool_id, rank, needs,
       previous_agent_id, hand_off_time, state, '{}', NULL, $13
FROM unnest($1::text[], $2::text[]::uuid[], $3::integer[], $4::text[], $5::smallint[],
            $6::smallint[], $7::text[], $8::smallint[], $9::bytea[], $10::text[],
            $11::timestamptz[], $12::text[])
     AS n(tenant_id, conversation_id, hand_off, customer_id, channel, reason, pool_id, rank,
          needs, previous_agent_id, hand_off_time, state)
ON CONFLICT (tenant_id, conversation_id) DO UPDATE
SET hand_off = excluded.hand_off, customer_id = excluded.customer_id, channel = excluded.channel,
    reason = excluded.reason, pool_id = excluded.pool_id, rank = excluded.rank,
    needs = excluded.needs, previous_agent_id = excluded.previous_agent_id,
    hand_off_time = excluded.hand_off_time, state = excluded.state, declined = '{}',
    settle_time = CASE WHEN requests.state IN ('OFFERED', 'MATCHED') THEN $14
                       ELSE requests.settle_time END,
    change_time = excluded.change_time
WHERE excluded.hand_off > requests.hand_off
"""

_CLOSE = """
UPDATE agent.requests AS r
SET state = 'CLOSED', change_time = $3,
    settle_time = CASE WHEN r.state IN ('OFFERED', 'MATCHED') THEN $4 ELSE r.settle_time END
FROM unnest($1::text[], $2::text[]::uuid[]) AS n(tenant_id, conversation_id)
WHERE r.tenant_id = n.tenant_id AND r.conversation_id = n.conversation_id AND r.state <> 'CLOSED'
"""

_DEPART = """
INSERT INTO agent.departures (tenant_id, agent_id, due_time)
SELECT n.tenant_id, n.agent_id, $3 FROM unnest($1::text[], $2::text[]) AS n(tenant_id, agent_id)
JOIN agent.agents USING (tenant_id, agent_id)
ORDER BY n.tenant_id, n.agent_id
ON CONFLICT (tenant_id, agent_id) DO UPDATE SET due_time = excluded.due_time
"""

_RETURN = """
DELETE FROM agent.departures AS d USING unnest($1::text[], $2::text[]) AS n(tenant_id, agent_id)
WHERE d.tenant_id = n.tenant_id AND d.agent_id = n.agent_id
"""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A hand-over as it came."""

    tenant_id: str
    request: Request
    """WAITING, or CLOSED when the conversation ended in the same batch."""
    needs: bytes
    """As the event has them."""


class Arrivals:
    """Writes of the consumer, in its transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def lock(self, keys: Collection[Key]) -> set[Key]:
        """Lock the requests of conversations, in order; return those with something to settle."""
        found = await self._connection.fetch(_LOCK, *_columns(sorted(keys)))
        return {
            (row["tenant_id"], str(row["conversation_id"]))
            for row in found
            if row["state"] in (RequestState.OFFERED, RequestState.MATCHED)
        }

    async def hand_off(
        self, arrivals: Sequence[Arrival], now: datetime, settle_time: datetime
    ) -> None:
        """Store hand-overs in place of earlier ones."""
        if not arrivals:
            return
        requests = [one.request for one in arrivals]
        await self._connection.execute(
            _UPSERT,
            [one.tenant_id for one in arrivals],
            [one.conversation_id for one in requests],
            [one.hand_off for one in requests],
            [one.customer_id for one in requests],
            [one.channel for one in requests],
            [one.reason for one in requests],
            [one.needs.pool_id for one in requests],
            [one.needs.rank for one in requests],
            [one.needs for one in arrivals],
            [one.previous_agent_id for one in requests],
            [one.hand_off_time for one in requests],
            [one.state.value for one in requests],
            now,
            settle_time,
        )

    async def close(self, keys: Collection[Key], now: datetime, settle_time: datetime) -> None:
        """Close the requests of conversations that ended."""
        if keys:
            await self._connection.execute(_CLOSE, *_columns(sorted(keys)), now, settle_time)

    async def depart(self, keys: Collection[Key], due_time: datetime) -> None:
        """Note that agents are gone, unless they return before `due_time`."""
        if keys:
            await self._connection.execute(_DEPART, *_columns(sorted(keys)), due_time)

    async def come_back(self, keys: Collection[Key]) -> None:
        """Forget the departures of agents."""
        if keys:
            await self._connection.execute(_RETURN, *_columns(sorted(keys)))


def _columns(keys: Sequence[Key]) -> tuple[list[str], list[str]]:
    return [tenant_id for tenant_id, _ in keys], [name for _, name in keys]
