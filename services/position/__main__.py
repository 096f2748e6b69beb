"""The position service: follows trades and transfers, shows what accounts hold."""

from interchange.position.v1 import position_service_pb2
from interchange.position.v1.position_service_pb2_grpc import add_PositionServiceServicer_to_server

from services.common import upcasters
from services.common.applier import Applier
from services.common.clock import SystemClock
from services.common.consumer import EventConsumer
from services.common.event_store import EventStore
from services.common.events import EventTypes
from services.common.host import Host, main
from services.common.watermarks import Watermarks
from services.common.wiring import add_relays, open_database
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
    database = await open_database(host, "position")
    relays = add_relays(host, "position")
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
    host.add_task("position consumer", events.run)
    reading = UnitOfWork(database, settings, PostgresReads, [])
    host.add_service(
        add_PositionServiceServicer_to_server,
        PositionServicer(Queries(reading, watermarks), Watches(reading, host.draining)),
        position_service_pb2.DESCRIPTOR.services_by_name["PositionService"],
    )


if __name__ == "__main__":
    main(wire)
