"""Moving marks: many readers of one tenant in one transaction."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from services.common.batcher import Batcher
from services.common.errors import InterchangeError, PermissionDenied
from services.common.events import EventColumns
from services.common.identity import Caller
from services.message import events, faults, responses
from services.message.domain import Conversation, Sender, participant
from services.message.marks import MarkKey, MarkRow, Move, key_of, moved
from services.message.ports import Ports
from services.message.reading import Read, Reader
from services.message.repository import Messages

Outcome: TypeAlias = MarkRow | InterchangeError
Marks: TypeAlias = Mapping[MarkKey, MarkRow]


class Marking:
    """Moves marks, of one caller or of many."""

    def __init__(self, ports: Ports, reader: Reader, batch_size_max: int) -> None:
        self._ports = ports
        self._reader = reader
        self._batcher: Batcher[Move, MarkRow] = Batcher(self._move, batch_size_max)

    async def one(self, caller: Caller, conversation_id: str, delivered: int, read: int) -> MarkRow:
        """Move the mark of a caller and return it.

        Raises PermissionDenied for one who only looks on: nobody waits for him to read.
        """
        reader = await self._reader.opened(caller, conversation_id, _participant(caller))
        if reader is None:
            raise PermissionDenied("NOT_A_PARTICIPANT", "who only looks on leaves no mark")
        move = Move(conversation_id, reader, delivered, read)
        return await self._batcher.submit(caller.tenant_id, move)

    async def many(self, tenant_id: str, moves: Sequence[Move]) -> int:
        """Move marks of many readers; return how many moved."""
        if not moves:
            return 0
        _, moved_count = await move_marks(tenant_id, moves, ports=self._ports)
        return moved_count

    async def _move(self, tenant_id: str, moves: Sequence[Move]) -> list[Outcome]:
        outcomes, _ = await move_marks(tenant_id, moves, ports=self._ports)
        return outcomes


def _participant(caller: Caller) -> Read[Sender | None]:
    async def read(reads: Messages, conversation: Conversation) -> Sender | None:
        return participant(caller, conversation)

    return read


async def move_marks(
    tenant_id: str, moves: Sequence[Move], *, ports: Ports
) -> tuple[list[Outcome], int]:
    """Move marks forward; return the outcome of each move, and how many marks moved.

    Moves of the same mark are one. Who does not take part has no mark.
    """
    names = sorted({move.conversation_id for move in moves})
    async with ports.uow.tenant(tenant_id, names) as work:
        conversations = await work.repository.conversations(tenant_id, names)
        keys = sorted({key_of(move) for move in moves})
        before = await work.repository.marks(tenant_id, keys)
        outcomes, changed = _decide(moves, before, conversations)
        if changed:
            touched = {key.conversation_id for key in changed}
            for key in changed:
                conversations[key.conversation_id].marks_version += 1
            read = [row for key, row in changed.items() if _read_on(row, before.get(key))]
            work.outbox.add(_events(tenant_id, read, conversations, ports))
            counters = [conversations[name] for name in touched]
            await work.repository.move_marks(tenant_id, counters, list(changed.values()))
    ports.push(responses.mark_pushes(tenant_id, changed.values()))
    return outcomes, len(changed)


def _decide(
    moves: Sequence[Move], before: Marks, conversations: Mapping[str, Conversation]
) -> tuple[list[Outcome], dict[MarkKey, MarkRow]]:
    """Return the outcome of each move, and where the marks are that moved."""
    outcomes: list[Outcome] = []
    changed: dict[MarkKey, MarkRow] = {}
    for move in moves:
        key, conversation = key_of(move), conversations.get(move.conversation_id)
        if conversation is None or not conversation.has(move.reader):
            outcomes.append(faults.not_found())
            continue
        mark = changed.get(key) or before.get(key)
        try:
            row = moved(mark, move, conversation)
        except InterchangeError as error:
            outcomes.append(error)
            continue
        outcomes.append(row)
        if row != mark and row.delivered_sequence:
            changed[key] = row
    return outcomes, changed


def _read_on(row: MarkRow, before: MarkRow | None) -> bool:
    return row.read_sequence > (before.read_sequence if before else 0)


def _events(
    tenant_id: str, read: Sequence[MarkRow], conversations: Mapping[str, Conversation], ports: Ports
) -> EventColumns:
    now_us = ports.clock.now_us()
    event_ids = ports.ids.batch(len(read), now_us)
    columns = EventColumns(tenant_id, events.TOPIC)
    columns.extend(
        events.MESSAGE_READ,
        1,
        event_ids,
        [row.conversation_id for row in read],
        [conversations[row.conversation_id].next_event() for row in read],
        [
            events.message_read(event_id, row, now_us)
            for event_id, row in zip(event_ids, read, strict=True)
        ],
    )
    return columns
