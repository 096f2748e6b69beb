"""The conversation service on real servers, called over gRPC and fed through Kafka."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import grpc
import pytest
from confluent_kafka import Consumer
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from interchange.agent.v1.agent_events_pb2 import AgentMatched, AgentReleased
from interchange.bot.v1.bot_events_pb2 import HandoffRequested
from interchange.conversation.v1 import conversation_events_pb2
from interchange.conversation.v1 import conversation_service_pb2 as pb
from interchange.conversation.v1.conversation_pb2 import Conversation

from services.common import kafka
from services.common.config import Settings
from services.common.events import Event
from services.stack import topics
from services.stack.stack import Stack


def service_settings(servers: Stack, **changes: object) -> Settings:
    """Migrate, make the topics and return the settings of the service."""
    servers.migrate(["conversation"])
    names = topics.names(["conversation", "bot", "agent"])
    topics.create(servers.kafka_bootstrap, names, servers.settings.kafka_partitions, 1)
    values: dict[str, object] = {
        "listen": "127.0.0.1:0",
        "database_url": f"postgresql://{servers.postgres.address}/interchange",
        "database_password": servers.database_password(),
        "redis_url": servers.redis_url,
        "kafka_bootstrap": servers.kafka_bootstrap,
        "personal_key_file": servers.service_settings().personal_key_file,
        "drain_notice_ms": 0,
    }
    return Settings.model_validate(values | changes)


@dataclass(frozen=True)
class Caller:
    """Somebody of a tenant who calls the service."""

    stub: Any
    tenant: str
    subject: str = "cleo"
    roles: str = "customer"

    def headers(self) -> tuple[tuple[str, str], ...]:
        return (
            ("x-interchange-tenant", self.tenant),
            ("x-interchange-subject", self.subject),
            ("x-interchange-roles", self.roles),
        )

    async def __call__(self, rpc: str, request: Any = None, **fields: Any) -> Any:
        request = request or getattr(pb, f"{rpc}Request")(**fields)
        return await getattr(self.stub, rpc)(request, metadata=self.headers(), timeout=20)

    def watch(self, conversation_id: str) -> Any:
        request = pb.WatchConversationRequest(conversation_id=conversation_id)
        return self.stub.WatchConversation(request, metadata=self.headers(), timeout=20)

    def other(self, subject: str, roles: str) -> "Caller":
        return Caller(self.stub, self.tenant, subject, roles)

    @property
    def supervisor(self) -> "Caller":
        return self.other("sue", "supervisor")

    def agent(self, name: str) -> "Caller":
        return self.other(name, "agent")


class Peers:
    """The bot and the agents of a tenant, as far as conversations hear of them."""

    def __init__(self, settings: Settings, tenant: str) -> None:
        self._tenant = tenant
        self._producer = kafka.producer(settings, f"peers-{uuid4().hex[:8]}")
        self._sequences: dict[tuple[str, str], int] = {}

    def tell(self, topic: str, key: str, message: Message, sequence: int = 0) -> None:
        """Publish an event; a `sequence` repeats an earlier one."""
        last = self._sequences.get((topic, key), 0)
        number = sequence or last + 1
        self._sequences[topic, key] = max(last, number)
        attributes = kafka.headers(str(uuid4()), message.DESCRIPTOR.full_name, 1, number, None)
        value = message.SerializeToString()
        self._producer.produce(topic, value, f"{self._tenant}:{key}", headers=attributes)
        self._producer.flush(20)

    def matched(self, conversation: Conversation, agent_id: str, hand_off: int = 0) -> None:
        """Let an agent accept a conversation."""
        message = AgentMatched(
            agent_id=agent_id,
            agent_name=agent_id.title(),
            conversation_id=conversation.conversation_id,
            hand_off=hand_off or conversation.hand_off_count,
        )
        self.tell("agent-events", agent_id, message)

    def released(self, conversation: Conversation, agent_id: str, reason: Any) -> None:
        """Let an agent leave a conversation."""
        message = AgentReleased(
            agent_id=agent_id,
            conversation_id=conversation.conversation_id,
            hand_off=conversation.hand_off_count,
            reason=reason,
        )
        self.tell("agent-events", agent_id, message)

    def requested(self, conversation: Conversation, **fields: Any) -> None:
        """Let the bot ask for a hand-over."""
        values = {
            "conversation_id": conversation.conversation_id,
            "hand_off": conversation.hand_off_count,
        }
        message = HandoffRequested(**(values | fields))
        self.tell("bot-events", conversation.conversation_id, message)


async def until(
    read: Callable[[], Awaitable[Any]], holds: Callable[[Any], bool], timeout_s: float = 30
) -> Any:
    """Read until it holds; fail with what was read last."""
    found = None
    try:
        async with asyncio.timeout(timeout_s):
            while not holds(found := await read()):
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"it never held; last was {found}")
    return found


async def refused(calling: Awaitable[Any]) -> tuple[str, str, list[str]]:
    """Return code, reason and the fields of the error of a call."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await calling
    metadata = dict(caught.value.trailing_metadata() or ())
    status = status_pb2.Status.FromString(metadata["grpc-status-details-bin"])
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    status.details[0].Unpack(info)
    if len(status.details) > 1:
        status.details[1].Unpack(bad)
    fields = [violation.field for violation in bad.field_violations]
    return caught.value.code().name, info.reason, fields


def published(settings: Settings, topic: str, key: str, count: int) -> list[Event]:
    """Read the events of a key from Kafka."""
    consumer = Consumer(
        {
            "bootstrap.servers": settings.kafka_bootstrap,
            "group.id": uuid4().hex,
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe([topic])
    found: list[Event] = []
    expiry = time.monotonic() + 20
    while len(found) < count and time.monotonic() < expiry:
        message = consumer.poll(0.1)
        if message is None or message.error() or message.key() != key.encode():
            continue
        found.append(kafka.read(message, topic))
    consumer.close()
    return found


def opened(event: Event) -> Any:
    """Return the message in an event of a conversation."""
    name = event.type.rpartition(".")[2]
    return getattr(conversation_events_pb2, name).FromString(event.payload)
