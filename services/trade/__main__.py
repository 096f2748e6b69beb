"""The trade service: books trades."""

from interchange.trade.v1 import trade_service_pb2
from interchange.trade.v1.trade_service_pb2_grpc import add_TradeServiceServicer_to_server

from services.common import clients, upcasters
from services.common.applier import Applier
from services.common.clock import SystemClock
from services.common.consumer import EventConsumer
from services.common.event_store import EventStore
from services.common.events import EventTypes
from services.common.host import Host, main
from services.common.ids import Uuid7
from services.common.wiring import add_relays, open_database
from services.common.work import UnitOfWork
from services.trade import consumer
from services.trade.posting import Posting
from services.trade.references import PeerReferences
from services.trade.repository import PostgresTrades
from services.trade.servicer import TradeServicer


async def wire(host: Host) -> None:
    """Put the trade service together."""
    settings = host.settings
    database = await open_database(host, "trade")
    channel = clients.channel(settings)
    host.on_close(channel.close)
    relays = add_relays(host, "trade")
    units = UnitOfWork(database, settings, PostgresTrades, relays)
    applier = Applier(
        database,
        units,
        EventTypes(consumer.MESSAGES, upcasters.UPCASTERS, upcasters.VERSIONS),
        consumer.on_reference_changed,
        EventStore(settings),
        settings.consumer_gap_wait_ms,
    )
    events = EventConsumer(settings, database, consumer.TOPICS, applier)
    host.add_task("trade consumer", events.run)
    servicer = TradeServicer(
        units,
        Posting(channel),
        PeerReferences(channel, units),
        SystemClock(),
        Uuid7(),
        settings.batch_size_max,
        host.draining,
    )
    host.add_service(
        add_TradeServiceServicer_to_server,
        servicer,
        trade_service_pb2.DESCRIPTOR.services_by_name["TradeService"],
    )


if __name__ == "__main__":
    main(wire)
