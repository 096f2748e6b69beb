"""Frames from clients: what they ask for."""

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from services.gateway.fields import (
    Attachment,
    ChannelName,
    EndReasonName,
    Key,
    Name,
    Needs,
    Ref,
    RouteName,
    Sequence,
    StatusName,
    Subject,
    Uuid,
)

Token: TypeAlias = Annotated[str, Meta(max_length=4096)]


class ClientFrame(
    msgspec.Struct,
    tag_field="type",
    forbid_unknown_fields=True,
    omit_defaults=True,
    kw_only=True,
    gc=False,
):
    """A frame from a client; `type` says which."""

    ref: Ref = ""


class Hello(ClientFrame, tag="hello"):
    """The first frame: who comes, and which session it takes up again. Answered by `welcome`."""

    token: Token = ""
    """Not needed when the handshake brought one."""
    client: Name = ""
    """Program of the client, as it names itself."""
    session_id: Annotated[str, Meta(max_length=36)] = ""
    secret: Annotated[str, Meta(max_length=64)] = ""
    """As the `welcome` of the session gave it."""


class RenewToken(ClientFrame, tag="token"):
    """A newer token of the same tenant and subject. Answered by `done`."""

    token: Token


class Start(ClientFrame, tag="start"):
    """Starts a conversation. Answered by `started`."""

    text: str = ""
    """First message of the customer; none when empty."""
    channel: ChannelName = "web"
    route: RouteName = "bot"
    """Who answers first."""
    name: Name = ""
    """Name of the customer as agents see it."""
    bot_id: Annotated[str, Meta(max_length=32)] = ""
    needs: Needs | None = None
    request_id: Key = ""


class Subscribe(ClientFrame, tag="subscribe"):
    """Follows a conversation. Answered by `subscribed`, what was missed, and then what comes."""

    conversation_id: Uuid
    after_sequence: Sequence = 0
    """Number of the last message that the client has."""
    epoch: Annotated[str, Meta(max_length=64)] = ""
    """As the `subscribed` before gave it; empty for who comes for the first time."""


class Unsubscribe(ClientFrame, tag="unsubscribe"):
    """Follows a conversation no longer. Answered by `unsubscribed`."""

    conversation_id: Uuid


class Send(ClientFrame, tag="send"):
    """Sends a text or an attachment. Answered by `sent`."""

    conversation_id: Uuid
    client_message_id: Key
    """The same again is answered as the first time."""
    text: str | None = None
    attachment: Attachment | None = None


class SetMark(ClientFrame, tag="mark"):
    """Says how far the client is: marks only move forward. Answered by `done` if it has a `ref`."""

    conversation_id: Uuid
    delivered: Sequence = 0
    """Number of the last message that reached the reader."""
    read: Sequence = 0
    """Number of the last message that he read."""


class SetTyping(ClientFrame, tag="typing"):
    """Says that the client types, or stopped. Answered by `done` if it has a `ref`."""

    conversation_id: Uuid
    typing: bool = True


class AskPresence(ClientFrame, tag="presence"):
    """Asks who is there, of those the client has conversations with. Answered by `presence`."""

    subjects: Annotated[tuple[Subject, ...], Meta(max_length=100)] = ()
    """All of them when empty."""


class Ping(ClientFrame, tag="ping"):
    """Says that the client lives. Answered by `pong`."""


class SetStatus(ClientFrame, tag="status"):
    """Says whether an agent takes conversations. Answered by `done`."""

    status: StatusName


class Accept(ClientFrame, tag="accept"):
    """Takes a conversation that is offered. Answered by `done`."""

    offer_id: Uuid


class Decline(ClientFrame, tag="decline"):
    """Declines a conversation that is offered. Answered by `done`."""

    offer_id: Uuid


class Transfer(ClientFrame, tag="transfer"):
    """Hands a conversation from its agent to another one. Answered by `done`."""

    conversation_id: Uuid
    needs: Needs | None = None
    request_id: Key = ""


class HandOff(ClientFrame, tag="hand_off"):
    """Hands a conversation from the bot to agents. Answered by `done`."""

    conversation_id: Uuid
    needs: Needs | None = None
    request_id: Key = ""


class End(ClientFrame, tag="end"):
    """Ends a conversation. Answered by `done`."""

    conversation_id: Uuid
    reason: EndReasonName = "resolved"
    request_id: Key = ""


class Bye(ClientFrame, tag="bye"):
    """Ends the session. Answered by the close of the socket."""


AnyClientFrame: TypeAlias = (
    Hello
    | RenewToken
    | Start
    | Subscribe
    | Unsubscribe
    | Send
    | SetMark
    | SetTyping
    | AskPresence
    | Ping
    | SetStatus
    | Accept
    | Decline
    | Transfer
    | HandOff
    | End
    | Bye
)
