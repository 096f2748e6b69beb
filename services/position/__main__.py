"""The position service: follows trades and transfers, shows what accounts hold."""

from interchange.position.v1 import position_service_pb2
from interchange.position.v1.position_service_pb2_grpc import add_PositionServiceServicer_to_server

from services.common import upcasters
from services.common.applier import Applier
from services.common.clock import SystemClock
from services.common.consumer import EventConsumer
from services.common.db import Database
from services.common.event_store import EventStore
from services.common.events import EventTypes
from services.common.host import Host, main
from services.common.relay import Relay
from services.common.upkeep import add_upkeep
from services.common.watermarks import Watermarks
from services.common.work import UnitOfWork
from services.position import consumer
from services.position.fills import TOPICS
from services.position.queries import Queries
from services.position.reads import PostgresReads
from services.position.repository import PostgresBooks
from services.position.servicer import PositionServicer
from services.position.watch import Watches


async def wire(host: Host) -> None:
    """Put the position service together."""
    settings = host.settings
    database = await Database.open(settings, "position")
    host.on_close(database.close)
    add_upkeep(host, database)
    host.add_check("database", database.check)
    relays = [Relay(settings, "position", shard) for shard in range(settings.outbox_shards)]
    watermarks = Watermarks(database)
    applier = Applier(
        database,
        UnitOfWork(database, settings, PostgresBooks, relays),
        EventTypes(consumer.MESSAGES, upcasters.UPCASTERS, upcasters.VERSIONS),
        consumer.on_events(SystemClock()),
        EventStore(settings),
        settings.consumer_gap_wait_ms,
        watermarks.wake,
    )
    events = EventConsumer(settings, database, TOPICS, applier)
    for shard, relay in enumerate(relays):
        host.add_task(f"position relay {shard}", relay.run)
    host.add_task("position consumer", events.run)
    reading = UnitOfWork(database, settings, PostgresReads, [])
    host.add_service(
        add_PositionServiceServicer_to_server,
        PositionServicer(Queries(reading, watermarks), Watches(reading, host.draining)),
        position_service_pb2.DESCRIPTOR.services_by_name["PositionService"],
    )


if __name__ == "__main__":
    main(wire)
