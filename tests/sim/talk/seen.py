"""What the databases of the conversation side hold of one tenant, read by their owner."""

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import asyncpg
from google.protobuf.message import Message
from interchange.agent.v1 import agent_events_pb2
from interchange.bot.v1 import bot_events_pb2
from interchange.conversation.v1 import conversation_events_pb2
from interchange.conversation.v1.conversation_pb2 import Needs
from interchange.message.v1 import message_events_pb2
from interchange.message.v1.message_events_pb2 import MessageBody, MessageSent

from services.common.personal import Keys, Unreadable

T = TypeVar("T")

TOPICS = ("conversation-events", "message-events", "bot-events", "agent-events", "session-events")
FOLLOWED: Mapping[str, tuple[str, ...]] = {
    "conversation": ("bot-events", "agent-events"),
    "message": ("conversation-events", "bot-events"),
    "bot": ("message-events", "conversation-events"),
    "agent": ("conversation-events", "session-events"),
}
"""Topics that each service follows."""
_PACKAGES = (
    agent_events_pb2,
    bot_events_pb2,
    conversation_events_pb2,
    message_events_pb2,
)


class Conversation(NamedTuple):
    """A row of the conversation service."""

    conversation: str
    customer: str
    status: int
    agent: str
    hand_off: int
    channel: int
    version: int


class Copy(NamedTuple):
    """The message service's copy of a conversation."""

    conversation: str
    customer: str
    handler: int
    agent: str
    hand_off: int
    ended: bool
    last_sequence: int


class Stored(NamedTuple):
    """A message."""

    conversation: str
    sequence: int
    message_id: str
    client_id: str
    kind: int
    sender: str
    text: str
    note: int
    """SystemKind of a message of the platform, else 0."""
    about: str
    """Agent of whom the platform tells."""


class Mark(NamedTuple):
    """How far a reader is."""

    conversation: str
    kind: int
    reader: str
    delivered: int
    read: int


class Slots(NamedTuple):
    """What an agent takes and has over a channel."""

    agent: str
    channel: int
    slots: int
    load: int
    offers: int
    """Open offers, counted."""
    assignments: int
    """Conversations, counted."""


class Agent(NamedTuple):
    """An agent."""

    agent: str
    pool: str
    status: str
    skills: dict[str, int]


class Assignment(NamedTuple):
    """A conversation that an agent answers, as the agent service has it."""

    conversation: str
    hand_off: int
    agent: str


class Request(NamedTuple):
    """A hand-over, as the agent service has it."""

    conversation: str
    hand_off: int
    channel: int
    state: str
    needs: Needs


class Parked(NamedTuple):
    """A key, or an event, that waits."""

    service: str
    topic: str
    key: str
    state: str
    reason: str


@dataclass(slots=True)
class Seen:
    """The rows and events of one tenant."""

    conversations: list[Conversation]
    copies: list[Copy]
    messages: list[Stored]
    marks: list[Mark]
    agents: list[Agent]
    slots: list[Slots]
    assignments: list[Assignment]
    requests: list[Request]
    numbers: dict[tuple[str, str], list[int]]
    """Numbers of the events of each topic and key, in the order of the relay."""
    applied: dict[tuple[str, str, str], int]
    """Last applied number by service, topic and key."""
    parked: list[Parked]
    events: list[tuple[str, Message]] = field(default_factory=list)
    """Topic and event, each topic in the order of the relay."""
    opened: dict[str, str] = field(default_factory=dict)
    """Text of each MessageSent by the id of its message, as far as it can be opened."""


_CONVERSATIONS = """
SELECT conversation_id::text, customer_id, status::int, coalesce(agent_id, ''), hand_off_count,
    channel::int, version
FROM conversation.conversations WHERE tenant_id = $1 ORDER BY conversation_id
"""
_COPIES = """
SELECT conversation_id::text, customer_id, handler::int, agent_id, hand_off, ended, last_sequence
FROM message.conversations WHERE tenant_id = $1 ORDER BY conversation_id
"""
_MESSAGES = """
SELECT conversation_id::text, sequence, message_id::text, client_message_id, sender_kind::int,
    sender_id, coalesce(body, ''),
    CASE WHEN sender_kind = 4 THEN (detail->>'kind')::int ELSE 0 END,
    CASE WHEN sender_kind = 4 THEN coalesce(detail->>'agent_id', '') ELSE '' END
FROM message.messages WHERE tenant_id = $1 ORDER BY conversation_id, sequence
"""
_MARKS = """
SELECT conversation_id::text, reader_kind::int, reader_id, delivered_sequence, read_sequence
FROM message.marks WHERE tenant_id = $1
"""
_AGENTS = """
SELECT agent_id, pool_id, status, skills::text FROM agent.agents WHERE tenant_id = $1
"""
_SLOTS = """
SELECT agent_id, channel::int, slots::int, load::int,
    (SELECT count(*) FROM agent.offers AS o WHERE o.state = 'OPEN'
        AND (o.tenant_id, o.agent_id, o.channel) = (c.tenant_id, c.agent_id, c.channel))::int,
    (SELECT count(*) FROM agent.assignments AS a
        WHERE (a.tenant_id, a.agent_id, a.channel) = (c.tenant_id, c.agent_id, c.channel))::int
FROM agent.capacities AS c WHERE tenant_id = $1 ORDER BY agent_id, channel
"""
_ASSIGNMENTS = """
SELECT conversation_id::text, hand_off, agent_id FROM agent.assignments WHERE tenant_id = $1
ORDER BY conversation_id, hand_off
"""
_REQUESTS = """
SELECT conversation_id::text, hand_off, channel::int, state, needs FROM agent.requests
WHERE tenant_id = $1 ORDER BY conversation_id
"""
_EVENTS = """
SELECT topic, key, sequence, type, payload FROM (
    SELECT topic, transaction_id, id, e.* FROM {service}.outbox,
        unnest(keys, sequences, types, payloads)
            WITH ORDINALITY AS e(key, sequence, type, payload, at)
    WHERE tenant_id = $1 AND topic = $2
) AS events ORDER BY transaction_id, id, at
"""


async def see(connection: "asyncpg.Connection[Any]", tenant: str, keys: Keys) -> Seen:
    """Read all of a tenant; what is sealed is opened with `keys`."""

    async def rows(kind: type[T], query: str) -> list[T]:
        return [kind(*row) for row in await connection.fetch(query, tenant)]

    agents = [Agent(*row[:3], _json(row[3])) for row in await connection.fetch(_AGENTS, tenant)]
    requests = [
        Request(*row[:4], Needs.FromString(row[4]))
        for row in await connection.fetch(_REQUESTS, tenant)
    ]
    seen = Seen(
        conversations=await rows(Conversation, _CONVERSATIONS),
        copies=await rows(Copy, _COPIES),
        messages=await rows(Stored, _MESSAGES),
        marks=await rows(Mark, _MARKS),
        agents=agents,
        slots=await rows(Slots, _SLOTS),
        assignments=await rows(Assignment, _ASSIGNMENTS),
        requests=requests,
        numbers=defaultdict(list),
        applied=await _applied(connection, tenant),
        parked=await _parked(connection, tenant),
    )
    for topic in TOPICS:
        query = _EVENTS.format(service=topic.partition("-")[0])
        for row in await connection.fetch(query, tenant, topic):
            seen.numbers[topic, row["key"]].append(row["sequence"])
            message = _decoded(row["type"], row["payload"])
            if message is not None:
                seen.events.append((topic, message))
    await _open(seen, tenant, keys)
    return seen


async def slots(connection: "asyncpg.Connection[Any]", tenant: str) -> list[Slots]:
    """Read what agents take and have."""
    return [Slots(*row) for row in await connection.fetch(_SLOTS, tenant)]


def _json(text: str) -> dict[str, int]:
    return {str(name): int(level) for name, level in json.loads(text).items()}


def _decoded(type_name: str, payload: bytes) -> Message | None:
    name = type_name.rpartition(".")[2]
    for package in _PACKAGES:
        kind = getattr(package, name, None)
        if kind is not None and kind.DESCRIPTOR.full_name == type_name:
            found: Message = kind.FromString(payload)
            return found
    return None


async def _open(seen: Seen, tenant: str, keys: Keys) -> None:
    sent = [event for _, event in seen.events if isinstance(event, MessageSent)]
    seals = await keys.of(tenant, {event.customer_id for event in sent})
    for event in sent:
        if not event.sealed_body:
            continue
        try:
            clear = seals[event.customer_id].open(event.sealed_body, event.conversation_id)
        except (KeyError, Unreadable) as error:
            seen.opened[event.event_id] = f"can't be opened: {error!r}"
        else:
            seen.opened[event.event_id] = MessageBody.FromString(clear).text


async def _applied(
    connection: "asyncpg.Connection[Any]", tenant: str
) -> dict[tuple[str, str, str], int]:
    found = {}
    for service in FOLLOWED:
        query = f"SELECT topic, key, sequence FROM {service}.inbox_sequences WHERE tenant_id = $1"
        for topic, key, sequence in await connection.fetch(query, tenant):
            found[service, topic, key] = sequence
    return found


async def _parked(connection: "asyncpg.Connection[Any]", tenant: str) -> list[Parked]:
    found = []
    for service in FOLLOWED:
        query = f"SELECT topic, key, state, reason FROM {service}.parked_keys WHERE tenant_id = $1"
        found += [Parked(service, *row) for row in await connection.fetch(query, tenant)]
        query = f"SELECT topic, key FROM {service}.parked_events WHERE tenant_id = $1"
        found += [
            Parked(service, *row, "EVENT", "") for row in await connection.fetch(query, tenant)
        ]
    return found
