"""Parked keys, for operators: which wait, and letting one go on.

What is set here is picked up by `Applier.tend` of the running service.
"""

from dataclasses import dataclass
from datetime import datetime

from services.common.admission import KeyId
from services.common.db import Connection

LIST_MAX = 1_000

_LIST = """
SELECT k.tenant_id, k.topic, k.key, k.state, k.reason, k.parked_at, e.waiting, e.following,
    e.type, coalesce(s.sequence, 0) + 1 AS next_sequence
FROM {service}.parked_keys AS k
LEFT JOIN {service}.inbox_sequences AS s USING (tenant_id, topic, key)
CROSS JOIN LATERAL (
    SELECT count(*) AS waiting, min(sequence) AS following,
        (array_agg(type ORDER BY sequence))[1] AS type
    FROM {service}.parked_events AS e
    WHERE (e.tenant_id, e.topic, e.key) = (k.tenant_id, k.topic, k.key)
) AS e
WHERE $1 = '' OR (k.tenant_id, k.topic, k.key) = ($1, $2, $3)
ORDER BY k.parked_at LIMIT $4
"""
_LOCK = """
SELECT state FROM {service}.parked_keys
WHERE (tenant_id, topic, key) = ($1, $2, $3) FOR UPDATE
"""
_RELEASE = """
UPDATE {service}.parked_keys SET state = $4 WHERE (tenant_id, topic, key) = ($1, $2, $3)
"""


@dataclass(frozen=True, slots=True)
class ParkedKey:
    """A key whose events wait in a service."""

    service: str
    tenant_id: str
    topic: str
    key: str
    state: str
    """GAP waits for a missing event, POISONED for an operator, RELEASED and SKIP
    for the service, which takes a fraction of a second."""
    reason: str
    parked_at: datetime
    waiting: int
    """Number of events that wait."""
    first_waiting: int | None
    """Number of the first of them."""
    first_type: str | None
    next_sequence: int
    """Number of the event to be applied next."""

    @property
    def skipped(self) -> str:
        """What a skip would leave out."""
        if self.first_waiting is None:
            return "nothing"
        if self.first_waiting == self.next_sequence:
            return f"event {self.next_sequence} ({self.first_type})"
        return f"events {self.next_sequence} to {self.first_waiting - 1}, which are missing"


class NotParked(Exception):
    """The key does not wait, or not in the way that was looked at."""


async def listed(
    connection: Connection, service: str, key: KeyId = ("", "", "")
) -> list[ParkedKey]:
    """Return the keys of a service that wait, the oldest first, or one of them.

    `connection` is of the pipeline role.
    """
    rows = await connection.fetch(_LIST.format(service=service), *key, LIST_MAX)
    return [ParkedKey(service, *row) for row in rows]


async def release(connection: Connection, parked: ParkedKey, *, skip: bool = False) -> None:
    """Let a key go on, from the event that it waits for or from the one after it.

    Raises NotParked when the key has moved on since it was looked at: another
    event than the one that was meant would be skipped.
    """
    key = (parked.tenant_id, parked.topic, parked.key)
    async with connection.transaction():
        locked = await connection.fetchval(_LOCK.format(service=parked.service), *key)
        if locked is None:
            raise NotParked(f"key {parked.key} is not parked any more")
        [now] = await listed(connection, parked.service, key)
        if skip and now.skipped != parked.skipped:
            raise NotParked(f"key {parked.key} moved on: a skip would now drop {now.skipped}")
        await connection.execute(
            _RELEASE.format(service=parked.service), *key, "SKIP" if skip else "RELEASED"
        )
