"""Upkeep: what a service's tables need day by day."""

import asyncio

import structlog

from services.common.db import Database
from services.common.host import Host

log = structlog.get_logger()

DAY_S = 24 * 3600.0
RETRY_S = 300.0
LOCK_TIMEOUT_MS = 3_000


def add_upkeep(host: Host, database: Database) -> None:
    """Keep the partitions of the coming months made, for as long as the host runs."""
    host.add_task(f"{database.service} upkeep", lambda: keep_partitions(database))


async def keep_partitions(database: Database) -> None:
    """Make the partitions of this month and the next three, daily, until cancelled.

    Three months ahead, a failure can wait for the next attempt; rows without a
    partition would go to the default one, which is never archived.
    """
    while True:
        try:
            await ensure_partitions(database)
            pause_s = DAY_S
        except Exception as error:
            log.error("partitions not made", service=database.service, error=repr(error))
            pause_s = RETRY_S
        await asyncio.sleep(pause_s)


async def ensure_partitions(database: Database) -> None:
    """Make the partitions that are missing, of all services in the database."""
    async with database.pipeline() as connection:
        # A new partition locks the default one: writers must not queue behind us for long.
        await connection.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
        await connection.execute("SELECT mesh.ensure_partitions()")
