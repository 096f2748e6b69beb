"""The archive of the event store: what there is, and whether it is whole.

A closed month of a service's outbox is one Parquet file and a manifest beside
it. The manifest appears last: a file without one is a draft that nobody reads.
This module reads manifests only; the rows are in `archive_files`.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from services.common.events import Event

FORMAT = 1
"""Version of the files; a reader refuses those that are newer than itself."""

Position: TypeAlias = tuple[int, int]
"""Transaction id and id of a row of the outbox: the order of the event store."""


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A row of the outbox: the events of a transaction, tenant, topic and shard."""

    position: Position
    events: list[Event]


class ArchiveError(Exception):
    """The archive can't be written or trusted; the message says which file and why."""


class Chain:
    """A hash over hashes, in order: it differs when one is changed, lost, added or moved."""

    def __init__(self) -> None:
        self._value = bytes(32)

    def add(self, digest: bytes) -> None:
        """Take in the SHA-256 of the next part."""
        self._value = hashlib.sha256(self._value + digest).digest()

    def hexdigest(self) -> str:
        """Return the hash of all parts so far."""
        return self._value.hex()


@dataclass(frozen=True, slots=True)
class Summary:
    """What a partition holds, counted and hashed in the order of the event store."""

    rows: int
    """Rows of the outbox; each holds the events of a transaction."""
    events: int
    recorded_from_us: int | None
    """Time of the oldest row in microseconds since 1970; None without rows."""
    recorded_to_us: int | None
    first: Position | None
    last: Position | None
    payload_chain: str
    """Chain of the SHA-256 of each payload."""
    header_chain: str
    """Chain of the SHA-256 of each event's other columns."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """One archived partition; its JSON lies beside the file."""

    folder: Path
    service: str
    name: str
    """Name of the partition, such as `outbox_2026_10`."""
    sha256: str
    """Of the file."""
    summary: Summary

    @property
    def path(self) -> Path:
        """The Parquet file."""
        return self.folder / f"{self.name}.parquet"

    def check(self) -> None:
        """Raise ArchiveError unless the file is, byte for byte, the one that was written."""
        try:
            found = digest(self.path)
        except OSError as error:
            raise ArchiveError(f"{self.path}: {error.strerror}") from error
        if found != self.sha256:
            raise ArchiveError(f"{self.path}: SHA-256 was {found}, expected {self.sha256}")

    def store(self) -> None:
        """Write the JSON, whole or not at all, durable when this returns."""
        summary = asdict(self.summary)
        content = {
            "format": FORMAT,
            "service": self.service,
            "file": self.path.name,
            "sha256": self.sha256,
            **summary,
        }
        path = self.path.with_suffix(".json")
        draft = path.with_suffix(".json.draft")
        with draft.open("w") as file:
            file.write(json.dumps(content, indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        publish(draft, path)


def publish(draft: Path, path: Path) -> None:
    """Give a finished, synced draft its name, durably."""
    draft.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load(path: Path) -> Manifest:
    """Read a manifest; raise ArchiveError when it is broken or of a newer format."""
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        if content["format"] > FORMAT:
            raise ArchiveError(f"{path}: format was {content['format']}, expected {FORMAT} at most")
        values = {name: content[name] for name in Summary.__dataclass_fields__}
        for name in ("first", "last"):
            values[name] = None if values[name] is None else _position(values[name])
        return Manifest(
            path.parent, content["service"], path.stem, content["sha256"], Summary(**values)
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArchiveError(f"{path}: manifest is broken: {error!r}") from error


def _position(values: list[int]) -> Position:
    transaction_id, row_id = values
    return transaction_id, row_id


def manifests(archive: Path, service: str) -> list[Manifest]:
    """Return the archived partitions of a service, oldest first."""
    return [load(path) for path in sorted((archive / service).glob("outbox_*.json"))]


def services(archive: Path) -> list[str]:
    """Return the services that have an archive."""
    return sorted(path.name for path in archive.glob("*") if path.is_dir())


def verify(archive: Path) -> Iterator[Manifest]:
    """Hash every file again and yield its manifest; raise ArchiveError for the first wrong one."""
    for service in services(archive):
        for path in sorted((archive / service).glob("outbox_*.json")):
            manifest = load(path)
            manifest.check()
            yield manifest
