"""Wires the instrument service."""

from interchange.instrument.v1 import instrument_service_pb2
from interchange.instrument.v1.instrument_service_pb2_grpc import (
    add_InstrumentServiceServicer_to_server,
)

from services.common import requests
from services.common.clock import SystemClock
from services.common.host import Host, main
from services.common.wiring import add_relays, open_database
from services.common.work import UnitOfWork
from services.instrument.repository import Instruments, PostgresInstruments
from services.instrument.servicer import InstrumentServicer


async def wire(host: Host) -> None:
    """Add the instrument service to a host."""
    database = await open_database(host, "instrument")
    relays = add_relays(host, "instrument")
    host.add_task("instrument request keys", lambda: requests.keep_purged(database))
    unit: UnitOfWork[Instruments] = UnitOfWork(database, host.settings, PostgresInstruments, relays)
    host.add_service(
        add_InstrumentServiceServicer_to_server,
        InstrumentServicer(unit, SystemClock()),
        instrument_service_pb2.DESCRIPTOR.services_by_name["InstrumentService"],
    )


if __name__ == "__main__":
    main(wire)
