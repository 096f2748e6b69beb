"""What a conversation and a message are here: pure rules; time and ids come in as arguments."""

from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from interchange.message.v1.message_events_pb2 import (
    HANDLER_AGENT,
    HANDLER_QUEUE,
    HANDLER_UNSPECIFIED,
)
from interchange.message.v1.message_pb2 import SENDER_KIND_AGENT, SENDER_KIND_CUSTOMER

from services.common.identity import AGENT, CUSTOMER, Caller

YOUNG_US = 10_000_000
"""A conversation that isn't known here, and was made so recently, may be on its way."""


class Sender(NamedTuple):
    """Who sends or reads."""

    kind: int
    """SenderKind."""
    id: str


class Draft(NamedTuple):
    """A message that somebody wants to send; each field by itself is right."""

    conversation_id: str
    client_message_id: str
    sender: Sender
    body: str | None
    """The text; None for an attachment."""
    detail: str | None
    """The attachment as JSON; None for a text."""
    clear: bytes
    """MessageBody, to be sealed."""


class SentKey(NamedTuple):
    """What makes a retry the same message: the id that its sender gave it."""

    conversation_id: str
    client_message_id: str
    sender_id: str
    sender_kind: int


class MessageRow(NamedTuple):
    """A message as it is stored."""

    conversation_id: str
    sequence: int
    message_id: str
    client_message_id: str
    sender_kind: int
    sender_id: str
    body: str | None
    detail: str | None
    """JSON: an attachment, or what the platform says."""
    create_us: int

    @property
    def key(self) -> SentKey:
        """What makes a retry the same message."""
        return SentKey(
            self.conversation_id, self.client_message_id, self.sender_id, self.sender_kind
        )


class Tail(NamedTuple):
    """How far a conversation is, and who may see it: what is asked for every second."""

    conversation_id: str
    customer_id: str
    agent_id: str
    epoch: str
    last_sequence: int
    marks_version: int


@dataclass(slots=True)
class Conversation:
    """The local copy of a conversation, with the counters of what is numbered."""

    conversation_id: str
    customer_id: str
    channel: int
    handler: int
    """Handler: who is to answer."""
    bot_id: str
    agent_id: str
    """Who answers; once it ended, who answered last."""
    hand_off: int
    ended: bool
    epoch: str
    first_sequence: int
    last_sequence: int
    event_sequence: int
    marks_version: int

    @property
    def current_agent_id(self) -> str:
        """Agent who answers now; empty when none does."""
        return self.agent_id if self.handler == HANDLER_AGENT else ""

    @property
    def is_queued(self) -> bool:
        """True while it waits for an agent."""
        return self.handler == HANDLER_QUEUE and not self.ended

    def has(self, sender: Sender) -> bool:
        """Tell whether one takes part: the customer, and the agent who answers."""
        if sender.kind == SENDER_KIND_CUSTOMER:
            return sender.id == self.customer_id
        return sender.kind == SENDER_KIND_AGENT and sender.id != "" and sender.id == self.agent_id

    def continues(self, after: int, epoch: str) -> bool:
        """Tell whether what follows a number can be given to who saw it, without a hole.

        Not when it is a number of another copy of the history, one that was never
        given, or when what follows it is gone. Who has seen nothing needs no epoch.
        """
        if epoch != self.epoch and (after or epoch):
            return False
        return self.first_sequence - 1 <= after <= self.last_sequence

    def queue(self, hand_off: int) -> None:
        """Wait for an agent."""
        self.handler, self.agent_id, self.hand_off = HANDLER_QUEUE, "", hand_off

    def assign(self, agent_id: str, hand_off: int) -> None:
        """Let an agent answer from now on."""
        self.handler, self.agent_id, self.hand_off = HANDLER_AGENT, agent_id, hand_off

    def end(self) -> None:
        """End it; who answered last still sees it."""
        self.handler, self.ended = HANDLER_UNSPECIFIED, True

    def reopen(self, handler: int, hand_off: int) -> None:
        """Go on, with the bot or in the queue."""
        self.handler, self.agent_id, self.hand_off, self.ended = handler, "", hand_off, False

    def append(
        self,
        message_id: str,
        sender: Sender,
        create_us: int,
        *,
        body: str | None = None,
        detail: str | None = None,
        client_message_id: str = "",
    ) -> MessageRow:
        """Give a message the next number."""
        self.last_sequence += 1
        return MessageRow(
            self.conversation_id,
            self.last_sequence,
            message_id,
            client_message_id,
            sender.kind,
            sender.id,
            body,
            detail,
            create_us,
        )

    def next_event(self) -> int:
        """Return the number of the next event of the conversation."""
        self.event_sequence += 1
        return self.event_sequence


def participant(caller: Caller, conversation: Conversation) -> Sender | None:
    """Return as what a caller takes part in a conversation; None when he only looks on."""
    as_customer = Sender(SENDER_KIND_CUSTOMER, caller.subject)
    if CUSTOMER in caller.roles and conversation.has(as_customer):
        return as_customer
    as_agent = Sender(SENDER_KIND_AGENT, caller.subject)
    if caller.may("agent.work") and conversation.has(as_agent):
        return as_agent
    return None


def author(caller: Caller) -> Sender:
    """Return as what a caller sends: agents as agents, everybody else as customer."""
    kind = SENDER_KIND_AGENT if AGENT in caller.roles else SENDER_KIND_CUSTOMER
    return Sender(kind, caller.subject)


def is_young(conversation_id: str, now_us: int) -> bool:
    """Tell whether a UUIDv7 was made seconds ago, or seconds ahead by another clock."""
    made = UUID(conversation_id)
    return made.version == 7 and abs(now_us - (made.int >> 80) * 1000) < YOUNG_US
