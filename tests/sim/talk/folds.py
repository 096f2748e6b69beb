"""What follows from what was announced, by plain folds: states, stays, who may read."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from google.protobuf.message import Message
from interchange.conversation.v1.conversation_events_pb2 import (
    ConversationAssigned,
    ConversationEnded,
    ConversationHandedOff,
    ConversationReopened,
    ConversationStarted,
)
from interchange.message.v1.message_events_pb2 import MessageSent

from tests.sim.talk.seen import Seen, Stored
from tests.sim.talk.told import CUSTOMER, SYSTEM

M = TypeVar("M", bound=Message)

WITH_BOT, QUEUED, WITH_AGENT, ENDED = range(1, 5)
"""Statuses of a conversation."""
BY_NOBODY, BY_BOT, BY_QUEUE, BY_AGENT = range(4)
"""Who is to answer a message."""
NOTE_QUEUED, NOTE_JOINED, NOTE_ENDED, NOTE_REOPENED = range(1, 5)
"""Messages of the platform."""


@dataclass(slots=True)
class State:
    """A conversation as its events tell it."""

    status: int = 0
    agent: str = ""
    hand_off: int = 0
    version: int = 0
    problems: list[str] = field(default_factory=list)

    def take(self, event: Message) -> None:
        """Take the next event."""
        self.version += 1
        match event:
            case ConversationStarted():
                self._expect(event, 0)
                self.status = event.status
            case ConversationHandedOff():
                # A start or a reopening that goes to the queue is followed by this.
                self._expect(event, WITH_BOT, QUEUED, WITH_AGENT)
                self.status, self.agent, self.hand_off = QUEUED, "", self.hand_off + 1
            case ConversationAssigned():
                self._expect(event, QUEUED)
                self.status, self.agent = WITH_AGENT, event.agent_id
            case ConversationEnded():
                self._expect(event, WITH_BOT, QUEUED, WITH_AGENT)
                self.status = ENDED
            case ConversationReopened():
                self._expect(event, ENDED)
                self.status, self.agent = event.status, ""
        said = getattr(event, "hand_off", 0)
        if said != self.hand_off:
            self.problems.append(f"hand-over {self.hand_off} is called {said}")

    def _expect(self, event: Message, *statuses: int) -> None:
        if self.status not in statuses:
            self.problems.append(f"{type(event).__name__} came in status {self.status}")


class Stay(NamedTuple):
    """A time that a conversation spent with the bot."""

    conversation: str
    asked: list[int]
    """Numbers of what the customer said meanwhile."""
    over: bool


def events(seen: Seen, kind: type[M]) -> Iterator[M]:
    """Yield the events of one type."""
    for _, event in seen.events:
        if isinstance(event, kind):
            yield event


def states(seen: Seen) -> dict[str, State]:
    """Return each conversation as its events tell it."""
    found: dict[str, State] = defaultdict(State)
    for topic, event in seen.events:
        if topic == "conversation-events":
            found[event.conversation_id].take(event)  # type: ignore[attr-defined]
    return found


def stays(seen: Seen) -> Iterator[Stay]:
    """Yield the times that conversations spent with the bot, as the message service saw it."""
    sent: dict[str, list[MessageSent]] = defaultdict(list)
    for event in events(seen, MessageSent):
        sent[event.conversation_id].append(event)
    for name, said in sent.items():
        asked: list[int] = []
        with_bot = True
        for event in sorted(said, key=lambda one: one.sequence):
            if event.sender.kind == SYSTEM and with_bot != (event.handler == BY_BOT):
                if with_bot:
                    yield Stay(name, asked, over=True)
                asked, with_bot = [], event.handler == BY_BOT
            if event.sender.kind == CUSTOMER and event.handler == BY_BOT:
                asked.append(event.sequence)
        if with_bot:
            yield Stay(name, asked, over=False)


def by_conversation(seen: Seen) -> dict[str, list[Stored]]:
    """Return the messages of each conversation, in their order."""
    found: dict[str, list[Stored]] = defaultdict(list)
    for one in seen.messages:
        found[one.conversation].append(one)
    return found


def readable(agent: str, messages: Sequence[Stored]) -> int:
    """Return the last number that an agent was ever to see.

    From his joining on he sees all, what went before included, until the note that the
    conversation goes on without him; that note is his last.
    """
    his, last = False, 0
    for one in messages:
        if one.note == NOTE_JOINED:
            his, was = one.about == agent, his
        elif one.note in (NOTE_QUEUED, NOTE_REOPENED):
            his, was = False, his
        else:
            was = his
        if his or was:
            last = one.sequence
    return last
