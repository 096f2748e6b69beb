"""The agent service: knows who is free for what, and gives each conversation to the best."""

from interchange.agent.v1 import agent_service_pb2
from interchange.agent.v1.agent_service_pb2_grpc import add_AgentServiceServicer_to_server

from services.agent import consumer
from services.agent.matching import Matching
from services.agent.repository import PostgresAgents
from services.agent.servicer import AgentServicer
from services.common import redis, requests, upcasters
from services.common.applier import Applier
from services.common.clock import SystemClock
from services.common.consumer import EventConsumer
from services.common.event_store import EventStore
from services.common.events import EventTypes
from services.common.host import Host, main
from services.common.push import Pusher
from services.common.wiring import add_relays, open_database
from services.common.work import UnitOfWork

PACE_MS = 8
"""A conversation that was handed over waits for its agent."""


async def wire(host: Host) -> None:
    """Put the agent service together."""
    settings, clock = host.settings, SystemClock()
    database = await open_database(host, "agent")
    client = redis.connect(settings)
    host.on_close(client.aclose)
    relays = add_relays(host, "agent")
    host.add_task("agent request keys", lambda: requests.keep_purged(database))
    units = UnitOfWork(database, settings, PostgresAgents, relays)
    pusher = Pusher(client, settings)
    host.add_task("agent pushes", pusher.run)
    matching = Matching(units, database, client, pusher, clock, settings)
    for name, run in matching.tasks().items():
        host.add_task(f"agent {name}", run)
    noted = consumer.Noted()
    applier = Applier(
        database,
        units,
        EventTypes(consumer.MESSAGES, upcasters.UPCASTERS, upcasters.VERSIONS),
        consumer.on_events(clock, settings, noted),
        EventStore(settings),
        settings.consumer_gap_wait_ms,
        lambda: noted.tell(matching.agenda),
    )
    events = EventConsumer(settings, database, consumer.TOPICS, applier, pace_ms=PACE_MS)
    host.add_task("agent consumer", events.run)
    host.add_service(
        add_AgentServiceServicer_to_server,
        AgentServicer(matching.tools, matching.mirrors, settings.batch_size_max),
        agent_service_pb2.DESCRIPTOR.services_by_name["AgentService"],
    )


if __name__ == "__main__":
    main(wire)
