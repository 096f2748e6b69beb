"""Wires the account service."""

from interchange.account.v1 import account_service_pb2
from interchange.account.v1.account_service_pb2_grpc import add_AccountServiceServicer_to_server

from services.account.repository import Accounts, PostgresAccounts
from services.account.servicer import AccountServicer
from services.common import requests
from services.common.clock import SystemClock
from services.common.db import Database
from services.common.host import Host, main
from services.common.relay import Relay
from services.common.upkeep import add_upkeep
from services.common.work import UnitOfWork


async def wire(host: Host) -> None:
    """Add the account service to a host."""
    database = await Database.open(host.settings, "account")
    host.on_close(database.close)
    add_upkeep(host, database)
    host.add_check("account database", database.check)
    relays = [
        Relay(host.settings, "account", shard) for shard in range(host.settings.outbox_shards)
    ]
    for shard, relay in enumerate(relays):
        host.add_task(f"account relay {shard}", relay.run)
    host.add_task("account request keys", lambda: requests.keep_purged(database))
    unit: UnitOfWork[Accounts] = UnitOfWork(database, host.settings, PostgresAccounts, relays)
    host.add_service(
        add_AccountServiceServicer_to_server,
        AccountServicer(unit, SystemClock(), host.settings.batch_size_max),
        account_service_pb2.DESCRIPTOR.services_by_name["AccountService"],
    )


if __name__ == "__main__":
    main(wire)
