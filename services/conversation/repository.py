"""All SQL of the conversation service."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.common.db import Connection
from services.common.requests import PostgresRequests, Requests
from services.conversation.domain import Conversation

_COLUMNS = """conversation_id, customer_id, customer_name, channel, status, bot_id, agent_id,
    hand_off_count, hand_off_reason, needs, start_needs, end_reason, start_us, hand_off_us, end_us,
    version"""

# In the order of the fields of Conversation.
_SELECT = """c.conversation_id::text, c.customer_id, c.customer_name, c.channel, c.status, c.bot_id,
    coalesce(c.agent_id, ''), c.hand_off_count, c.hand_off_reason, c.needs, c.start_needs,
    c.end_reason, c.start_us, c.hand_off_us, c.end_us, c.version"""

_INSERT = f"""
INSERT INTO conversation.conversations AS c (tenant_id, {_COLUMNS})
SELECT tenant_id, id, customer_id, customer_name, channel, status, bot_id, nullif(agent_id, ''),
    hand_off_count, hand_off_reason, needs, start_needs, end_reason, start_us, hand_off_us, end_us,
    version
FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::smallint[], $6::smallint[],
    $7::text[], $8::text[], $9::int[], $10::smallint[], $11::bytea[], $12::bytea[],
    $13::smallint[], $14::bigint[], $15::bigint[], $16::bigint[], $17::bigint[])
AS n(tenant_id, id, customer_id, customer_name, channel, status, bot_id, agent_id, hand_off_count,
    hand_off_reason, needs, start_needs, end_reason, start_us, hand_off_us, end_us, version)
"""

# By conflict and not by UPDATE … FROM: it finds each row by its key, whatever the planner
# believes, where a join may read the whole table.
_UPDATE = f"""{_INSERT}
ON CONFLICT (tenant_id, conversation_id) DO UPDATE
SET status = excluded.status, agent_id = excluded.agent_id,
    hand_off_count = excluded.hand_off_count, hand_off_reason = excluded.hand_off_reason,
    needs = excluded.needs, end_reason = excluded.end_reason, hand_off_us = excluded.hand_off_us,
    end_us = excluded.end_us, version = excluded.version
"""

# OFFSET 0 keeps the subquery as it is: each id is looked up in the one partition
# that may hold it, whatever the planner believes of the number of ids.
_LOAD = f"""
SELECT n.tenant_id, c.* FROM unnest($1::text[], $2::uuid[], $3::bigint[])
    AS n(tenant_id, conversation_id, version)
CROSS JOIN LATERAL (
    SELECT {_SELECT} FROM conversation.conversations AS c
    WHERE c.tenant_id = n.tenant_id AND c.conversation_id = n.conversation_id
      AND c.version > n.version OFFSET 0
) AS c
"""

ConversationId = tuple[str, str]
"""Tenant and conversation."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which conversations a list shows; empty and zero where it does not matter."""

    customer_id: str
    agent_id: str
    status: int
    channel: int
    own_customer_id: str = ""
    """A narrow caller sees those of this customer,"""
    own_agent_id: str = ""
    """and those that this agent answers."""


class Conversations(Protocol):
    """The conversations within a transaction; the port that tests fake."""

    @property
    def requests(self) -> Requests:
        """The request keys."""
        ...

    async def load(self, ids: Collection[ConversationId]) -> Mapping[ConversationId, Conversation]:
        """Return those that exist."""
        ...

    async def newer(self, tenant_id: str, versions: Mapping[str, int]) -> Sequence[Conversation]:
        """Return those whose version is greater than the one that is known."""
        ...

    async def page(
        self, tenant_id: str, wanted: Filter, before: str | None, limit: int
    ) -> Sequence[Conversation]:
        """Return conversations, newest first, older than `before`."""
        ...

    async def insert(self, tenant_id: str, conversations: Sequence[Conversation]) -> None:
        """Store new conversations."""
        ...

    async def update(self, conversations: Mapping[ConversationId, Conversation]) -> None:
        """Store conversations that changed; their locks are held."""
        ...


class PostgresConversations(Conversations):
    """The conversations in Postgres."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._requests = PostgresRequests("conversation", connection)

    @property
    def requests(self) -> Requests:
        """The request keys."""
        return self._requests

    async def load(self, ids: Collection[ConversationId]) -> Mapping[ConversationId, Conversation]:
        """Return those that exist."""
        if not ids:
            return {}
        columns = [list(column) for column in zip(*sorted(ids), strict=True)]
        rows = await self._connection.fetch(_LOAD, *columns, [0] * len(ids))
        return {(row[0], row[1]): Conversation(*row[1:]) for row in rows}

    async def newer(self, tenant_id: str, versions: Mapping[str, int]) -> Sequence[Conversation]:
        """Return those whose version is greater than the one that is known."""
        tenants = [tenant_id] * len(versions)
        columns = list(versions), list(versions.values())
        return [
            Conversation(*row[1:]) for row in await self._connection.fetch(_LOAD, tenants, *columns)
        ]

    async def page(
        self, tenant_id: str, wanted: Filter, before: str | None, limit: int
    ) -> Sequence[Conversation]:
        """Return conversations, newest first, older than `before`."""
        # Only what is asked for is part of the query, so that its index can be chosen.
        values: list[object] = [tenant_id, limit]

        def equals(column: str, value: object) -> str:
            values.append(value)
            return f"c.{column} = ${len(values)}"

        clauses = ["c.tenant_id = $1"]
        for column in ("customer_id", "agent_id", "status", "channel"):
            if value := getattr(wanted, column):
                clauses.append(equals(column, value))
        own = [("customer_id", wanted.own_customer_id), ("agent_id", wanted.own_agent_id)]
        if parts := [equals(column, value) for column, value in own if value]:
            clauses.append(f"({' OR '.join(parts)})")
        if before is not None:
            values.append(before)
            clauses.append(f"c.conversation_id < ${len(values)}::text::uuid")
        rows = await self._connection.fetch(
            f"SELECT {_SELECT} FROM conversation.conversations AS c WHERE {' AND '.join(clauses)} "
            "ORDER BY c.conversation_id DESC LIMIT $2",
            *values,
        )
        return [Conversation(*row) for row in rows]

    async def insert(self, tenant_id: str, conversations: Sequence[Conversation]) -> None:
        """Store new conversations."""
        await self._write(_INSERT, [((tenant_id, ""), one) for one in conversations])

    async def update(self, conversations: Mapping[ConversationId, Conversation]) -> None:
        """Store conversations that changed; their locks are held."""
        await self._write(_UPDATE, sorted(conversations.items(), key=lambda item: item[0]))

    async def _write(
        self, query: str, conversations: Sequence[tuple[ConversationId, Conversation]]
    ) -> None:
        if conversations:
            rows = [(tenant_id, *_row(one)) for (tenant_id, _), one in conversations]
            await self._connection.execute(query, *map(list, zip(*rows, strict=True)))


def _row(one: Conversation) -> tuple[object, ...]:
    return (
        one.conversation_id,
        one.customer_id,
        one.customer_name,
        one.channel,
        one.status,
        one.bot_id,
        one.agent_id,
        one.hand_off_count,
        one.hand_off_reason,
        one.needs,
        one.start_needs,
        one.end_reason,
        one.start_us,
        one.hand_off_us,
        one.end_us,
        one.version,
    )
