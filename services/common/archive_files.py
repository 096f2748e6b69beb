"""The Parquet files of the archive: one row an event, in the order of the event store.

A row group holds whole rows of the outbox and is what is held in memory at a time.
"""

import hashlib
import os
import time
from collections.abc import Generator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from services.common.admission import KeyId
from services.common.archive import Chain, Manifest, StoredRow, Summary
from services.common.events import Event

GROUP_EVENTS = 20_000
GROUP_BYTES = 16 << 20
"""A row group is written once it has so many events, or payloads so large."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

SCHEMA = pa.schema(
    [
        pa.field("transaction_id", pa.int64(), nullable=False),
        pa.field("outbox_id", pa.int64(), nullable=False),
        pa.field("index", pa.int32(), nullable=False),
        pa.field("shard", pa.int16(), nullable=False),
        pa.field("recorded_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("tenant_id", pa.string(), nullable=False),
        pa.field("topic", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("sequence", pa.int64(), nullable=False),
        pa.field("event_id", pa.binary(16), nullable=False),
        pa.field("type", pa.string(), nullable=False),
        pa.field("version", pa.int16(), nullable=False),
        pa.field("payload", pa.binary(), nullable=False),
        pa.field("traceparent", pa.string()),
        pa.field("reason", pa.string()),
    ]
)
"""Columns of a file; `index` counts the events of one row of the outbox from 0."""
REPEATING = ["tenant_id", "topic", "key", "type", "traceparent", "reason"]
"""Columns of few values, which are stored once in a dictionary."""
PLACE = ["transaction_id", "outbox_id"]
EVENT = ["tenant_id", "topic", "key", "sequence", "event_id", "type", "version", "payload"]
EVENT += ["traceparent"]
"""The fields of an Event, in their order."""


class Writer:
    """Writes a file, one row group at a time; it is durable when the block ends."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._parquet = pq.ParquetWriter(
            self._file, SCHEMA, compression="zstd", use_dictionary=REPEATING
        )
        self._start()

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._flush()
        self._parquet.close()
        if kind is None:
            self._file.flush()
            os.fsync(self._file.fileno())
        self._file.close()

    def add(self, row: asyncpg.Record) -> None:
        """Take a row of the outbox."""
        count = len(row["payloads"])
        columns = self._columns
        for name in ("transaction_id", "outbox_id", "shard", "recorded_at", "tenant_id", "topic"):
            columns[name] += [row[name]] * count
        for name in ("traceparent", "reason"):
            columns[name] += [row[name]] * count
        columns["index"] += range(count)
        columns["event_id"] += [event_id.bytes for event_id in row["event_ids"]]
        for name in ("type", "version", "key", "sequence", "payload"):
            columns[name] += row[name + "s"]
        self._bytes += sum(map(len, row["payloads"]))
        if len(columns["index"]) >= GROUP_EVENTS or self._bytes >= GROUP_BYTES:
            self._flush()

    def _start(self) -> None:
        self._columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
        self._bytes = 0

    def _flush(self) -> None:
        count = len(self._columns["index"])
        if count:
            self._parquet.write_table(pa.table(self._columns, SCHEMA), row_group_size=count)
        self._start()


def summarise(path: Path) -> Summary:
    """Count and hash a file as it is on disk."""
    payloads, headers = Chain(), Chain()
    rows = events = 0
    first = last = None
    recorded: list[int] = []
    with pq.ParquetFile(path) as file:
        for number in range(file.num_row_groups):
            for event in file.read_row_group(number).to_pylist():
                place = (event["transaction_id"], event["outbox_id"])
                recorded_us = (event["recorded_at"] - EPOCH) // timedelta(microseconds=1)
                if place != last:
                    rows += 1
                    recorded = [min([*recorded[:1], recorded_us]), max([*recorded, recorded_us])]
                first, last = first or place, place
                events += 1
                payloads.add(hashlib.sha256(event["payload"]).digest())
                headers.add(hashlib.sha256(_header(event, recorded_us)).digest())
    oldest, newest = recorded or (None, None)
    chains = payloads.hexdigest(), headers.hexdigest()
    return Summary(rows, events, oldest, newest, first, last, *chains)


def _header(event: dict[str, Any], recorded_us: int) -> bytes:
    """Return the columns of an event but the payload, as `archiver` has Postgres join them."""
    values = [event["transaction_id"], event["outbox_id"], event["index"], event["shard"]]
    values += [recorded_us, event["tenant_id"], event["topic"], event["key"], event["sequence"]]
    values += [UUID(bytes=event["event_id"]), event["type"], event["version"]]
    values += [event["traceparent"] or "", event["reason"] or ""]
    return "\x1f".join(map(str, values)).encode()


def stream(
    manifest: Manifest, topic: str, tenant_id: str = ""
) -> Generator[list[StoredRow], None, None]:
    """Yield the rows of a topic, of one tenant or of all, a row group at a time."""
    wanted = pc.field("topic") == topic
    if tenant_id:
        wanted &= pc.field("tenant_id") == tenant_id
    with pq.ParquetFile(manifest.path) as file:
        for number in range(file.num_row_groups):
            table = file.read_row_group(number, [*PLACE, *EVENT]).filter(wanted)
            rows: list[StoredRow] = []
            places = zip(*(table[name].to_pylist() for name in PLACE), strict=True)
            for place, event in zip(places, _events(table), strict=True):
                if not rows or rows[-1].position != place:
                    rows.append(StoredRow(place, []))
                rows[-1].events.append(event)
            yield rows


def find(
    manifest: Manifest, key: KeyId, first: int, last: int, deadline: float
) -> dict[int, Event]:
    """Return the events of a key numbered first to last that the file holds, by number.

    Reads the narrow columns first, so that a payload is only read where there is
    a hit. Raises TimeoutError when `time.monotonic()` passes the deadline.
    """
    tenant_id, topic, name = key
    wanted = (
        (pc.field("key") == name)
        & (pc.field("tenant_id") == tenant_id)
        & (pc.field("topic") == topic)
        & (pc.field("sequence") >= first)
        & (pc.field("sequence") <= last)
    )
    found: dict[int, Event] = {}
    with pq.ParquetFile(manifest.path) as file:
        for number in reversed(range(file.num_row_groups)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{manifest.path} was not searched to its end in time")
            narrow = file.read_row_group(number, ["key", "tenant_id", "topic", "sequence"])
            if narrow.filter(wanted).num_rows:
                table = file.read_row_group(number, EVENT).filter(wanted)
                found |= {event.sequence: event for event in _events(table)}
            if len(found) == last - first + 1:
                break
    return found


def _events(table: pa.Table) -> Iterator[Event]:
    columns = {name: table[name].to_pylist() for name in EVENT}
    columns["event_id"] = [str(UUID(bytes=value)) for value in columns["event_id"]]
    return (Event(*row) for row in zip(*columns.values(), strict=True))
