"""Wires the session service."""

from datetime import timedelta
from functools import partial

from interchange.session.v1 import session_service_pb2
from interchange.session.v1.session_service_pb2_grpc import add_SessionServiceServicer_to_server

from services.common import redis
from services.common.config import Settings
from services.common.host import Host, main
from services.common.push import Pusher
from services.common.wiring import add_relays, open_database
from services.common.work import UnitOfWork
from services.session.domain import Timings
from services.session.repository import Clock, PostgresSessions, Sessions, database_time
from services.session.servicer import SessionServicer
from services.session.sweep import Sweep


async def wire(host: Host) -> None:
    """Add the session service to a host."""
    sweep = await wire_by(host, database_time)
    host.add_task("session sweep", sweep.run)


async def wire_by(host: Host, clock: Clock) -> Sweep:
    """Add the service by a clock, and return the sweep, which is not running."""
    settings = host.settings
    database = await open_database(host, "session")
    relays = add_relays(host, "session")
    client = redis.connect(settings)
    host.on_close(client.aclose)
    pusher = Pusher(client, settings)
    host.add_task("session pushes", pusher.run)
    unit: UnitOfWork[Sessions] = UnitOfWork(
        database, settings, partial(PostgresSessions, clock=clock), relays
    )
    timings = timings_of(settings)
    host.add_service(
        add_SessionServiceServicer_to_server,
        SessionServicer(unit, timings, pusher, settings.batch_size_max),
        session_service_pb2.DESCRIPTOR.services_by_name["SessionService"],
    )
    return Sweep(database, unit, timings, pusher, clock)


def timings_of(settings: Settings) -> Timings:
    """Return how long what lives without another sign."""
    return Timings(
        heartbeat_ms=settings.session_heartbeat_ms,
        lease=timedelta(milliseconds=settings.session_lease_ms),
        resume=timedelta(milliseconds=settings.session_resume_ms),
        keep=timedelta(milliseconds=settings.session_keep_ms),
    )


if __name__ == "__main__":
    main(wire)
