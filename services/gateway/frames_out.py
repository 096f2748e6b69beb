"""Frames to clients: answers, and news."""

from datetime import datetime
from typing import Literal, TypeAlias

import msgspec

from services.gateway.fields import Attachment

SenderKindName: TypeAlias = Literal["customer", "agent", "bot", "system"]
SystemKindName: TypeAlias = Literal["queued", "agent_joined", "ended", "reopened"]
AgentStatusName: TypeAlias = Literal["offline", "online", "away", "not_responding"]


class ServerFrame(msgspec.Struct, tag_field="type", omit_defaults=True, gc=False):
    """A frame to a client; `type` says which. Clients ignore fields and types they don't know."""


class Answer(ServerFrame, kw_only=True):
    """A frame that may answer one of the client's, whose `ref` it then repeats."""

    ref: str = ""


class Sender(msgspec.Struct, omit_defaults=True, gc=False):
    """Who sent, types or reads."""

    kind: SenderKindName
    id: str = ""
    """Customer, agent or bot; empty for the platform."""


class SystemNote(msgspec.Struct, omit_defaults=True, gc=False):
    """What happened to a conversation, as a message of the platform."""

    kind: SystemKindName
    agent_id: str = ""
    agent_name: str = ""
    reason: str = ""


class MarkOf(msgspec.Struct, gc=False):
    """How far one reader is."""

    reader: Sender
    delivered: int
    read: int


class Limits(msgspec.Struct, gc=False):
    """What a client must keep to."""

    frame_bytes: int
    """Largest frame that is taken."""
    frames_per_second: int
    """Frames that are taken in the long run; more for a moment."""
    subscriptions: int
    """Conversations that one socket follows."""


class OfferOf(msgspec.Struct, omit_defaults=True):
    """A conversation that is offered to an agent."""

    offer_id: str
    conversation_id: str
    customer_id: str = ""
    channel: str = ""
    reason: str = ""
    hand_off: int = 0
    expire_time: datetime | None = None


class Welcome(Answer, tag="welcome"):
    """The session is open."""

    session_id: str
    secret: str
    """Resumes the session; told to nobody else."""
    resumed: bool
    """False when a new session was opened, though one was to be resumed."""
    subject: str
    heartbeat_ms: int
    """How often the client shall say something, a `ping` at least."""
    limits: Limits


class Started(Answer, tag="started"):
    """The conversation was started."""

    conversation_id: str
    status: str


class Subscribed(Answer, tag="subscribed"):
    """The conversation is followed: messages after `after_sequence` come, in order."""

    conversation_id: str
    epoch: str
    recovered: bool
    """False when there is a hole before the messages that come."""
    after_sequence: int
    last_sequence: int
    customer_id: str
    agent_id: str
    """Empty while none answers."""
    ended: bool
    marks: tuple[MarkOf, ...]
    online: tuple[str, ...]
    """Who is known to be there, of customer and agent."""


class Unsubscribed(Answer, tag="unsubscribed"):
    """The conversation is followed no longer."""

    conversation_id: str
    reason: str
    """REQUESTED; NOT_YOURS when another agent answers; else the reason of a failure."""


class Message(ServerFrame, tag="message"):
    """A message; the one before it has the number one lower. Has one of three contents."""

    conversation_id: str
    sequence: int
    message_id: str
    sender: Sender
    time: datetime
    client_message_id: str = ""
    text: str | None = None
    attachment: Attachment | None = None
    system: SystemNote | None = None


class Sent(Answer, tag="sent"):
    """The message is stored."""

    conversation_id: str
    client_message_id: str
    sequence: int
    message_id: str


class Marks(ServerFrame, tag="marks"):
    """Somebody is further in a conversation than before."""

    conversation_id: str
    marks: tuple[MarkOf, ...]


class Typing(ServerFrame, tag="typing"):
    """Somebody types, or stopped."""

    conversation_id: str
    sender: Sender
    typing: bool


class Presence(Answer, tag="presence"):
    """Who came and who went; as an answer, who is there and who is not."""

    online: tuple[str, ...] = ()
    offline: tuple[str, ...] = ()


class Desk(ServerFrame, tag="desk"):
    """What an agent has in front of him, whole, after each change."""

    agent_id: str
    status: AgentStatusName
    offers: tuple[OfferOf, ...]
    conversation_ids: tuple[str, ...]
    version: int


class Pong(Answer, tag="pong"):
    """Answers a ping."""


class Done(Answer, tag="done"):
    """Answers what has no other answer."""


class Error(Answer, tag="error"):
    """A frame was refused; the socket goes on unless it is closed next."""

    code: str
    """Name of a gRPC status."""
    reason: str
    """What happened: UPPER_SNAKE and stable."""
    field: str = ""
    """Field of the frame, or of the call that it led to."""
    message: str = ""
    """For people."""


class TokenExpiring(ServerFrame, tag="token_expiring"):
    """The token runs out soon: a `token` frame is due."""

    expires_in_ms: int


class Closing(ServerFrame, tag="closing"):
    """The socket will be closed: come back after `retry_after_ms`, perhaps elsewhere."""

    code: int
    reason: str
    retry_after_ms: int


AnyServerFrame: TypeAlias = (
    Welcome
    | Started
    | Subscribed
    | Unsubscribed
    | Message
    | Sent
    | Marks
    | Typing
    | Presence
    | Desk
    | Pong
    | Done
    | Error
    | TokenExpiring
    | Closing
)
