"""The client of the gateway: needs neither its server nor a stack."""

from services.gateway.client.backoff import Backoff
from services.gateway.client.client import Client
from services.gateway.client.errors import ClientError, Closed, Refused
from services.gateway.client.events import Connected, Disconnected, Event
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

__all__ = [
    "Backoff",
    "Client",
    "ClientError",
    "Closed",
    "Connected",
    "Desk",
    "Disconnected",
    "Error",
    "Event",
    "Marks",
    "Message",
    "Presence",
    "Refused",
    "Subscribed",
    "Typing",
    "Unsubscribed",
]
