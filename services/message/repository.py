"""The SQL of requests: sending, marking and reading, within one tenant."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import asyncpg

from services.common.db import Connection
from services.message.copies import Copies, PostgresCopies
from services.message.domain import Conversation, MessageRow, SentKey, Tail
from services.message.marks import MarkKey, MarkRow
from services.message.statements import (
    APPEND,
    CONVERSATIONS,
    MARKS,
    MARKS_OF,
    MARKS_OF_MANY,
    MOVE_MARKS,
    PAGE_DOWN,
    PAGE_UP,
    PAGES_UP,
    SENT,
    TAILS,
)

PAGE_BYTES_MAX = 2 * 1024 * 1024
"""A page ends before it holds more text: it must fit into one gRPC message."""
MARKS_MAX = 200
"""Marks of one conversation that are shown, the furthest first."""


class Messages(Protocol):
    """The messages of a tenant within a transaction; the port that tests fake."""

    @property
    def copies(self) -> Copies:
        """What the consumer writes."""
        ...

    async def conversations(
        self, tenant_id: str, conversation_ids: Collection[str]
    ) -> dict[str, Conversation]:
        """Return those of the conversations that are known here."""
        ...

    async def tails(self, tenant_id: str, conversation_ids: Collection[str]) -> list[Tail]:
        """Return how far those of the conversations are that are known here."""
        ...

    async def sent(self, tenant_id: str, keys: Sequence[SentKey]) -> Mapping[SentKey, MessageRow]:
        """Return the messages that were sent with those of the keys that are taken."""
        ...

    async def append(
        self, tenant_id: str, conversations: Sequence[Conversation], rows: Sequence[MessageRow]
    ) -> None:
        """Insert messages of one moment and move the counters of their conversations."""
        ...

    async def page_up(
        self, tenant_id: str, conversation_id: str, after: int, last: int, limit: int
    ) -> list[MessageRow]:
        """Return messages after `after` and up to `last`, the first ones."""
        ...

    async def pages_up(
        self, tenant_id: str, after: Mapping[str, int], limit: int, bytes_max: int
    ) -> list[MessageRow]:
        """Return the first messages after a number of each conversation, together."""
        ...

    async def page_down(
        self, tenant_id: str, conversation_id: str, before: int, limit: int
    ) -> list[MessageRow]:
        """Return messages before `before`, the last ones, in the order of their numbers."""
        ...

    async def marks(self, tenant_id: str, keys: Sequence[MarkKey]) -> dict[MarkKey, MarkRow]:
        """Return those of the marks that exist."""
        ...

    async def marks_of(self, tenant_id: str, conversation_id: str) -> list[MarkRow]:
        """Return the marks of a conversation."""
        ...

    async def marks_of_many(
        self, tenant_id: str, conversation_ids: Collection[str]
    ) -> list[MarkRow]:
        """Return the marks of conversations, together."""
        ...

    async def move_marks(
        self, tenant_id: str, conversations: Sequence[Conversation], rows: Sequence[MarkRow]
    ) -> None:
        """Store marks and the counters of their conversations."""
        ...


class PostgresMessages(Messages):
    """The messages in Postgres."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def copies(self) -> PostgresCopies:
        """What the consumer writes."""
        return PostgresCopies(self._connection)

    async def conversations(
        self, tenant_id: str, conversation_ids: Collection[str]
    ) -> dict[str, Conversation]:
        """Return those of the conversations that are known here."""
        rows = await self._connection.fetch(CONVERSATIONS, tenant_id, list(conversation_ids))
        return {row[0]: Conversation(*row) for row in rows}

    async def tails(self, tenant_id: str, conversation_ids: Collection[str]) -> list[Tail]:
        """Return how far those of the conversations are that are known here."""
        rows = await self._connection.fetch(TAILS, tenant_id, list(conversation_ids))
        return [Tail(*row) for row in rows]

    async def sent(self, tenant_id: str, keys: Sequence[SentKey]) -> Mapping[SentKey, MessageRow]:
        """Return the messages that were sent with those of the keys that are taken."""
        names, client_ids, *_ = map(list, zip(*keys, strict=True))
        rows = await self._connection.fetch(SENT, tenant_id, names, client_ids)
        return {row.key: row for row in (MessageRow(*row) for row in rows)}

    async def append(
        self, tenant_id: str, conversations: Sequence[Conversation], rows: Sequence[MessageRow]
    ) -> None:
        """Insert messages of one moment and move the counters of their conversations."""
        *columns, times = map(list, zip(*rows, strict=True))
        status = await self._connection.execute(
            APPEND,
            tenant_id,
            *columns,
            times[0],
            [one.conversation_id for one in conversations],
            [one.last_sequence for one in conversations],
            [one.event_sequence for one in conversations],
        )
        if status != f"INSERT 0 {len(rows)}":
            raise asyncpg.DataError(f"{status} of {len(rows)} messages")

    async def page_up(
        self, tenant_id: str, conversation_id: str, after: int, last: int, limit: int
    ) -> list[MessageRow]:
        """Return messages after `after` and up to `last`, the first ones."""
        bounds = (after, last, limit, PAGE_BYTES_MAX)
        rows = await self._connection.fetch(PAGE_UP, tenant_id, conversation_id, *bounds)
        return [MessageRow(*row) for row in rows]

    async def pages_up(
        self, tenant_id: str, after: Mapping[str, int], limit: int, bytes_max: int
    ) -> list[MessageRow]:
        """Return the first messages after a number of each conversation, together."""
        names, numbers = list(after), list(after.values())
        rows = await self._connection.fetch(PAGES_UP, tenant_id, names, numbers, limit, bytes_max)
        return [MessageRow(*row) for row in rows]

    async def page_down(
        self, tenant_id: str, conversation_id: str, before: int, limit: int
    ) -> list[MessageRow]:
        """Return messages before `before`, the last ones, in the order of their numbers."""
        bounds = (before, limit, PAGE_BYTES_MAX)
        rows = await self._connection.fetch(PAGE_DOWN, tenant_id, conversation_id, *bounds)
        return [MessageRow(*row) for row in rows]

    async def marks(self, tenant_id: str, keys: Sequence[MarkKey]) -> dict[MarkKey, MarkRow]:
        """Return those of the marks that exist."""
        columns = map(list, zip(*keys, strict=True))
        found = (MarkRow(*row) for row in await self._connection.fetch(MARKS, tenant_id, *columns))
        return {row.key: row for row in found}

    async def marks_of(self, tenant_id: str, conversation_id: str) -> list[MarkRow]:
        """Return the marks of a conversation."""
        rows = await self._connection.fetch(MARKS_OF, tenant_id, conversation_id, MARKS_MAX)
        return [MarkRow(*row) for row in rows]

    async def marks_of_many(
        self, tenant_id: str, conversation_ids: Collection[str]
    ) -> list[MarkRow]:
        """Return the marks of conversations, together."""
        names = list(conversation_ids)
        rows = await self._connection.fetch(MARKS_OF_MANY, tenant_id, names, MARKS_MAX)
        return [MarkRow(*row) for row in rows]

    async def move_marks(
        self, tenant_id: str, conversations: Sequence[Conversation], rows: Sequence[MarkRow]
    ) -> None:
        """Store marks and the counters of their conversations."""
        await self._connection.execute(
            MOVE_MARKS,
            tenant_id,
            *map(list, zip(*rows, strict=True)),
            [one.conversation_id for one in conversations],
            [one.marks_version for one in conversations],
            [one.event_sequence for one in conversations],
        )
