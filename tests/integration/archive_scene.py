"""A made-up service with months of events: rows of the past, as if recorded then."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import asyncpg

from services.common import archiver, event_feed
from services.common.archiver import Outcome
from services.common.config import Settings
from services.common.events import Event
from services.stack.stack import Stack
from tests.integration.echo import TYPE, payload

TOPIC = "echo-events"
MONTHS = ("2026-01", "2026-02", "2026-03")
PARTITIONS = ["outbox_2026_01", "outbox_2026_02", "outbox_2026_03"]

_INSERT = """
INSERT INTO echo.outbox (tenant_id, shard, topic, recorded_at, event_ids, types, versions, keys,
    sequences, payloads, traceparent, reason)
VALUES ($1, $2, $3, $4::text::timestamptz, $5::uuid[], $6, $7, $8, $9, $10, $11, $12)
"""


class Past:
    """The owner's view of the database of the tests."""

    def __init__(
        self, url: str, connection: "asyncpg.Connection[asyncpg.Record]", folder: Path
    ) -> None:
        self.url = url
        self.connection = connection
        self.folder = folder

    async def month(self, name: str) -> None:
        """Make the partition of a month, as a year of use would have."""
        await self.connection.execute(
            "SELECT mesh.ensure_partition('echo.outbox', 'time', $1::text::timestamptz)",
            f"{name}-01 00:00+00",
        )

    async def record(
        self,
        at: str,
        sequences: Sequence[int],
        key: str = "K1",
        *,
        tenant_id: str = "demo",
        topic: str = TOPIC,
        shard: int = 0,
    ) -> None:
        """Commit a row of events that is dated `at`."""
        count = len(sequences)
        await self.connection.execute(
            _INSERT,
            tenant_id,
            shard,
            topic,
            at,
            [str(uuid4()) for _ in sequences],
            [TYPE] * count,
            [1] * count,
            [key] * count,
            list(sequences),
            [payload(sequence) for sequence in sequences],
            "00-trace" if sequences[0] % 2 else None,
            "why" if topic.endswith(".dead") else None,
        )

    async def publish(self) -> None:
        """Put the cursors behind everything, as the relays would."""
        await self.connection.execute(
            "INSERT INTO echo.outbox_cursors SELECT shard, pg_current_xact_id(), max(id) "
            "FROM echo.outbox GROUP BY shard ON CONFLICT (shard) DO UPDATE "
            "SET transaction_id = excluded.transaction_id, id = excluded.id"
        )

    async def year(self) -> None:
        """Write three months of two keys and two tenants, and something of today; publish."""
        for number, month in enumerate(MONTHS):
            await self.month(month)
            first = 4 * number + 1
            await self.record(f"{month}-01 00:00+00", [first, first + 1])
            await self.record(f"{month}-09 12:00:00.123456+00", [first], "K2", tenant_id="acme")
            await self.record(f"{month}-20 12:00+00", [7], "K1", topic=TOPIC + ".dead")
            await self.record(f"{month}-28 23:59:59.999999+00", [first + 2, first + 3], shard=0)
        await self.record(str(datetime.now(UTC)), [13, 14])
        await self.publish()

    async def archive(
        self, before: str = archiver.ANY_MONTH, *, keep: bool = False
    ) -> list[Outcome]:
        found = archiver.archive(self.connection, self.folder, ["echo"], before, keep=keep)
        return [outcome async for outcome in found]

    async def partitions(self) -> list[str]:
        rows = await self.connection.fetch(
            "SELECT relname FROM pg_class WHERE relname ~ '^outbox_20' "
            "AND relnamespace = 'echo'::regnamespace AND relkind = 'r' ORDER BY relname"
        )
        return [row["relname"] for row in rows if row["relname"] in PARTITIONS]

    async def rows(self) -> int:
        count = await self.connection.fetchval("SELECT count(*) FROM echo.outbox")
        assert isinstance(count, int)
        return count


@asynccontextmanager
async def past(stack: Stack, folder: Path) -> AsyncIterator[Past]:
    url = stack.database_url().rpartition("/")[0] + "/mesh_tests"
    connection = await asyncpg.connect(url)
    try:
        yield Past(url, connection, folder)
    finally:
        await connection.close()


async def streamed(settings: Settings, tenant_id: str = "") -> list[Event]:
    """Return all events of the topic."""
    rows = event_feed.stream(settings, TOPIC, tenant_id)
    return [event async for row in rows for event in row]
