"""The event store, read by key: the outboxes of all services and their archive.

The role that reads sees only the outboxes.
"""

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Protocol

from services.common import archive, db
from services.common.admission import KeyId
from services.common.archive import Manifest
from services.common.config import Settings
from services.common.events import Event

ROLE = "event_reader"

BUDGET_S = 5.0
"""How long a search may take. It ends in TimeoutError, and can be tried again."""
WINDOW = timedelta(minutes=10)
"""The newest part of the table, searched first: what misses is mostly just written."""
WIDER = 6
"""Each further window is so much longer than the one after it."""

# Rows are found by (tenant_id, recorded_at); no index on keys makes every write dearer.
_READ = """
SELECT DISTINCT ON (e.sequence) e.sequence, e.event_id::text, e.type, e.version, e.payload,
    o.traceparent
FROM {service}.outbox AS o,
     unnest(o.event_ids, o.types, o.versions, o.keys, o.sequences, o.payloads)
         AS e(event_id, type, version, key, sequence, payload)
WHERE o.tenant_id = $1 AND o.topic = $2 AND o.recorded_at >= $6 AND o.recorded_at < $7
  AND $3 = ANY (o.keys) AND e.key = $3 AND e.sequence BETWEEN $4 AND $5
ORDER BY e.sequence
"""
_SPAN = "SELECT min(recorded_at) AS oldest, now() FROM {service}.outbox WHERE tenant_id = $1"
_FOREVER = datetime(9999, 12, 31, tzinfo=UTC)


def service_of(topic: str) -> str:
    """Return the service whose outbox feeds a topic: one name runs through all."""
    return topic.removesuffix("-events")


class EventSource(Protocol):
    """Where missing events are fetched from."""

    async def read(self, key: KeyId, first: int, last: int) -> list[Event]:
        """Return the events of a key numbered first to last, those that exist, in order."""
        ...


class EventStore(EventSource):
    """Reads the outboxes and the archive. Connects for each read: reads are rare."""

    def __init__(self, settings: Settings, budget_s: float = BUDGET_S) -> None:
        self._settings = settings
        self._budget_s = budget_s

    async def read(self, key: KeyId, first: int, last: int) -> list[Event]:
        """Return the events of a key numbered first to last, those that exist, in order.

        Raises TimeoutError when the search takes longer than its budget, and what
        asyncpg and the archive raise.
        """
        search = _Search(key, first, last, time.monotonic() + self._budget_s)
        async with asyncio.timeout(self._budget_s):
            # The table before the archive: a partition that is dropped in between
            # has its file already. The other way round it could be missed.
            await self._search_table(search)
            if not search.is_over:
                await asyncio.to_thread(_search_archive, self._settings, search)
        return [search.found[number] for number in sorted(search.found) if number >= first]

    async def _search_table(self, search: "_Search") -> None:
        tenant_id, topic, name = search.key
        service = service_of(topic)
        connection = await db.connect(self._settings, ROLE)
        try:
            [span] = await connection.fetch(_SPAN.format(service=service), tenant_id)
            for start, end in _windows(span["oldest"], span["now"]):
                rows = await connection.fetch(
                    _READ.format(service=service),
                    tenant_id,
                    topic,
                    name,
                    search.marker,
                    search.last,
                    start,
                    end,
                )
                found = {row["sequence"]: Event(tenant_id, topic, name, *row) for row in rows}
                if search.take(found):
                    return
        finally:
            # Not closed politely: a search that ran out of time must not wait for its query.
            connection.terminate()


class _Search:
    """What is looked for, from the newest to the oldest, and what was found.

    Numbers have no gaps, so the event before the first one marks the end: only
    transactions that overlapped with its own can be older and come after it,
    and those are within the next part.
    """

    def __init__(self, key: KeyId, first: int, last: int, deadline: float) -> None:
        self.key = key
        self.last = last
        self.marker = first - 1
        self.deadline = deadline
        self.found: dict[int, Event] = {}
        self.is_over = False
        self._wanted = last - first + 1
        self._was_marked = False

    def take(self, found: dict[int, Event]) -> bool:
        """Take what one part holds; tell whether there is no more to look for."""
        self.found |= found
        count = len(self.found) - (self.marker in self.found)
        self.is_over = count == self._wanted or self._was_marked
        self._was_marked = self.marker in self.found
        return self.is_over


def _windows(oldest: datetime | None, now: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Yield parts of the table's time, newest first, each wider than the one before."""
    start, end, length = now - WINDOW, _FOREVER, WINDOW
    while oldest is not None and end > oldest:
        yield start, end
        length *= WIDER
        start, end = max(start - length, oldest), start


def _search_archive(settings: Settings, search: _Search) -> None:
    months: list[Manifest] = archive.manifests(settings.archive_dir, service_of(search.key[1]))
    if not months:
        return
    # Imported here: Arrow is large, and few processes ever read the archive.
    from services.common import archive_files

    for month in reversed(months):
        found = archive_files.find(month, search.key, search.marker, search.last, search.deadline)
        if search.take(found):
            return
