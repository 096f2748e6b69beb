"""Wires the account service."""

from interchange.account.v1 import account_service_pb2
from interchange.account.v1.account_service_pb2_grpc import add_AccountServiceServicer_to_server

from services.account.repository import Accounts, PostgresAccounts
from services.account.servicer import AccountServicer
from services.common import requests
from services.common.clock import SystemClock
from services.common.host import Host, main
from services.common.wiring import add_relays, open_database
from services.common.work import UnitOfWork


async def wire(host: Host) -> None:
    """Add the account service to a host."""
    database = await open_database(host, "account")
    relays = add_relays(host, "account")
    host.add_task("account request keys", lambda: requests.keep_purged(database))
    unit: UnitOfWork[Accounts] = UnitOfWork(database, host.settings, PostgresAccounts, relays)
    host.add_service(
        add_AccountServiceServicer_to_server,
        AccountServicer(unit, SystemClock(), host.settings.batch_size_max),
        account_service_pb2.DESCRIPTOR.services_by_name["AccountService"],
    )


if __name__ == "__main__":
    main(wire)
