"""The ledger service: keeps the books."""

from interchange.ledger.v1 import ledger_service_pb2
from interchange.ledger.v1.ledger_service_pb2_grpc import add_LedgerServiceServicer_to_server

from services.common import upcasters
from services.common.applier import Applier
from services.common.clock import SystemClock
from services.common.consumer import EventConsumer
from services.common.event_store import EventStore
from services.common.events import EventTypes
from services.common.host import Host, main
from services.common.ids import Uuid7
from services.common.watermarks import Watermarks
from services.common.wiring import add_relays, open_database
from services.common.work import UnitOfWork
from services.ledger import consumer
from services.ledger.repository import PostgresBooks
from services.ledger.servicer import LedgerServicer


async def wire(host: Host) -> None:
    """Put the ledger service together."""
    settings = host.settings
    database = await open_database(host, "ledger")
    relays = add_relays(host, "ledger")
    units = UnitOfWork(database, settings, PostgresBooks, relays)
    watermarks = Watermarks(database)
    applier = Applier(
        database,
        units,
        EventTypes(consumer.MESSAGES, upcasters.UPCASTERS, upcasters.VERSIONS),
        consumer.posting(SystemClock(), Uuid7()),
        EventStore(settings),
        settings.consumer_gap_wait_ms,
        watermarks.wake,
    )
    events = EventConsumer(settings, database, consumer.TOPICS, applier)
    host.add_task("ledger consumer", events.run)
    host.add_service(
        add_LedgerServiceServicer_to_server,
        LedgerServicer(units, watermarks),
        ledger_service_pb2.DESCRIPTOR.services_by_name["LedgerService"],
    )


if __name__ == "__main__":
    main(wire)
