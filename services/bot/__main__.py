"""Wires the bot service."""

from interchange.bot.v1 import bot_service_pb2
from interchange.bot.v1.bot_service_pb2_grpc import add_BotServiceServicer_to_server

from services.bot import consumer
from services.bot.repository import Bots, PostgresBots
from services.bot.servicer import BotServicer
from services.bot.turns import PostgresQueue
from services.bot.understanding import NluUnderstanding
from services.bot.worker import Patience, Worker
from services.common import clients, upcasters
from services.common.applier import Applier
from services.common.clock import SystemClock
from services.common.consumer import EventConsumer
from services.common.event_store import EventStore
from services.common.events import EventTypes
from services.common.host import Host, main
from services.common.personal import PersonalKeys
from services.common.wiring import add_relays, open_database
from services.common.work import UnitOfWork

PACE_MS = 20
"""A customer waits for what the bot will say, but most of these events are not for it."""


async def wire(host: Host) -> None:
    """Add the bot service to a host."""
    settings = host.settings
    database = await open_database(host, "bot")
    channel = clients.channel(settings)
    host.on_close(channel.close)
    relays = add_relays(host, "bot")
    units: UnitOfWork[Bots] = UnitOfWork(database, settings, PostgresBots, relays)
    worker = Worker(
        PostgresQueue(database, settings.bot_batch_size_max, settings.bot_lease_ms),
        units,
        NluUnderstanding(channel, settings.bot_nlu_timeout_ms / 1000),
        PersonalKeys(database, settings),
        SystemClock(),
        Patience(settings.bot_nlu_attempts_max, settings.bot_retry_pause_ms),
        settings.bot_poll_ms,
    )
    host.add_task("bot worker", worker.run)
    applier = Applier(
        database,
        units,
        EventTypes(consumer.MESSAGES, upcasters.UPCASTERS, upcasters.VERSIONS),
        consumer.on_events,
        EventStore(settings),
        settings.consumer_gap_wait_ms,
        worker.wake,
    )
    events = EventConsumer(settings, database, consumer.TOPICS, applier, pace_ms=PACE_MS)
    host.add_task("bot consumer", events.run)
    host.add_service(
        add_BotServiceServicer_to_server,
        BotServicer(units),
        bot_service_pb2.DESCRIPTOR.services_by_name["BotService"],
    )


if __name__ == "__main__":
    main(wire)
