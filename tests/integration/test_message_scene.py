"""The message service on real servers, and what others would tell it.

The service runs as in production; events of conversations and bots are applied by a
second instance of its consumer, without Kafka, so that a test decides what comes when.
"""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf.message import Message as Protobuf
from google.rpc import error_details_pb2, status_pb2
from interchange.bot.v1.bot_events_pb2 import BotReplied
from interchange.conversation.v1 import conversation_events_pb2 as conversation_events
from interchange.conversation.v1.conversation_pb2 import (
    CHANNEL_WEB,
    END_REASON_RESOLVED,
    HAND_OFF_REASON_REQUESTED,
    STATUS_WITH_BOT,
)
from interchange.message.v1 import message_service_pb2 as pb
from interchange.message.v1.message_events_pb2 import MessageBody, MessageRead, MessageSent
from interchange.message.v1.message_pb2 import Message
from interchange.message.v1.message_service_pb2_grpc import MessageServiceStub

from services.common import clients, identity, redis, upcasters
from services.common.applier import Applier
from services.common.config import Settings
from services.common.db import Database
from services.common.event_store import EventStore
from services.common.events import Event, EventTypes
from services.common.host import Host
from services.common.identity import Caller
from services.common.ids import uuid7_batch
from services.common.personal import PersonalKeys
from services.common.push import Pusher
from services.common.work import UnitOfWork
from services.message import consumer
from services.message.__main__ import wire
from services.message.repository import Messages, PostgresMessages
from services.stack import topics
from services.stack.stack import Stack
from tests.integration.echo import nothing

CUSTOMER = ("ann", "customer")
AGENT = ("ana", "agent")
GATEWAY = ("gateway", "mesh")


def new_id(age_s: float = 0) -> str:
    """Return the id of a conversation that was made some seconds ago."""
    return uuid7_batch(1, time.time_ns() // 1000 - int(age_s * 1_000_000))[0]


class Instance:
    """What applies events to the service's tables, as its consumer does."""

    def __init__(self, settings: Settings, database: Database, push: Any) -> None:
        self.database = database
        self.keys = PersonalKeys(database, settings)
        self.units: UnitOfWork[Messages] = UnitOfWork(database, settings, PostgresMessages, [])
        self.store = EventStore(settings)
        self.follower = consumer.Follower(self.keys, push, lambda: None)
        self.applier = Applier(
            database,
            self.units,
            EventTypes(consumer.MESSAGES, upcasters.UPCASTERS, upcasters.VERSIONS),
            self.follower.apply,
            self.store,
            settings.consumer_gap_wait_ms,
            self.follower.applied,
            self.follower.prepare,
        )


class Talk:
    """One tenant's conversations, seen from all sides."""

    def __init__(self, stub: Any, instance: Instance, tenant: str) -> None:
        self.stub = stub
        self.instance = instance
        self.tenant = tenant
        self._numbers: Counter[tuple[str, str]] = Counter()

    def __call__(self, rpc: str, request: Any, who: tuple[str, str] = CUSTOMER) -> Any:
        caller = Caller(self.tenant, who[0], tuple(who[1].split()))
        headers = clients.headers(caller)
        return getattr(self.stub, rpc)(request, metadata=headers, timeout=20)

    def event(self, message: Any) -> Event:
        """Return the next event of a conversation."""
        topic = "bot-events" if isinstance(message, BotReplied) else "conversation-events"
        key = message.conversation_id
        self._numbers[topic, key] += 1
        number = self._numbers[topic, key]
        name, payload = message.DESCRIPTOR.full_name, message.SerializeToString()
        return Event(self.tenant, topic, key, number, message.event_id, name, 1, payload)

    async def apply(self, *messages: Protobuf) -> None:
        """Apply events in one batch, in this order."""
        events = [self.event(message) for message in messages]
        await self.instance.applier.apply(events, (), nothing)

    async def seal(self, conversation_id: str, text: str, customer: str = CUSTOMER[0]) -> bytes:
        seals = await self.instance.keys.of(self.tenant, [customer])
        return seals[customer].seal(text.encode(), conversation_id)

    async def started(
        self, conversation_id: str = "", text: str = "", customer: str = CUSTOMER[0]
    ) -> conversation_events.ConversationStarted:
        conversation_id = conversation_id or new_id()
        return conversation_events.ConversationStarted(
            event_id=new_id(),
            conversation_id=conversation_id,
            customer_id=customer,
            channel=CHANNEL_WEB,
            status=STATUS_WITH_BOT,
            bot_id="default",
            sealed_text=await self.seal(conversation_id, text, customer) if text else b"",
            message_id=new_id() if text else "",
            recorded_us=time.time_ns() // 1000,
        )

    async def start(self, text: str = "", **changes: str) -> str:
        """Start a conversation with the bot; return its id."""
        started = await self.started(text=text, **changes)
        await self.apply(started)
        return started.conversation_id

    async def replied(self, conversation_id: str, text: str) -> BotReplied:
        return BotReplied(
            event_id=new_id(),
            conversation_id=conversation_id,
            customer_id=CUSTOMER[0],
            bot_id="default",
            sealed_text=await self.seal(conversation_id, text),
            recorded_us=time.time_ns() // 1000,
        )

    async def assign(self, conversation_id: str, agent: str = AGENT[0], hand_off: int = 1) -> None:
        """Hand a conversation over, to an agent."""
        await self.apply(
            handed_off(conversation_id, hand_off), assigned(conversation_id, agent, hand_off)
        )

    async def send(
        self, conversation_id: str, *texts: str, who: tuple[str, str] = CUSTOMER
    ) -> list[Message]:
        """Send texts in one batch; all must be taken."""
        requests = [text_of(conversation_id, text) for text in texts]
        answer = await self(
            "BatchSendMessages", pb.BatchSendMessagesRequest(requests=requests), who
        )
        assert all(result.HasField("message") for result in answer.results), answer
        return [result.message for result in answer.results]

    async def history(self, conversation_id: str) -> list[Message]:
        """Return all messages, as the service itself reads them."""
        async with self.instance.units.reading(self.tenant) as reads:
            rows = await reads.page_up(self.tenant, conversation_id, 0, 10**9, 10**6)
        assert [row.sequence for row in rows] == list(range(1, len(rows) + 1))
        request = pb.ListMessagesRequest(conversation_id=conversation_id, page_size=500)
        found = await self("ListMessages", request, ("sue", "supervisor"))
        return list(found.messages)

    async def said(self, conversation_id: str) -> list[str]:
        return [told(message) for message in await self.history(conversation_id)]

    async def events(self, conversation_id: str) -> list[MessageSent | MessageRead]:
        """Return the events of a conversation: numbered without a gap."""
        key = (self.tenant, "message-events", conversation_id)
        found = await self.instance.store.read(key, 1, 10**6)
        assert [event.sequence for event in found] == list(range(1, len(found) + 1))
        kinds = {kind.DESCRIPTOR.full_name: kind for kind in (MessageSent, MessageRead)}
        return [kinds[event.type].FromString(event.payload) for event in found]

    async def opened(self, event: MessageSent) -> MessageBody:
        seals = await self.instance.keys.of(self.tenant, [event.customer_id])
        clear = seals[event.customer_id].open(event.sealed_body, event.conversation_id)
        return MessageBody.FromString(clear)


def handed_off(
    conversation_id: str, hand_off: int = 1
) -> conversation_events.ConversationHandedOff:
    return conversation_events.ConversationHandedOff(
        event_id=new_id(),
        conversation_id=conversation_id,
        hand_off=hand_off,
        reason=HAND_OFF_REASON_REQUESTED,
    )


def assigned(
    conversation_id: str, agent: str = AGENT[0], hand_off: int = 1
) -> conversation_events.ConversationAssigned:
    return conversation_events.ConversationAssigned(
        event_id=new_id(),
        conversation_id=conversation_id,
        hand_off=hand_off,
        agent_id=agent,
        agent_name=agent.title(),
    )


def ended(conversation_id: str) -> conversation_events.ConversationEnded:
    return conversation_events.ConversationEnded(
        event_id=new_id(), conversation_id=conversation_id, reason=END_REASON_RESOLVED
    )


def reopened(conversation_id: str) -> conversation_events.ConversationReopened:
    return conversation_events.ConversationReopened(
        event_id=new_id(), conversation_id=conversation_id, status=STATUS_WITH_BOT, hand_off=1
    )


def text_of(conversation_id: str, text: str, client_id: str = "") -> pb.SendMessageRequest:
    return pb.SendMessageRequest(
        conversation_id=conversation_id, client_message_id=client_id or uuid4().hex, text=text
    )


def submission(
    conversation_id: str, text: str, kind: int = 1, sender: str = CUSTOMER[0], client_id: str = ""
) -> pb.Submission:
    return pb.Submission(
        sender={"kind": kind, "id": sender},
        request=text_of(conversation_id, text, client_id),
    )


def told(message: Message) -> str:
    """Return a message as `kind:what`."""
    match message.WhichOneof("content"):
        case "text":
            what = message.text
        case "attachment":
            what = message.attachment.uri
        case _:
            return f"{message.system.kind}:{message.system.reason or message.system.agent_name}"
    return f"{message.sender.id}:{what}"


async def refused(calling: Awaitable[Any]) -> tuple[str, str]:
    """Return code and reason of the error of a call."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await calling
    metadata = dict(caught.value.trailing_metadata() or ())
    status = status_pb2.Status.FromString(metadata["grpc-status-details-bin"])
    return caught.value.code().name, reason_of(status)


def reason_of(status: Any) -> str:
    info = error_details_pb2.ErrorInfo()
    status.details[0].Unpack(info)
    return str(info.reason)


def results(answer: pb.BatchSendMessagesResponse) -> list[Any]:
    """Return the number of each message that was taken, else the reason why not."""
    return [
        result.message.sequence if result.HasField("message") else reason_of(result.error)
        for result in answer.results
    ]


def scene_settings(servers: Stack, folder: Path, **changes: Any) -> Settings:
    key = folder / "personal_key"
    key.write_text(secrets.token_hex(32))
    values: dict[str, Any] = {
        "listen": "127.0.0.1:0",
        "database_url": f"postgresql://{servers.postgres.address}/interchange",
        "database_password": servers.database_password(),
        "kafka_bootstrap": servers.kafka_bootstrap,
        # Topics of its own: what other tests tell is none of its business.
        "kafka_topic_prefix": f"m{uuid4().hex[:8]}-",
        "redis_url": servers.redis_url,
        "personal_key_file": key,
        "drain_notice_ms": 0,
        "message_rate_per_s": 10_000,
        "message_burst": 10_000,
    }
    return Settings(**(values | changes))


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[tuple[Any, Host]]:
    """Run the service for the time of the block."""
    host = Host(settings)
    await wire(host)
    await host.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{host.port}") as channel:
            yield MessageServiceStub(channel), host
    finally:
        await host.leave()


@asynccontextmanager
async def applying(settings: Settings) -> AsyncIterator[Instance]:
    """Return what applies events, for the time of the block."""
    database = await Database.open(settings, "message")
    client = redis.connect(settings)
    pusher = Pusher(client, settings)
    task = asyncio.create_task(pusher.run())
    try:
        yield Instance(settings, database, pusher.push)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.aclose()
        await database.close()


@pytest.fixture(scope="module")
def settings(servers: Stack, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    servers.migrate(["message"])
    settings = scene_settings(servers, tmp_path_factory.mktemp("message"))
    names = topics.names(["conversation", "bot", "message"], settings.kafka_topic_prefix)
    topics.create(settings.kafka_bootstrap, names, 3, 1)
    return settings


@pytest.fixture(scope="module")
async def stub(settings: Settings) -> AsyncIterator[Any]:
    async with serving(settings) as (stub, _):
        yield stub


@pytest.fixture(scope="module")
async def instance(settings: Settings) -> AsyncIterator[Instance]:
    async with applying(settings) as instance:
        yield instance


@pytest.fixture
def talk(stub: Any, instance: Instance) -> Talk:
    return Talk(stub, instance, f"t-{uuid4().hex[:12]}")


async def tails(talk: Talk, *conversation_ids: str) -> Sequence[pb.Tail]:
    request = pb.ListTailsRequest(conversation_ids=conversation_ids)
    return list((await talk("ListTails", request, GATEWAY)).tails)


def service_of(talk: Talk) -> Caller:
    return identity.service(talk.tenant, "gateway")
