"""The SQL of the consumer: copies of conversations, across tenants.

Its role is not bound by row-level security, so every statement names the tenant.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, TypeAlias

from interchange.bot.v1.bot_events_pb2 import BotReplied

from services.common.db import Connection
from services.message.domain import Conversation, MessageRow
from services.message.statements import COPIES, INSERT, PUT_COPIES, PUT_EARLY, TAKE_EARLY

CopyKey: TypeAlias = tuple[str, str]
"""Tenant and conversation."""
EarlyReply: TypeAlias = tuple[str, int, BotReplied]
"""Tenant, number of the event and the event."""


class Copies(Protocol):
    """The copies of all tenants within the transaction of a batch."""

    async def find(self, keys: Collection[CopyKey]) -> dict[CopyKey, Conversation]:
        """Return those of the conversations that are known here."""
        ...

    async def put(self, copies: Mapping[CopyKey, Conversation]) -> None:
        """Store new and changed conversations."""
        ...

    async def insert(self, tenant_ids: Sequence[str], rows: Sequence[MessageRow]) -> None:
        """Insert messages."""
        ...

    async def put_early(self, replies: Sequence[EarlyReply]) -> None:
        """Keep what a bot said in conversations that are not known yet."""
        ...

    async def take_early(self, keys: Collection[CopyKey]) -> list[EarlyReply]:
        """Return and forget what was kept for conversations, in its order."""
        ...


class PostgresCopies(Copies):
    """The copies in Postgres."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def find(self, keys: Collection[CopyKey]) -> dict[CopyKey, Conversation]:
        """Return those of the conversations that are known here."""
        rows = await self._connection.fetch(COPIES, *_columns(keys))
        return {(row[0], row[1]): Conversation(*row[1:]) for row in rows}

    async def put(self, copies: Mapping[CopyKey, Conversation]) -> None:
        """Store new and changed conversations."""
        rows = [
            (
                tenant_id,
                one.conversation_id,
                one.customer_id,
                one.channel,
                one.handler,
                one.bot_id,
                one.agent_id,
                one.hand_off,
                one.ended,
                one.epoch,
                one.first_sequence,
                one.last_sequence,
                one.event_sequence,
                one.marks_version,
            )
            for (tenant_id, _), one in copies.items()
        ]
        if rows:
            await self._connection.execute(PUT_COPIES, *map(list, zip(*rows, strict=True)))

    async def insert(self, tenant_ids: Sequence[str], rows: Sequence[MessageRow]) -> None:
        """Insert messages."""
        if rows:
            columns = map(list, zip(*rows, strict=True))
            await self._connection.execute(INSERT, list(tenant_ids), *columns)

    async def put_early(self, replies: Sequence[EarlyReply]) -> None:
        """Keep what a bot said in conversations that are not known yet."""
        if replies:
            await self._connection.execute(
                PUT_EARLY,
                [tenant_id for tenant_id, _, _ in replies],
                [reply.conversation_id for _, _, reply in replies],
                [sequence for _, sequence, _ in replies],
                [reply.SerializeToString() for _, _, reply in replies],
            )

    async def take_early(self, keys: Collection[CopyKey]) -> list[EarlyReply]:
        """Return and forget what was kept for conversations, in its order."""
        if not keys:
            return []
        rows = await self._connection.fetch(TAKE_EARLY, *_columns(keys))
        found = [(row[0], row[1], BotReplied.FromString(row[2])) for row in rows]
        return sorted(found, key=lambda early: early[:2])


def _columns(keys: Collection[CopyKey]) -> tuple[list[str], list[str]]:
    return [tenant_id for tenant_id, _ in keys], [name for _, name in keys]
