"""What a client hears: frames of the gateway, and news of the connection itself."""

from typing import TypeAlias

import msgspec

from services.gateway.frames_out import (
    Desk,
    Error,
    Marks,
    Message,
    Presence,
    Subscribed,
    Typing,
    Unsubscribed,
)


class Connected(msgspec.Struct, frozen=True):
    """The client is connected."""

    session_id: str
    resumed: bool
    """True when the session is the one of before."""


class Disconnected(msgspec.Struct, frozen=True):
    """The connection is gone; the client comes back by itself."""

    code: int
    """Close code; 1006 when there was none."""
    reason: str
    retry_in_s: float


Event: TypeAlias = (
    Connected
    | Disconnected
    | Message
    | Subscribed
    | Unsubscribed
    | Marks
    | Typing
    | Presence
    | Desk
    | Error
)
