"""Wires the conversation service."""

from uuid import uuid4

from interchange.conversation.v1 import conversation_service_pb2
from interchange.conversation.v1.conversation_service_pb2_grpc import (
    add_ConversationServiceServicer_to_server,
)

from services.common import redis, requests, upcasters
from services.common.applier import Applier
from services.common.clock import SystemClock
from services.common.consumer import EventConsumer
from services.common.event_store import EventStore
from services.common.events import EventTypes
from services.common.host import Host, main
from services.common.personal import PersonalKeys
from services.common.push import Followers, Pusher
from services.common.wiring import add_relays, open_database
from services.common.work import UnitOfWork
from services.conversation.consumer import MESSAGES, TOPICS, Decisions
from services.conversation.news import PushedNews
from services.conversation.pace import Pace
from services.conversation.repository import Conversations, PostgresConversations
from services.conversation.servicer import ConversationServicer
from services.conversation.watch import Watches

PACE_MS = 10
"""A customer waits for what happens next."""


async def wire(host: Host) -> None:
    """Add the conversation service to a host."""
    settings = host.settings
    database = await open_database(host, "conversation")
    relays = add_relays(host, "conversation")
    host.add_task("conversation request keys", lambda: requests.keep_purged(database))
    units: UnitOfWork[Conversations] = UnitOfWork(database, settings, PostgresConversations, relays)
    client = redis.connect(settings)
    host.on_close(client.aclose)
    watches = Watches(units, host.draining)
    watches.followers = Followers(client, f"conversation-{uuid4().hex[:12]}", watches.receive)
    host.add_task("conversation followers", watches.followers.run)
    pusher = Pusher(client, settings)
    host.add_task("conversation pusher", pusher.run)
    pace = Pace(settings.conversation_start_rate_per_s, settings.conversation_start_burst)
    news = PushedNews(watches.wake, pusher.push)
    decisions = Decisions(SystemClock(), news)
    applier = Applier(
        database,
        units,
        EventTypes(MESSAGES, upcasters.UPCASTERS, upcasters.VERSIONS),
        decisions.on_decided,
        EventStore(settings),
        settings.consumer_gap_wait_ms,
        decisions.applied,
        prepare=decisions.prepare,
    )
    events = EventConsumer(settings, database, TOPICS, applier, pace_ms=PACE_MS)
    host.add_task("conversation consumer", events.run)
    keys = PersonalKeys(database, settings)
    host.add_service(
        add_ConversationServiceServicer_to_server,
        ConversationServicer(
            units, SystemClock(), keys, news, watches, pace, settings.batch_size_max
        ),
        conversation_service_pb2.DESCRIPTOR.services_by_name["ConversationService"],
    )


if __name__ == "__main__":
    main(wire)
