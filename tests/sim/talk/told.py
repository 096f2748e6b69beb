"""What callers were told of their conversations: the truth that all else must agree with."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

CUSTOMER, AGENT, BOT, SYSTEM = range(1, 5)
"""Kinds of senders, as in the contract."""


class Begun(NamedTuple):
    """A conversation that was started."""

    customer: str
    name: str
    text: str
    """First message; empty when there was none."""


class Wording(NamedTuple):
    """A message as its sender knows it before he is answered."""

    conversation: str
    kind: int
    sender: str
    client_id: str


class Answer(NamedTuple):
    """What a sender was told of his message."""

    sequence: int
    message_id: str


class Item(NamedTuple):
    """A message as a reader saw it."""

    sequence: int
    message_id: str
    text: str
    """What it says; of the platform the name of the note."""


@dataclass(slots=True)
class View:
    """A conversation as one reader saw it, over all his connections."""

    conversation: str
    kind: int
    reader: str
    items: list[Item] = field(default_factory=list)
    left: bool = False
    """True once he was told that it is not his any more, or went away himself."""


@dataclass(slots=True)
class Told:
    """Everything that the callers of one tenant know."""

    tenant: str
    conversations: dict[str, Begun] = field(default_factory=dict)
    tried: dict[Wording, str] = field(default_factory=dict)
    """What was sent, answered or not, and what it says."""
    answers: dict[Wording, Answer] = field(default_factory=dict)
    views: list[View] = field(default_factory=list)
    marks: dict[tuple[str, int, str], int] = field(default_factory=lambda: defaultdict(int))
    """Number up to which a reader was told that he has read."""
    accepted: set[tuple[str, str]] = field(default_factory=set)
    """Agents and offers that they were told are theirs."""
    declined: set[tuple[str, str]] = field(default_factory=set)
    """Agents and offers that they were told they are rid of."""
    problems: list[str] = field(default_factory=list)
    """Answers that contradict each other, or should never be given."""

    def began(self, conversation: str, begun: Begun) -> None:
        """Take the answer to a start; a repeated request must have the same."""
        known = self.conversations.setdefault(conversation, begun)
        if known != begun:
            self.problems.append(f"{conversation} was started with {known}, then with {begun}")

    def sent(self, wording: Wording, answer: Answer) -> None:
        """Take the answer to a message; a repeated one must have the same."""
        known = self.answers.setdefault(wording, answer)
        if known != answer:
            self.problems.append(f"{wording} was answered with {known}, then with {answer}")

    def read(self, conversation: str, kind: int, reader: str, sequence: int) -> None:
        """Take the answer to a mark."""
        key = conversation, kind, reader
        self.marks[key] = max(self.marks[key], sequence)
