"""Moves closed months of the outboxes into the archive.

A partition is written, read back, compared with the table and only then dropped,
never deleted row by row. All of it happens in one transaction that keeps writers
out of the partition, so what was compared is what is dropped; a crash leaves the
table as it was, and a second run takes up a file that is finished already.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import asyncpg

from services.common import archive_files
from services.common.archive import ArchiveError, Chain, Manifest, Summary, digest, load, publish

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

ROWS_AHEAD = 16
LOCK_TIMEOUT_MS = 500
"""Whoever comes after us in the queue for the outbox waits for so long at most."""
ATTEMPTS = 10
ANY_MONTH = "9999-12"
NAME = re.compile(r"outbox_(\d{4})_(\d{2})")

_SERVICES = """
SELECT n.nspname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relname = 'outbox' AND c.relkind = 'p' ORDER BY n.nspname
"""
_PARTITIONS = """
SELECT c.relname FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
WHERE i.inhparent = to_regclass($1) ORDER BY c.relname
"""
_CLOCK = "SELECT clock_timestamp()"
_OPEN_SINCE = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start < $1
"""
_UNPUBLISHED = """
SELECT EXISTS (
    SELECT FROM {service}.outbox_cursors AS c, LATERAL (
        SELECT FROM {service}.{name} AS o WHERE o.shard = c.shard
        AND (o.transaction_id, o.id) > (c.transaction_id, c.id) LIMIT 1) AS later
) OR EXISTS (
    SELECT FROM {service}.{name} AS o
    WHERE NOT EXISTS (SELECT FROM {service}.outbox_cursors AS c WHERE c.shard = o.shard)
)
"""
_ROWS = """
SELECT transaction_id::text::bigint AS transaction_id, id AS outbox_id, shard, recorded_at,
    tenant_id, topic, event_ids, types, versions, keys, sequences, payloads, traceparent, reason
FROM {service}.{name} ORDER BY {name}.transaction_id, {name}.id
"""
# Postgres hashes; nothing here has passed through the code that writes the file.
_HASHES = """
SELECT transaction_id::text::bigint AS transaction_id, id,
    (extract(epoch FROM recorded_at) * 1000000)::bigint AS recorded_us,
    ARRAY(SELECT sha256(payload) FROM unnest(payloads) WITH ORDINALITY AS p(payload, at)
          ORDER BY at) AS payloads,
    ARRAY(SELECT sha256(convert_to(concat_ws(E'\\x1f',
              transaction_id, id, at - 1, shard,
              (extract(epoch FROM recorded_at) * 1000000)::bigint, tenant_id, topic, key, sequence,
              event_id, type, version, coalesce(traceparent, ''), coalesce(reason, '')), 'UTF8'))
          FROM unnest(event_ids, types, versions, keys, sequences) WITH ORDINALITY
              AS h(event_id, type, version, key, sequence, at)
          ORDER BY at) AS headers
FROM {service}.{name} ORDER BY {name}.transaction_id, {name}.id
"""


@dataclass(frozen=True, slots=True)
class Partition:
    """One month of the outbox of a service."""

    service: str
    name: str

    @property
    def month(self) -> str:
        """The month, such as `2026-10`."""
        return self.name.removeprefix("outbox_").replace("_", "-")

    @property
    def end(self) -> datetime:
        """The first moment after the month."""
        year, month = map(int, self.month.split("-"))
        return datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)

    def sql(self, template: str) -> str:
        """Return a statement on the partition; its name is from the catalogue."""
        return template.format(service=self.service, name=self.name)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a partition."""

    partition: Partition
    manifest: Manifest | None = None
    dropped: bool = False
    refused: str = ""
    """Why it stays where it is, when nothing was written."""


async def services(connection: Connection) -> list[str]:
    """Return the services that have an outbox in this database."""
    return [row["nspname"] for row in await connection.fetch(_SERVICES)]


async def archive(
    connection: Connection,
    folder: Path,
    names: Sequence[str] = (),
    before: str = ANY_MONTH,
    *,
    keep: bool = False,
) -> AsyncIterator[Outcome]:
    """Archive the closed months before `before` of some services, or of all, oldest first.

    `connection` is the owner's. With `keep`, partitions stay beside their files.
    Raises ArchiveError when a file is not what the table holds, or can't be.
    """
    known = await services(connection)
    if unknown := sorted(set(names) - set(known)):
        raise ArchiveError(f"no outbox of {', '.join(unknown)}; there are {', '.join(known)}")
    for service in names or known:
        now = await connection.fetchval(_CLOCK)
        for row in await connection.fetch(_PARTITIONS, f"{service}.outbox"):
            partition = Partition(service, row["relname"])
            if not NAME.fullmatch(partition.name):
                continue  # the default one, for rows that no month takes
            if partition.month < before and partition.end <= now:
                yield await _archive(connection, folder, partition, keep)


async def _archive(
    connection: Connection, folder: Path, partition: Partition, keep: bool
) -> Outcome:
    async with _held(connection, partition):
        if refused := await _refusal(connection, partition):
            return Outcome(partition, refused=refused)
        kept = await _summarise_table(connection, partition)
        manifest = _existing(folder, partition)
        if manifest is None:
            manifest = await _write(connection, folder, partition, kept)
        elif manifest.summary != kept:
            raise ArchiveError(
                f"{manifest.path} holds other events than {partition.service}.{partition.name}: "
                f"{_difference(manifest.summary, kept)}"
            )
        else:
            manifest.check()
        if not keep:
            await _drop(connection, partition)
    return Outcome(partition, manifest, dropped=not keep)


@asynccontextmanager
async def _held(connection: Connection, partition: Partition) -> AsyncIterator[None]:
    """Keep writers, and a second archiver, away from a partition; its readers go on."""
    async with connection.transaction():
        mine = "SELECT pg_try_advisory_xact_lock(hashtext('archive'), hashtext($1))"
        if not await connection.fetchval(mine, partition.service):
            raise ArchiveError(f"somebody else archives the events of {partition.service} now")
        await connection.execute(
            partition.sql(
                "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '10s'; "
                "LOCK TABLE {service}.{name} IN SHARE MODE"
            )
        )
        yield


async def _refusal(connection: Connection, partition: Partition) -> str:
    # An event is dated by the start of its transaction: one from before the end
    # of the month may still bring some.
    if count := await connection.fetchval(_OPEN_SINCE, partition.end):
        return f"{count} transactions that began before its end still run"
    if await connection.fetchval(partition.sql(_UNPUBLISHED)):
        return "some of its events are not published yet"
    return ""


async def _summarise_table(connection: Connection, partition: Partition) -> Summary:
    """Count and hash a partition as the table has it."""
    payloads, headers = Chain(), Chain()
    rows = events = 0
    first = last = None
    recorded: list[int] = []
    query = partition.sql(_HASHES)
    async for row in connection.cursor(query, prefetch=ROWS_AHEAD):
        last = (row["transaction_id"], row["id"])
        first = first or last
        rows += 1
        events += len(row["payloads"])
        recorded = [*recorded, row["recorded_us"]]
        recorded = [min(recorded), max(recorded)]
        for hashed in row["payloads"]:
            payloads.add(hashed)
        for hashed in row["headers"]:
            headers.add(hashed)
    oldest, newest = recorded or (None, None)
    chains = payloads.hexdigest(), headers.hexdigest()
    return Summary(rows, events, oldest, newest, first, last, *chains)


def _existing(folder: Path, partition: Partition) -> Manifest | None:
    path = folder / partition.service / f"{partition.name}.json"
    return load(path) if path.exists() else None


async def _write(
    connection: Connection, folder: Path, partition: Partition, kept: Summary
) -> Manifest:
    """Write the file and its manifest, after the file was read back and compared."""
    target = folder / partition.service
    target.mkdir(parents=True, exist_ok=True)
    draft = target / f"{partition.name}.parquet.draft"
    with archive_files.Writer(draft) as writer:
        query = partition.sql(_ROWS)
        async for row in connection.cursor(query, prefetch=ROWS_AHEAD):
            writer.add(row)
    written = await asyncio.to_thread(archive_files.summarise, draft)
    if written != kept:
        raise ArchiveError(
            f"{draft} is not what {partition.service}.{partition.name} holds: "
            f"{_difference(written, kept)}"
        )
    sha256 = await asyncio.to_thread(digest, draft)
    manifest = Manifest(target, partition.service, partition.name, sha256, written)
    publish(draft, manifest.path)
    manifest.store()
    return manifest


def _difference(found: Summary, expected: Summary) -> str:
    pairs = zip(astuple(found), astuple(expected), Summary.__dataclass_fields__, strict=True)
    return ", ".join(f"{name} was {a}, expected {b}" for a, b, name in pairs if a != b)


async def _drop(connection: Connection, partition: Partition) -> None:
    """Detach and drop a partition without making the outbox's writers wait."""
    for _ in range(ATTEMPTS):
        try:
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
                await connection.execute(
                    partition.sql("ALTER TABLE {service}.outbox DETACH PARTITION {service}.{name}")
                )
                await connection.execute(partition.sql("DROP TABLE {service}.{name}"))
            return
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            await asyncio.sleep(1)
    raise ArchiveError(
        f"{partition.service}.{partition.name} is archived but stays: the outbox is in use by a "
        "long read, such as a rebuild; run this again after it"
    )
