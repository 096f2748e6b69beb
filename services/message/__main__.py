"""The message service: keeps what is said in conversations, and passes it on."""

from uuid import uuid4

from interchange.message.v1 import message_service_pb2
from interchange.message.v1.message_service_pb2_grpc import add_MessageServiceServicer_to_server

from services.common import redis, upcasters
from services.common.applier import Applier
from services.common.clock import SystemClock
from services.common.consumer import EventConsumer
from services.common.event_store import EventStore
from services.common.events import EventTypes
from services.common.host import Host, main
from services.common.ids import Uuid7
from services.common.personal import PersonalKeys
from services.common.push import Followers, Pusher
from services.common.wiring import add_relays, open_database
from services.common.work import UnitOfWork
from services.message import consumer
from services.message.arrivals import Arrivals
from services.message.marking import Marking
from services.message.outgoing import Outgoing
from services.message.ports import Ports
from services.message.rates import SenderRates
from services.message.reading import Reader
from services.message.repository import Messages, PostgresMessages
from services.message.resuming import Resuming
from services.message.servicer import MessageServicer
from services.message.watching import Watches

PACE_MS = 10
"""Somebody waits for what these events say."""


async def wire(host: Host) -> None:
    """Put the message service together."""
    settings = host.settings
    database = await open_database(host, "message")
    client = redis.connect(settings)
    host.on_close(client.aclose)
    pusher = Pusher(client, settings)
    host.add_task("message pushes", pusher.run)
    units: UnitOfWork[Messages] = UnitOfWork(
        database, settings, PostgresMessages, add_relays(host, "message")
    )
    keys = PersonalKeys(database, settings)
    ports = Ports(units, keys, SystemClock(), Uuid7(), pusher.push)
    arrivals = Arrivals(units)
    follower = consumer.Follower(keys, pusher.push, arrivals.wake)
    applier = Applier(
        database,
        units,
        EventTypes(consumer.MESSAGES, upcasters.UPCASTERS, upcasters.VERSIONS),
        follower.apply,
        EventStore(settings),
        settings.consumer_gap_wait_ms,
        follower.applied,
        follower.prepare,
    )
    events = EventConsumer(settings, database, consumer.TOPICS, applier, pace_ms=PACE_MS)
    host.add_task("message consumer", events.run)
    reader = Reader(units, arrivals, ports.clock)
    resuming = Resuming(units, arrivals, ports.clock)
    watches = Watches(reader, host.draining)
    followers = Followers(client, f"message-{uuid4().hex}", watches.receive)
    host.add_task("message followers", followers.run)
    host.add_task("message watches", watches.run)
    rates = SenderRates(settings.message_rate_per_s, settings.message_burst)
    outgoing = Outgoing(ports, arrivals, rates, settings.batch_size_max)
    marking = Marking(ports, reader, settings.batch_size_max)
    host.add_service(
        add_MessageServiceServicer_to_server,
        MessageServicer(outgoing, reader, resuming, marking, watches, followers),
        message_service_pb2.DESCRIPTOR.services_by_name["MessageService"],
    )


if __name__ == "__main__":
    main(wire)
