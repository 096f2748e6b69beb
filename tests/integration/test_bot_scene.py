"""The bot service on real servers, fed through Kafka, with an nlu that does as it is told."""

import asyncio
from collections import Counter
from typing import Any
from uuid import uuid4

import grpc
from google.protobuf.message import Message
from interchange.bot.v1 import bot_events_pb2
from interchange.bot.v1 import bot_service_pb2 as pb
from interchange.bot.v1.bot_pb2 import Bot, Intent
from interchange.conversation.v1 import conversation_pb2
from interchange.conversation.v1.conversation_events_pb2 import (
    ConversationHandedOff,
    ConversationStarted,
)
from interchange.message.v1.message_events_pb2 import HANDLER_BOT, MessageBody, MessageSent
from interchange.message.v1.message_pb2 import SENDER_KIND_CUSTOMER, Attachment, Sender
from interchange.nlu.v1 import nlu_pb2, nlu_service_pb2
from interchange.nlu.v1.nlu_service_pb2_grpc import (
    NluServiceServicer,
    add_NluServiceServicer_to_server,
)

from services.common import kafka
from services.common.clock import SystemClock
from services.common.config import Settings
from services.common.db import Database
from services.common.events import Event
from services.common.ids import uuid7_batch
from services.common.personal import PersonalKeys
from services.stack import topics
from services.stack.stack import Stack
from tests.integration.test_conversation_scene import published

NOT_READY = 9


def service_settings(servers: Stack, egress: str) -> Settings:
    """Migrate, make the topics and return the settings of the service."""
    servers.migrate(["bot"])
    names = topics.names(["conversation", "message", "bot"])
    topics.create(servers.kafka_bootstrap, names, servers.settings.kafka_partitions, 1)
    return Settings.model_validate(
        {
            "listen": "127.0.0.1:0",
            "egress": egress,
            "database_url": f"postgresql://{servers.postgres.address}/interchange",
            "database_password": servers.database_password(),
            "kafka_bootstrap": servers.kafka_bootstrap,
            "personal_key_file": servers.service_settings().personal_key_file,
            "drain_notice_ms": 0,
            "bot_nlu_timeout_ms": 300,
            "bot_retry_pause_ms": 20,
            "bot_poll_ms": 20,
        }
    )


class Nlu(NluServiceServicer):
    """Takes `hours 900` for the intent `hours` at a confidence of 0.9.

    `fails 2 hours 900` is not understood twice, and `never` not at all; `late 2 …`
    does not come in time. What it was asked is counted by text.
    """

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.callers: set[tuple[str, str, str]] = set()

    async def BatchDetectIntents(  # noqa: N802
        self, request: nlu_service_pb2.BatchDetectIntentsRequest, context: Any
    ) -> nlu_service_pb2.BatchDetectIntentsResponse:
        headers = dict(context.invocation_metadata())
        self.callers.add(
            tuple(headers[f"x-interchange-{name}"] for name in ("tenant", "subject", "roles"))  # type: ignore[arg-type]
        )
        results = [await self._result(one) for one in request.requests]
        return nlu_service_pb2.BatchDetectIntentsResponse(results=results)

    async def _result(
        self, request: nlu_service_pb2.DetectIntentRequest
    ) -> nlu_service_pb2.DetectIntentResult:
        self.asked[request.text] += 1
        result = nlu_service_pb2.DetectIntentResult()
        words = request.text.split()
        if words[0] in ("fails", "late", "never"):
            if words[0] == "never" or self.asked[request.text] <= int(words[1]):
                if words[0] == "late":
                    await asyncio.sleep(5)
                result.error.code = NOT_READY
                return result
            words = words[2:]
        result.detection.CopyFrom(
            nlu_pb2.Detection(intent=words[0], confidence_millis=int(words[1]), model_version=7)
        )
        return result


async def nlu_server(nlu: Nlu) -> tuple[Any, str]:
    """Serve an nlu; return the server and its address."""
    server = grpc.aio.server()
    add_NluServiceServicer_to_server(nlu, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, f"127.0.0.1:{port}"


class Talk:
    """One conversation of a customer with the bot of a tenant."""

    def __init__(self, house: "House", customer: str = "cleo") -> None:
        self.house = house
        self.customer = customer
        self.conversation_id = house.new_id()
        self.hand_off = 0
        self.sequence = 0
        self._event_sequence = 0
        self._handed = 0

    def start(self, text: str = "", bot_id: str = "default") -> str:
        """Start with or without a first message; return the id of the event."""
        event_id = self.house.new_id()
        message = ConversationStarted(
            event_id=event_id,
            conversation_id=self.conversation_id,
            customer_id=self.customer,
            channel=conversation_pb2.CHANNEL_WEB,
            status=conversation_pb2.STATUS_WITH_BOT,
            bot_id=bot_id,
            sealed_text=b"sealed" if text else b"",
        )
        self._tell_conversation(message)
        return event_id

    def taken_over(self) -> None:
        """Let a person hand it over."""
        self.hand_off += 1
        message = ConversationHandedOff(
            event_id=self.house.new_id(),
            conversation_id=self.conversation_id,
            customer_id=self.customer,
            hand_off=self.hand_off,
            reason=conversation_pb2.HAND_OFF_REASON_REQUESTED,
            actor=self.customer,
        )
        self._tell_conversation(message)

    def _tell_conversation(self, message: Message) -> None:
        self._handed += 1
        self.house.tell("conversation-events", self.conversation_id, self._handed, message)

    async def say(self, text: str, bot_id: str = "default") -> str:
        """Say something; return the id of the message."""
        return await self._send(MessageBody(text=text), bot_id)

    async def attach(self) -> str:
        """Send a picture; return the id of the message."""
        return await self._send(MessageBody(attachment=Attachment(uri="https://x/y")), "default")

    async def _send(self, body: MessageBody, bot_id: str) -> str:
        event_id = self.house.new_id()
        self.sequence += 1
        message = MessageSent(
            event_id=event_id,
            conversation_id=self.conversation_id,
            sequence=self.sequence,
            sender=Sender(kind=SENDER_KIND_CUSTOMER, id=self.customer),
            customer_id=self.customer,
            sealed_body=await self.house.seal(self, body.SerializeToString()),
            handler=HANDLER_BOT,
            bot_id=bot_id,
            hand_off=self.hand_off,
        )
        self.house.tell("message-events", self.conversation_id, self.sequence, message)
        return event_id

    async def answers(self, count: int) -> list[Any]:
        """Return the first events of the bot, in order; replies come as texts."""
        key = f"{self.house.tenant}:{self.conversation_id}"
        found = await asyncio.to_thread(published, self.house.settings, "bot-events", key, count)
        assert [event.sequence for event in found] == list(range(1, count + 1))
        return [await self._opened(event) for event in found]

    async def _opened(self, event: Event) -> Any:
        message = getattr(bot_events_pb2, event.type.rpartition(".")[2]).FromString(event.payload)
        assert message.event_id == event.event_id
        if isinstance(message, bot_events_pb2.BotReplied):
            return message.event_id, await self.house.open(self, message.sealed_text)
        return (
            message.event_id,
            conversation_pb2.HandOffReason.Name(message.reason).removeprefix("HAND_OFF_REASON_"),
            message.hand_off,
            message.needs.pool_id,
        )


class House:
    """A tenant with what the bot service hears of it."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.settings = settings
        self.tenant = f"t{uuid4().hex[:12]}"
        self._keys = PersonalKeys(database, settings)
        self._producer = kafka.producer(settings, f"house-{uuid4().hex[:8]}")

    def new_id(self) -> str:
        return uuid7_batch(1, SystemClock().now_us())[0]

    async def seal(self, talk: Talk, clear: bytes) -> bytes:
        keys = await self._keys.of(self.tenant, [talk.customer])
        return keys[talk.customer].seal(clear, talk.conversation_id)

    async def open(self, talk: Talk, sealed: bytes) -> str:
        keys = await self._keys.of(self.tenant, [talk.customer])
        return keys[talk.customer].open(sealed, talk.conversation_id).decode()

    def tell(self, topic: str, key: str, sequence: int, message: Any) -> None:
        name = message.DESCRIPTOR.full_name
        headers = kafka.headers(message.event_id, name, 1, sequence, None)
        value = message.SerializeToString()
        self._producer.produce(topic, value, f"{self.tenant}:{key}", headers=headers)
        self._producer.flush(20)


class Supervisor:
    """A supervisor who calls the service."""

    def __init__(self, stub: Any, tenant: str) -> None:
        self._stub = stub
        self.tenant = tenant

    async def __call__(self, rpc: str, request: Any = None, **fields: Any) -> Any:
        headers = (
            ("x-interchange-tenant", self.tenant),
            ("x-interchange-subject", "sue"),
            ("x-interchange-roles", "supervisor"),
        )
        request = request or getattr(pb, f"{rpc}Request")(**fields)
        return await getattr(self._stub, rpc)(request, metadata=headers, timeout=20)


def clerk(**changes: Any) -> Bot:
    """Return a bot that knows the hours, billing, and when it is not wanted."""
    values: dict[str, Any] = {
        "bot_id": "default",
        "greeting": "hello",
        "fallback_reply": "pardon?",
        "hand_off_reply": "one moment",
        "hand_off_intent": "person",
        "intents": [
            Intent(name="hours", replies=["nine to five", "as I said: nine to five"]),
            Intent(
                name="billing",
                hand_off=True,
                needs=conversation_pb2.Needs(pool_id="billing"),
            ),
        ],
    }
    return Bot(**(values | changes))
