"""SQL of agents and their desks."""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from services.agent import rows, saving
from services.agent.desk import Desk
from services.agent.domain import Agent, Assignment, Offer, Profile, Request, Status
from services.agent.queue import PostgresQueue, Queue
from services.common.db import Connection
from services.common.requests import PostgresRequests, Requests

_INSERT_AGENTS = """
INSERT INTO agent.agents (tenant_id, agent_id, display_name, pool_id, skills, status,
                          average_response_ms, idle_since, version, last_sequence, create_time)
SELECT $1, a.agent_id, a.display_name, a.pool_id, a.skills::jsonb, a.status, 0, a.create_time, 1,
       1, a.create_time
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[])
     AS a(agent_id, display_name, pool_id, skills, status, create_time)
"""

_UPDATE_PROFILES = """
UPDATE agent.agents AS a
SET display_name = n.display_name, pool_id = n.pool_id, skills = n.skills::jsonb
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[])
     AS n(agent_id, display_name, pool_id, skills)
WHERE a.tenant_id = $1 AND a.agent_id = n.agent_id
"""

_NO_SLOTS = """
UPDATE agent.capacities SET slots = 0 WHERE tenant_id = $1 AND agent_id = ANY ($2::text[])
"""

_SET_SLOTS = """
INSERT INTO agent.capacities (tenant_id, agent_id, channel, slots, load)
SELECT $1, n.agent_id, n.channel, n.slots, 0
FROM unnest($2::text[], $3::smallint[], $4::smallint[]) AS n(agent_id, channel, slots)
ON CONFLICT (tenant_id, agent_id, channel) DO UPDATE SET slots = excluded.slots
"""

# Both in one round trip; the oldest first.
_CARRIED = f"""
SELECT {rows.OFFER}, NULL::timestamptz AS accept_time FROM agent.offers
WHERE tenant_id = $1 AND agent_id = ANY ($2::text[]) AND state = 'OPEN'
UNION ALL
SELECT NULL, agent_id, conversation_id, hand_off, NULL, channel, NULL, NULL, NULL, NULL, NULL,
       accept_time
FROM agent.assignments WHERE tenant_id = $1 AND agent_id = ANY ($2::text[])
ORDER BY accept_time, offer_id
"""


class Agents(Protocol):
    """The agents of a tenant within a transaction; the port that tests fake."""

    @property
    def keys(self) -> Requests:
        """The request keys."""
        ...

    @property
    def queue(self) -> Queue:
        """The conversations that wait."""
        ...

    async def find(self, tenant_id: str, agent_ids: Collection[str]) -> dict[str, Agent]:
        """Return the agents that exist."""
        ...

    async def desks(self, tenant_id: str, agent_ids: Collection[str]) -> dict[str, Desk]:
        """Return the desks of the agents that exist."""
        ...

    async def newer_desks(self, tenant_id: str, known: Mapping[str, int]) -> list[Desk]:
        """Return the desks of which a lower version is known."""
        ...

    async def offers(self, tenant_id: str, offer_ids: Collection[str]) -> dict[str, Offer]:
        """Return offers, open or not."""
        ...

    async def list_page(
        self, tenant_id: str, pool_id: str, status: Status | None, after: str, limit: int
    ) -> list[Agent]:
        """Return agents by id, those after `after`; of all pools when none is given."""
        ...

    async def pool(self, tenant_id: str, pool_id: str) -> list[Agent]:
        """Return all agents of a pool, by id."""
        ...

    async def pool_versions(self, tenant_id: str, pool_id: str) -> dict[str, int]:
        """Return the version of each agent of a pool."""
        ...

    async def insert(self, tenant_id: str, agents: Sequence[Agent]) -> None:
        """Store new agents."""
        ...

    async def save(
        self,
        tenant_id: str,
        desks: Collection[Desk],
        requests: Collection[Request],
        now: datetime,
    ) -> None:
        """Store changed desks and locked requests.

        Raises Stale when a desk isn't as it was read.
        """
        ...


class PostgresAgents(Agents):
    """The agents in Postgres."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._keys = PostgresRequests("agent", connection)
        self._queue = PostgresQueue(connection)

    @property
    def connection(self) -> Connection:
        """The connection of the transaction."""
        return self._connection

    @property
    def keys(self) -> Requests:
        """The request keys."""
        return self._keys

    @property
    def queue(self) -> Queue:
        """The conversations that wait."""
        return self._queue

    async def find(self, tenant_id: str, agent_ids: Collection[str]) -> dict[str, Agent]:
        """Return the agents that exist."""
        found = await self._connection.fetch(
            f"SELECT {rows.AGENT} FROM agent.agents AS a {rows.CAPACITIES} "
            "WHERE a.tenant_id = $1 AND a.agent_id = ANY ($2::text[])",
            tenant_id,
            list(agent_ids),
        )
        return {row["agent_id"]: rows.agent(row) for row in found}

    async def desks(self, tenant_id: str, agent_ids: Collection[str]) -> dict[str, Desk]:
        """Return the desks of the agents that exist."""
        return await self._desks(tenant_id, await self.find(tenant_id, agent_ids))

    async def newer_desks(self, tenant_id: str, known: Mapping[str, int]) -> list[Desk]:
        """Return the desks of which a lower version is known."""
        found = await self._connection.fetch(
            f"SELECT {rows.AGENT} FROM unnest($2::text[], $3::bigint[]) AS k(agent_id, version) "
            "JOIN agent.agents AS a ON a.tenant_id = $1 AND a.agent_id = k.agent_id "
            f"AND a.version > k.version {rows.CAPACITIES}",
            tenant_id,
            list(known),
            list(known.values()),
        )
        agents = {row["agent_id"]: rows.agent(row) for row in found}
        return list((await self._desks(tenant_id, agents)).values())

    async def _desks(self, tenant_id: str, agents: Mapping[str, Agent]) -> dict[str, Desk]:
        if not agents:
            return {}
        carried = await self._connection.fetch(_CARRIED, tenant_id, list(agents))
        offers: dict[str, list[Offer]] = {name: [] for name in agents}
        assignments: dict[str, list[Assignment]] = {name: [] for name in agents}
        for row in carried:
            if row["offer_id"] is None:
                assignments[row["agent_id"]].append(rows.assignment(row))
            else:
                offers[row["agent_id"]].append(rows.offer(row))
        return {
            name: Desk(agents[name], offers[name], assignments[name]) for name in sorted(agents)
        }

    async def offers(self, tenant_id: str, offer_ids: Collection[str]) -> dict[str, Offer]:
        """Return offers, open or not."""
        if not offer_ids:
            return {}
        found = await self._connection.fetch(
            f"SELECT {rows.OFFER} FROM agent.offers "
            "WHERE tenant_id = $1 AND offer_id = ANY ($2::text[]::uuid[])",
            tenant_id,
            list(offer_ids),
        )
        return {str(row["offer_id"]): rows.offer(row) for row in found}

    async def list_page(
        self, tenant_id: str, pool_id: str, status: Status | None, after: str, limit: int
    ) -> list[Agent]:
        """Return agents by id, those after `after`; of all pools when none is given."""
        found = await self._connection.fetch(
            f"SELECT {rows.AGENT} FROM agent.agents AS a {rows.CAPACITIES} "
            "WHERE a.tenant_id = $1 AND a.agent_id > $2 AND ($3 = '' OR a.pool_id = $3) "
            "AND ($4 = '' OR a.status = $4) ORDER BY a.agent_id LIMIT $5",
            tenant_id,
            after,
            pool_id,
            "" if status is None else status.value,
            limit,
        )
        return [rows.agent(row) for row in found]

    async def pool(self, tenant_id: str, pool_id: str) -> list[Agent]:
        """Return all agents of a pool, by id."""
        found = await self._connection.fetch(
            f"SELECT {rows.AGENT} FROM agent.agents AS a {rows.CAPACITIES} "
            "WHERE a.tenant_id = $1 AND a.pool_id = $2 ORDER BY a.agent_id",
            tenant_id,
            pool_id,
        )
        return [rows.agent(row) for row in found]

    async def pool_versions(self, tenant_id: str, pool_id: str) -> dict[str, int]:
        """Return the version of each agent of a pool."""
        found = await self._connection.fetch(
            "SELECT agent_id, version FROM agent.agents WHERE tenant_id = $1 AND pool_id = $2",
            tenant_id,
            pool_id,
        )
        return {row["agent_id"]: row["version"] for row in found}

    async def insert(self, tenant_id: str, agents: Sequence[Agent]) -> None:
        """Store new agents."""
        if not agents:
            return
        await self._connection.execute(
            _INSERT_AGENTS,
            tenant_id,
            [one.agent_id for one in agents],
            [one.profile.display_name for one in agents],
            [one.pool_id for one in agents],
            [json.dumps(one.profile.skills) for one in agents],
            [one.status.value for one in agents],
            [one.create_time for one in agents],
        )
        await self._set_slots(tenant_id, [one.profile for one in agents])

    async def save(
        self,
        tenant_id: str,
        desks: Collection[Desk],
        requests: Collection[Request],
        now: datetime,
    ) -> None:
        """Store changed desks and locked requests."""
        await saving.save(self._connection, tenant_id, desks, requests, now)
        profiles = [
            desk.agent.profile for desk in desks if desk.agent.profile is not desk.stored.profile
        ]
        if profiles:
            await self._connection.execute(
                _UPDATE_PROFILES,
                tenant_id,
                [one.agent_id for one in profiles],
                [one.display_name for one in profiles],
                [one.pool_id for one in profiles],
                [json.dumps(one.skills) for one in profiles],
            )
            await self._connection.execute(_NO_SLOTS, tenant_id, [one.agent_id for one in profiles])
            await self._set_slots(tenant_id, profiles)

    async def _set_slots(self, tenant_id: str, profiles: Sequence[Profile]) -> None:
        slots = [
            (one.agent_id, channel, count)
            for one in profiles
            for channel, count in one.slots.items()
        ]
        if slots:
            columns = map(list, zip(*slots, strict=True))
            await self._connection.execute(_SET_SLOTS, tenant_id, *columns)
