"""SQL that finds what is due, of all tenants; what is found is claimed for a while.

The instance that claims does it; when it dies, the claim runs out and another does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from services.common.db import Connection, Database

CLAIM = timedelta(seconds=5)
ROWS_MAX = 1_000
POOLS_MAX = 1_000
REPAIR_ROWS_MAX = 1_000
PURGE_ROWS_MAX = 5_000
KEPT = timedelta(days=1)
"""How long a closed offer is remembered, for an agent who answers it late."""

_OFFERS = """
UPDATE agent.offers AS o SET claim_time = $2
WHERE (o.tenant_id, o.offer_id) IN (
    SELECT tenant_id, offer_id FROM agent.offers
    WHERE state = 'OPEN' AND expire_time <= $1 AND claim_time <= $1
    ORDER BY expire_time LIMIT $3 FOR UPDATE SKIP LOCKED)
RETURNING o.tenant_id, o.agent_id, o.offer_id
"""

_DEPARTURES = """
UPDATE agent.departures AS d SET claim_time = $2
WHERE (d.tenant_id, d.agent_id) IN (
    SELECT tenant_id, agent_id FROM agent.departures
    WHERE due_time <= $1 AND claim_time <= $1
    ORDER BY due_time LIMIT $3 FOR UPDATE SKIP LOCKED)
RETURNING d.tenant_id, d.agent_id
"""

_UNSETTLED = """
UPDATE agent.requests AS r SET settle_time = $2
WHERE (r.tenant_id, r.conversation_id) IN (
    SELECT tenant_id, conversation_id FROM agent.requests
    WHERE settle_time <= $1 ORDER BY settle_time LIMIT $3 FOR UPDATE SKIP LOCKED)
RETURNING r.tenant_id, r.conversation_id
"""

_WAITING = """
SELECT tenant_id, pool_id, count(*) AS n FROM agent.requests
WHERE state = 'WAITING' GROUP BY tenant_id, pool_id ORDER BY random() LIMIT $1
"""

_NEXT = """
SELECT least((SELECT min(expire_time) FROM agent.offers WHERE state = 'OPEN' AND expire_time > $1),
             (SELECT min(due_time) FROM agent.departures WHERE due_time > $1))
"""

_WRONG_LOADS = """
SELECT DISTINCT tenant_id, agent_id
FROM (SELECT tenant_id, agent_id, channel, load FROM agent.capacities WHERE load > 0) AS c
FULL JOIN (
    SELECT tenant_id, agent_id, channel, count(*) AS n
    FROM (SELECT tenant_id, agent_id, channel FROM agent.offers WHERE state = 'OPEN'
          UNION ALL SELECT tenant_id, agent_id, channel FROM agent.assignments) AS carried
    GROUP BY tenant_id, agent_id, channel
) AS h USING (tenant_id, agent_id, channel)
WHERE c.load IS DISTINCT FROM h.n LIMIT $1
"""

_STUCK = """
SELECT tenant_id, conversation_id FROM agent.requests AS r
WHERE state = 'OFFERED' AND NOT EXISTS (
    SELECT FROM agent.offers AS o WHERE o.tenant_id = r.tenant_id
    AND o.conversation_id = r.conversation_id AND o.hand_off = r.hand_off AND o.state = 'OPEN')
LIMIT $1
"""

_PURGE_OFFERS = """
DELETE FROM agent.offers WHERE (tenant_id, offer_id) IN (
    SELECT tenant_id, offer_id FROM agent.offers
    WHERE state <> 'OPEN' AND close_time < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)
"""

_PURGE_REQUESTS = """
DELETE FROM agent.requests WHERE (tenant_id, conversation_id) IN (
    SELECT tenant_id, conversation_id FROM agent.requests
    WHERE state = 'CLOSED' AND settle_time IS NULL AND change_time < $1 LIMIT $2
    FOR UPDATE SKIP LOCKED)
"""


@dataclass(slots=True)
class Found:
    """What is due, by tenant."""

    offers: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """Agent and offer."""
    departures: dict[str, list[str]] = field(default_factory=dict)
    unsettled: dict[str, list[str]] = field(default_factory=dict)
    waiting: list[tuple[str, str]] = field(default_factory=list)
    """Tenants and pools where somebody waits."""
    waiting_count: int = 0
    next_due: datetime | None = None


class Due(Protocol):
    """Finds what is due; the port that tests fake."""

    async def claim(self, now: datetime) -> Found:
        """Return what is due and claim it."""
        ...

    async def wrong(self) -> tuple[Mapping[str, Sequence[str]], Mapping[str, Sequence[str]]]:
        """Return agents whose load is not what they have, and requests offered to nobody."""
        ...

    async def purge(self, now: datetime) -> int:
        """Delete some of what was closed long ago; return how many rows."""
        ...


class PostgresDue(Due):
    """What is due in Postgres, across tenants."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, now: datetime) -> Found:
        """Return what is due and claim it."""
        found, until = Found(), now + CLAIM
        async with self._database.pipeline() as connection:
            for row in await connection.fetch(_OFFERS, now, until, ROWS_MAX):
                pair = (row["agent_id"], str(row["offer_id"]))
                found.offers.setdefault(row["tenant_id"], []).append(pair)
            found.departures = await _by_tenant(connection, _DEPARTURES, now, until, ROWS_MAX)
            found.unsettled = await _by_tenant(connection, _UNSETTLED, now, until, ROWS_MAX)
            pools = await connection.fetch(_WAITING, POOLS_MAX)
            found.waiting = [(row["tenant_id"], row["pool_id"]) for row in pools]
            found.waiting_count = sum(row["n"] for row in pools)
            found.next_due = await connection.fetchval(_NEXT, now)
        return found

    async def wrong(self) -> tuple[Mapping[str, Sequence[str]], Mapping[str, Sequence[str]]]:
        """Return agents whose load is not what they have, and requests offered to nobody."""
        async with self._database.pipeline() as connection:
            loads = await _by_tenant(connection, _WRONG_LOADS, REPAIR_ROWS_MAX)
            return loads, await _by_tenant(connection, _STUCK, REPAIR_ROWS_MAX)

    async def purge(self, now: datetime) -> int:
        """Delete some of what was closed long ago; return how many rows."""
        count = 0
        async with self._database.pipeline() as connection:
            for query in (_PURGE_OFFERS, _PURGE_REQUESTS):
                status = await connection.execute(query, now - KEPT, PURGE_ROWS_MAX)
                count += int(status.rpartition(" ")[2])
        return count


async def _by_tenant(connection: Connection, query: str, *arguments: Any) -> dict[str, list[str]]:
    """Return the second column of a query's rows by the first, a tenant."""
    found: dict[str, list[str]] = {}
    for tenant_id, name in await connection.fetch(query, *arguments):
        found.setdefault(tenant_id, []).append(str(name))
    return found
