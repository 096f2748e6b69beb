"""What the wiring of every service has in common."""

from services.common.db import Database
from services.common.host import Host
from services.common.relay import Relay
from services.common.upkeep import add_upkeep


async def open_database(host: Host, service: str) -> Database:
    """Open the database of a service for as long as the host runs, with check and upkeep."""
    database = await Database.open(host.settings, service)
    host.on_close(database.close)
    add_upkeep(host, database)
    # Named for the service: a process may host several.
    host.add_check(f"{service} database", database.check)
    return database


def add_relays(host: Host, service: str) -> list[Relay]:
    """Run the relays of a service's outbox, one a shard."""
    relays = [Relay(host.settings, service, shard) for shard in range(host.settings.outbox_shards)]
    for shard, relay in enumerate(relays):
        host.add_task(f"{service} relay {shard}", relay.run)
    return relays
