"""Events as they travel: what the outbox stores, Kafka carries and the inbox applies."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from google.protobuf.message import Message

Upcaster = Callable[[Message], None]
"""Lifts a message of one version to the next, in place."""


@dataclass(slots=True)
class Event:
    """One event of one key, numbered per key from 1 without gaps."""

    tenant_id: str
    topic: str
    key: str
    """Account, instrument or conversation; on Kafka it is `tenant:key`."""
    sequence: int
    event_id: str
    type: str
    """Full name of the protobuf message."""
    version: int
    payload: bytes
    traceparent: str | None = None
    message: Message | None = None
    """The decoded payload in its newest version, where somebody subscribed to it."""


@dataclass(slots=True)
class EventColumns:
    """Events of one tenant and topic that a transaction adds, as columns."""

    tenant_id: str
    topic: str
    event_ids: list[str] = field(default_factory=list)
    types: list[str] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    sequences: list[int] = field(default_factory=list)
    payloads: list[bytes] = field(default_factory=list)
    reason: str | None = None
    """Why the events are on a dead-letter topic."""

    def extend(
        self,
        type_name: str,
        version: int,
        event_ids: list[str],
        keys: list[str],
        sequences: list[int],
        payloads: list[bytes],
    ) -> None:
        """Add events of one type; the lists are parallel."""
        count = len(payloads)
        if not len(event_ids) == len(keys) == len(sequences) == count:
            raise ValueError("columns of events differ in length")
        self.event_ids += event_ids
        self.types += [type_name] * count
        self.versions += [version] * count
        self.keys += keys
        self.sequences += sequences
        self.payloads += payloads


class Undecodable(Exception):
    """The payload of an event can't be read as its type and version."""


class EventTypes:
    """The types of events that a consumer wants, with their upcasters."""

    def __init__(
        self,
        messages: Iterable[type[Message]],
        upcasters: Mapping[tuple[str, int], Upcaster],
        versions: Mapping[str, int],
    ) -> None:
        self._messages = {message.DESCRIPTOR.full_name: message for message in messages}
        self._upcasters = upcasters
        self._versions = versions

    def decode(self, event: Event) -> None:
        """Set `event.message`, lifted to the newest version; leave unwanted types alone.

        Raises Undecodable when the payload is broken or of a version that is
        newer than this code.
        """
        message_type = self._messages.get(event.type)
        if message_type is None:
            return
        newest = self._versions.get(event.type, 1)
        if not 1 <= event.version <= newest:
            raise Undecodable(f"version of {event.type} was {event.version}, expected 1..{newest}")
        try:
            message = message_type.FromString(event.payload)
        except Exception as error:
            raise Undecodable(f"payload is no {event.type}: {error}") from error
        for version in range(event.version, newest):
            self._upcasters[event.type, version](message)
        event.message = message
