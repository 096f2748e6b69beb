"""Wires the NLU service: it has no events, so neither relay nor consumer."""

from interchange.nlu.v1 import nlu_service_pb2
from interchange.nlu.v1.nlu_service_pb2_grpc import add_NluServiceServicer_to_server

from services.common import requests
from services.common.clock import SystemClock
from services.common.host import Host, main
from services.common.wiring import open_database
from services.common.work import UnitOfWork
from services.nlu.jobs import PostgresJobs
from services.nlu.providers import LocalProvider
from services.nlu.repository import Models, PostgresModels
from services.nlu.servicer import NluServicer
from services.nlu.shelf import PostgresVersions, Shelf
from services.nlu.trainer import Trainer, learn


async def wire(host: Host) -> None:
    """Add the NLU service to a host."""
    settings = host.settings
    database = await open_database(host, "nlu")
    unit: UnitOfWork[Models] = UnitOfWork(database, settings, PostgresModels, relays=[])
    shelf = Shelf(PostgresVersions(database, unit), settings)
    trainer = Trainer(PostgresJobs(database, settings.nlu_training_lease_ms), learn, settings)
    host.add_task("nlu request keys", lambda: requests.keep_purged(database))
    host.add_task("nlu shelf", shelf.run)
    host.add_task("nlu trainer", trainer.run)
    host.add_service(
        add_NluServiceServicer_to_server,
        NluServicer(LocalProvider(shelf), unit, SystemClock(), trainer.wake),
        nlu_service_pb2.DESCRIPTOR.services_by_name["NluService"],
    )


if __name__ == "__main__":
    main(wire)
