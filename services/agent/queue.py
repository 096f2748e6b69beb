"""SQL of the conversations that wait for an agent."""

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import NamedTuple, Protocol

from services.agent import rows
from services.agent.domain import Request
from services.common.db import Connection

_HELD = """
SELECT conversation_id, agent_id FROM agent.offers
WHERE tenant_id = $1 AND conversation_id = ANY ($2::text[]::uuid[]) AND state = 'OPEN'
UNION SELECT conversation_id, agent_id FROM agent.assignments
WHERE tenant_id = $1 AND conversation_id = ANY ($2::text[]::uuid[])
"""


class Place(NamedTuple):
    """A place in the queue of a pool."""

    rank: int
    hand_off_time: datetime
    conversation_id: str


class Queue(Protocol):
    """The requests of a tenant within a transaction."""

    async def waiting(
        self, tenant_id: str, pool_id: str, after: Place | None, limit: int
    ) -> list[Request]:
        """Return those of a pool that wait, in the order in which they are served."""
        ...

    async def lock(
        self, tenant_id: str, conversation_ids: Collection[str], *, skip: bool = False
    ) -> dict[str, Request]:
        """Lock and return requests; with `skip` those that nobody else has locked."""
        ...

    async def listed(self, tenant_id: str, pool_id: str, limit: int) -> list[Request]:
        """Return those of a pool that wait or are offered, in their order."""
        ...

    async def count(self, tenant_id: str, pool_id: str) -> int:
        """Return how many of a pool wait or are offered."""
        ...

    async def holders(
        self, tenant_id: str, conversation_ids: Collection[str]
    ) -> dict[str, set[str]]:
        """Return the agents who are offered, or answer, each of some conversations."""
        ...

    async def offered(
        self, tenant_id: str, conversation_ids: Collection[str]
    ) -> set[tuple[str, int]]:
        """Return the hand-overs of some conversations that have an open offer."""
        ...

    async def settled(self, tenant_id: str, conversation_ids: Collection[str]) -> None:
        """Note that nothing of earlier hand-overs is left."""
        ...

    async def departed(self, tenant_id: str, agent_ids: Collection[str], now: datetime) -> set[str]:
        """Take out and return the agents whose departure is due."""
        ...


class PostgresQueue(Queue):
    """The requests in Postgres."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def waiting(
        self, tenant_id: str, pool_id: str, after: Place | None, limit: int
    ) -> list[Request]:
        """Return those of a pool that wait, in the order in which they are served."""
        query = (
            f"SELECT {rows.REQUEST} FROM agent.requests "
            "WHERE tenant_id = $1 AND pool_id = $2 AND state = 'WAITING' {} "
            "ORDER BY rank, hand_off_time, conversation_id LIMIT $3"
        )
        if after is None:
            found = await self._connection.fetch(query.format(""), tenant_id, pool_id, limit)
        else:
            keyset = "AND (rank, hand_off_time, conversation_id) > ($4, $5, $6::text::uuid)"
            found = await self._connection.fetch(
                query.format(keyset), tenant_id, pool_id, limit, *after
            )
        return [rows.request(row) for row in found]

    async def lock(
        self, tenant_id: str, conversation_ids: Collection[str], *, skip: bool = False
    ) -> dict[str, Request]:
        """Lock and return requests; with `skip` those that nobody else has locked."""
        if not conversation_ids:
            return {}
        # Sorted, so that two transactions can't wait for each other.
        found = await self._connection.fetch(
            f"SELECT {rows.REQUEST} FROM agent.requests "
            "WHERE tenant_id = $1 AND conversation_id = ANY ($2::text[]::uuid[]) "
            f"ORDER BY conversation_id FOR UPDATE{' SKIP LOCKED' if skip else ''}",
            tenant_id,
            list(conversation_ids),
        )
        return {str(row["conversation_id"]): rows.request(row) for row in found}

    async def listed(self, tenant_id: str, pool_id: str, limit: int) -> list[Request]:
        """Return those of a pool that wait or are offered, in their order."""
        found = await self._connection.fetch(
            f"SELECT {rows.REQUEST} FROM agent.requests "
            "WHERE tenant_id = $1 AND pool_id = $2 AND state IN ('WAITING', 'OFFERED') "
            "ORDER BY rank, hand_off_time, conversation_id LIMIT $3",
            tenant_id,
            pool_id,
            limit,
        )
        return [rows.request(row) for row in found]

    async def count(self, tenant_id: str, pool_id: str) -> int:
        """Return how many of a pool wait or are offered."""
        return int(
            await self._connection.fetchval(
                "SELECT count(*) FROM agent.requests WHERE tenant_id = $1 AND pool_id = $2 "
                "AND state IN ('WAITING', 'OFFERED')",
                tenant_id,
                pool_id,
            )
        )

    async def holders(
        self, tenant_id: str, conversation_ids: Collection[str]
    ) -> dict[str, set[str]]:
        """Return the agents who are offered, or answer, each of some conversations."""
        found = await self._connection.fetch(_HELD, tenant_id, list(conversation_ids))
        holders: dict[str, set[str]] = {}
        for row in found:
            holders.setdefault(str(row["conversation_id"]), set()).add(row["agent_id"])
        return holders

    async def offered(
        self, tenant_id: str, conversation_ids: Collection[str]
    ) -> set[tuple[str, int]]:
        """Return the hand-overs of some conversations that have an open offer."""
        found = await self._connection.fetch(
            "SELECT conversation_id, hand_off FROM agent.offers WHERE tenant_id = $1 "
            "AND conversation_id = ANY ($2::text[]::uuid[]) AND state = 'OPEN'",
            tenant_id,
            list(conversation_ids),
        )
        return {(str(row["conversation_id"]), row["hand_off"]) for row in found}

    async def settled(self, tenant_id: str, conversation_ids: Collection[str]) -> None:
        """Note that nothing of earlier hand-overs is left."""
        await self._connection.execute(
            "UPDATE agent.requests SET settle_time = NULL "
            "WHERE tenant_id = $1 AND conversation_id = ANY ($2::text[]::uuid[])",
            tenant_id,
            list(conversation_ids),
        )

    async def departed(self, tenant_id: str, agent_ids: Collection[str], now: datetime) -> set[str]:
        """Take out and return the agents whose departure is due."""
        found = await self._connection.fetch(
            "DELETE FROM agent.departures WHERE tenant_id = $1 "
            "AND agent_id = ANY ($2::text[]) AND due_time <= $3 RETURNING agent_id",
            tenant_id,
            list(agent_ids),
            now,
        )
        return {row["agent_id"] for row in found}


def place(request: Request) -> Place:
    """Return the place of a request in its queue."""
    return Place(request.needs.rank, request.hand_off_time, request.conversation_id)


def in_order(requests: Iterable[Request]) -> list[Request]:
    """Return requests in the order in which they are served."""
    return sorted(requests, key=place)
