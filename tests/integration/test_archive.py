"""Closed months move into files that hold the same, and nothing gets lost between."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pyarrow.parquet as pq
import pytest

from services.common import archive, archive_files, archiver
from services.common.archive import ArchiveError
from services.common.archiver import Partition
from services.stack.stack import Stack
from tests.integration.archive_scene import MONTHS, PARTITIONS, Past, past, streamed
from tests.integration.echo import create_database, service_settings


@pytest.fixture
async def store(servers: Stack, tmp_path: Path) -> AsyncIterator[Past]:
    await create_database(servers)
    async with past(servers, tmp_path) as found:
        await found.year()
        yield found


async def test_closed_months_become_files_and_their_partitions_go(store: Past) -> None:
    before = await store.connection.fetch(
        "SELECT o.recorded_at, o.tenant_id, e.* FROM echo.outbox AS o, "
        "unnest(event_ids, keys, sequences, payloads) AS e(event_id, key, sequence, payload) "
        "WHERE recorded_at < '2026-02-01Z' ORDER BY o.transaction_id, o.id"
    )

    outcomes = await store.archive()

    assert [outcome.partition.name for outcome in outcomes if outcome.dropped] == PARTITIONS
    assert await store.partitions() == []
    assert await store.rows() == 1
    table = pq.read_table(store.folder / "echo" / "outbox_2026_01.parquet").to_pylist()
    columns = ("recorded_at", "tenant_id", "event_id", "key", "sequence", "payload")
    assert [tuple(row[name] for name in columns) for row in table] == [
        tuple(row[name].bytes if name == "event_id" else row[name] for name in columns)
        for row in before
    ]
    assert [row["index"] for row in table] == [0, 1, 0, 0, 0, 1]
    assert [row["reason"] for row in table] == [None, None, None, "why", None, None]


async def test_manifest_says_what_the_file_holds(store: Past) -> None:
    await store.archive()

    content = json.loads((store.folder / "echo" / "outbox_2026_02.json").read_text())

    assert (content["rows"], content["events"], content["format"]) == (4, 6, 1)
    assert content["file"] == "outbox_2026_02.parquet"
    assert content["sha256"] == archive.digest(store.folder / "echo" / content["file"])
    assert content["recorded_from_us"] == 1769904000_000000
    assert content["recorded_to_us"] == 1772323199_999999
    assert list(archive.verify(store.folder)) == archive.manifests(store.folder, "echo")


async def test_months_from_the_given_one_on_stay(store: Past) -> None:
    await store.archive("2026-02")

    assert await store.partitions() == PARTITIONS[1:]


async def test_kept_partition_is_dropped_by_a_later_run(store: Past) -> None:
    await store.archive(keep=True)
    written = (store.folder / "echo" / "outbox_2026_01.parquet").stat().st_mtime_ns
    assert await store.partitions() == PARTITIONS

    await store.archive()

    assert await store.partitions() == []
    assert (store.folder / "echo" / "outbox_2026_01.parquet").stat().st_mtime_ns == written


async def test_month_with_an_unpublished_event_stays(store: Past) -> None:
    await store.record("2026-02-03 00:00+00", [99], "late")

    outcomes = await store.archive()

    assert [o.refused for o in outcomes] == ["", "some of its events are not published yet", ""]
    assert await store.partitions() == ["outbox_2026_02"]


async def test_month_with_events_of_a_shard_that_no_relay_published_stays(store: Past) -> None:
    await store.record("2026-02-03 00:00+00", [1], "other", shard=3)

    await store.archive()

    assert await store.partitions() == ["outbox_2026_02"]


async def test_current_month_and_the_default_partition_stay(store: Past) -> None:
    await store.archive()

    live = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'echo.outbox'::regclass"
    assert await store.connection.fetchval(live) == 5


async def test_month_that_an_open_transaction_may_write_to_stays(store: Past) -> None:
    this_month = Partition("echo", f"outbox_{datetime.now(UTC):%Y_%m}")
    other = await asyncpg.connect(store.url)
    async with other.transaction():
        await other.execute("SELECT 1")
        refused = await archiver._refusal(store.connection, this_month)
    await other.close()

    assert refused == "1 transactions that began before its end still run"


async def test_month_without_events_is_an_empty_file(store: Past) -> None:
    await store.month("2025-12")

    [outcome, *_] = await store.archive()

    assert outcome.manifest is not None
    assert outcome.manifest.summary.rows == 0
    assert pq.read_table(outcome.manifest.path).num_rows == 0


async def test_unknown_service_is_refused(store: Past) -> None:
    with pytest.raises(ArchiveError, match="no outbox of nobody; there are echo"):
        [o async for o in archiver.archive(store.connection, store.folder, ["nobody"])]


KILL = """
import asyncio, os, signal, sys
from pathlib import Path
import asyncpg
from services.common import archive, archive_files, archiver

def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)

owner, name = sys.argv[3].split(".")
setattr({"archiver": archiver, "files": archive_files, "Manifest": archive.Manifest}[owner],
        name, kill)

async def main():
    connection = await asyncpg.connect(sys.argv[1])
    async for _ in archiver.archive(connection, Path(sys.argv[2]), ["echo"]):
        pass

asyncio.run(main())
"""


@pytest.mark.parametrize(
    "line",
    ["files.summarise", "archiver.digest", "archiver.publish", "Manifest.store", "archiver._drop"],
)
async def test_killed_archiver_loses_nothing_and_the_next_run_ends_it(
    store: Past, servers: Stack, line: str
) -> None:
    settings = service_settings(servers, archive_dir=store.folder)
    everything = await streamed(settings)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILL, store.url, str(store.folder), line
    )
    assert await process.wait() == -signal.SIGKILL
    assert await store.partitions() == PARTITIONS
    assert await streamed(settings) == everything
    list(archive.verify(store.folder))

    await store.archive()

    assert await store.partitions() == []
    assert await streamed(settings) == everything
    assert len(list(archive.verify(store.folder))) == len(MONTHS)
    assert not list(store.folder.glob("**/*.draft"))


async def test_file_that_is_not_the_table_keeps_the_partition(
    store: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = archive_files.Writer.add

    def swapped(self: archive_files.Writer, row: dict[str, Any]) -> None:
        add(self, {**row, "sequences": row["sequences"][::-1]})

    monkeypatch.setattr(archive_files.Writer, "add", swapped)
    with pytest.raises(ArchiveError, match="header_chain was"):
        await store.archive()

    assert await store.partitions() == PARTITIONS
    assert archive.manifests(store.folder, "echo") == []


async def test_partition_that_differs_from_its_file_is_not_dropped(store: Past) -> None:
    await store.archive(keep=True)
    await store.connection.execute("UPDATE echo.outbox_2026_02 SET payloads[1] = 'changed'")

    with pytest.raises(ArchiveError, match=r"holds other events .*: payload_chain"):
        await store.archive()

    assert await store.partitions() == PARTITIONS[1:]


async def test_partition_stays_when_its_file_was_damaged_since(store: Past) -> None:
    await store.archive(keep=True)
    damage(store.folder / "echo" / "outbox_2026_01.parquet")

    with pytest.raises(ArchiveError, match="SHA-256 was"):
        await store.archive()

    assert await store.partitions() == PARTITIONS


async def test_verify_names_the_first_wrong_file(store: Past) -> None:
    await store.archive()
    damage(store.folder / "echo" / "outbox_2026_02.parquet")
    (store.folder / "echo" / "outbox_2026_03.parquet").unlink()

    checked = []
    with pytest.raises(ArchiveError, match=r"outbox_2026_02\.parquet: SHA-256 was"):
        for manifest in archive.verify(store.folder):
            checked.append(manifest.name)

    assert checked == PARTITIONS[:1]


def damage(path: Path) -> None:
    """Flip one bit in the middle."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        [byte] = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))


async def test_long_read_keeps_the_partition_and_hinders_no_writer(
    store: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archiver, "ATTEMPTS", 2)
    reader, writer = await asyncpg.connect(store.url), await asyncpg.connect(store.url)
    late = Past(store.url, writer, store.folder)
    async with reader.transaction():
        await reader.execute("LOCK TABLE echo.outbox IN ACCESS SHARE MODE")
        monkeypatch.setattr(archiver, "_OPEN_SINCE", "SELECT $1::timestamptz IS NULL")
        running = asyncio.create_task(store.archive())
        async with asyncio.timeout(5):
            for number in range(15, 20):
                await late.record(str(datetime.now(UTC)), [number])
                await asyncio.sleep(0.3)
        with pytest.raises(ArchiveError, match="in use by a long read"):
            await running
    await reader.close()
    await writer.close()

    assert await store.partitions() == PARTITIONS
    assert len(archive.manifests(store.folder, "echo")) == 1


async def test_second_archiver_at_the_same_time_is_refused(store: Past) -> None:
    other = await asyncpg.connect(store.url)
    async with other.transaction():
        await other.execute("SELECT pg_advisory_xact_lock(hashtext('archive'), hashtext('echo'))")
        with pytest.raises(ArchiveError, match="somebody else archives the events of echo"):
            await store.archive()
    await other.close()


async def test_row_groups_hold_whole_rows_and_stay_small(
    store: Past, servers: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_files, "GROUP_EVENTS", 3)
    settings = service_settings(servers, archive_dir=store.folder)
    everything = await streamed(settings)

    await store.archive()

    file = pq.ParquetFile(store.folder / "echo" / "outbox_2026_01.parquet")
    assert [file.metadata.row_group(n).num_rows for n in range(2)] == [3, 3]
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"
    assert await streamed(settings) == everything
