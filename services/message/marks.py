"""How far somebody has a conversation: the rules of marks."""

from typing import NamedTuple

from services.common.errors import InvalidArgument, Violation
from services.message.domain import Conversation, Sender


class Move(NamedTuple):
    """A reader says how far he is."""

    conversation_id: str
    reader: Sender
    delivered_sequence: int
    read_sequence: int


class MarkKey(NamedTuple):
    """Whose mark it is, and where."""

    conversation_id: str
    reader_kind: int
    reader_id: str


class MarkRow(NamedTuple):
    """A mark as it is stored."""

    conversation_id: str
    reader_kind: int
    reader_id: str
    delivered_sequence: int
    read_sequence: int

    @property
    def key(self) -> MarkKey:
        """Whose mark it is, and where."""
        return MarkKey(self.conversation_id, self.reader_kind, self.reader_id)


def key_of(move: Move) -> MarkKey:
    """Return the mark that is to be moved."""
    return MarkKey(move.conversation_id, move.reader.kind, move.reader.id)


def moved(mark: MarkRow | None, move: Move, conversation: Conversation) -> MarkRow:
    """Return where a mark is after a move: never behind where it was.

    What was read was delivered, too. Raises InvalidArgument for a number that was
    never given.
    """
    for field in ("delivered_sequence", "read_sequence"):
        if getattr(move, field) > conversation.last_sequence:
            text = f"the last message is {conversation.last_sequence}"
            raise InvalidArgument(
                "SEQUENCE_UNKNOWN",
                f"{field}: {text}",
                violations=[Violation(field, text, "SEQUENCE_UNKNOWN")],
            )
    read = max(move.read_sequence, mark.read_sequence if mark else 0)
    delivered = max(move.delivered_sequence, read, mark.delivered_sequence if mark else 0)
    return MarkRow(*key_of(move), delivered, read)
