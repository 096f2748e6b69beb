"""SQL that writes what changed on desks: the rows are the fold of the changes.

Postgres decides: an agent is written only as the version that was read, and a load
goes up only where the agent is online and the slot is free. Writers of an agent take
his lock before they read, so a refusal here means that somebody wrote without it.
"""

import re
from collections.abc import Collection, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from services.agent import rows
from services.agent.desk import Desk
from services.agent.domain import (
    Assignment,
    Matched,
    Offer,
    OfferClosed,
    Offered,
    Released,
    Request,
    Status,
)
from services.common.db import Connection
from services.common.errors import Aborted

_UPDATE_AGENTS = """
UPDATE agent.agents AS a
SET status = n.status, average_response_ms = n.average_response_ms, idle_since = n.idle_since,
    version = n.version, last_sequence = n.last_sequence
FROM unnest($2::text[], $3::bigint[], $4::boolean[], $5::text[], $6::bigint[], $7::timestamptz[],
            $8::bigint[], $9::bigint[])
     AS n(agent_id, read_version, takes, status, average_response_ms, idle_since, version,
          last_sequence)
WHERE a.tenant_id = $1 AND a.agent_id = n.agent_id AND a.version = n.read_version
  AND (a.status = 'ONLINE' OR NOT n.takes)
"""

_UPDATE_LOADS = """
UPDATE agent.capacities AS c SET load = n.load
FROM unnest($2::text[], $3::smallint[], $4::smallint[], $5::smallint[])
     AS n(agent_id, channel, read_load, load)
WHERE c.tenant_id = $1 AND c.agent_id = n.agent_id AND c.channel = n.channel
  AND c.load = n.read_load AND (n.load <= n.read_load OR n.load <= c.slots)
"""

_INSERT_OFFERS = """
INSERT INTO agent.offers (tenant_id, offer_id, agent_id, conversation_id, hand_off, customer_id,
                          channel, reason, hand_off_time, offer_time, expire_time, state,
                          claim_time)
SELECT $1, *, 'OPEN', '-infinity'
FROM unnest($2::text[]::uuid[], $3::text[], $4::text[]::uuid[], $5::integer[], $6::text[],
            $7::smallint[], $8::smallint[], $9::timestamptz[], $10::timestamptz[],
            $11::timestamptz[])
"""

_CLOSE_OFFERS = """
UPDATE agent.offers AS o SET state = n.state, close_time = n.close_time
FROM unnest($2::text[]::uuid[], $3::text[], $4::timestamptz[])
     AS n(offer_id, state, close_time)
WHERE o.tenant_id = $1 AND o.offer_id = n.offer_id AND o.state = 'OPEN'
"""

_INSERT_ASSIGNMENTS = """
INSERT INTO agent.assignments (tenant_id, conversation_id, hand_off, agent_id, channel,
                               accept_time)
SELECT $1, * FROM unnest($2::text[]::uuid[], $3::integer[], $4::text[], $5::smallint[],
                         $6::timestamptz[])
"""

_DELETE_ASSIGNMENTS = """
DELETE FROM agent.assignments AS a USING unnest($2::text[]::uuid[], $3::integer[])
     AS n(conversation_id, hand_off)
WHERE a.tenant_id = $1 AND a.conversation_id = n.conversation_id AND a.hand_off = n.hand_off
"""


_UPDATE_REQUESTS = """
UPDATE agent.requests AS r
SET state = n.state, declined = n.declined::jsonb, change_time = n.change_time
FROM unnest($2::text[]::uuid[], $3::integer[], $4::text[], $5::text[], $6::timestamptz[])
     AS n(conversation_id, hand_off, state, declined, change_time)
WHERE r.tenant_id = $1 AND r.conversation_id = n.conversation_id AND r.hand_off = n.hand_off
"""

_PLACE = re.compile(r"\$(\d+)")


class Stale(Aborted):
    """A desk is not as it was read: somebody else wrote it."""

    def __init__(self, found: str) -> None:
        super().__init__("AGENT_CONTENDED", f"an agent was changed elsewhere: {found}")


async def save(
    connection: Connection,
    tenant_id: str,
    desks: Collection[Desk],
    requests: Collection[Request],
    now: datetime,
) -> None:
    """Write changed desks and requests, in one statement.

    Raises Stale when a desk is not as it was read.
    """
    writes = _Writes(tenant_id)
    writes.add(_UPDATE_AGENTS, [_agent(desk) for desk in desks])
    writes.add(
        _UPDATE_LOADS,
        [
            (desk.agent.agent_id, channel, desk.stored.load(channel), load)
            for desk in desks
            for channel, load in desk.agent.loads.items()
            if load != desk.stored.load(channel)
        ],
    )
    _add_changes(writes, desks)
    writes.add(
        _UPDATE_REQUESTS,
        [
            (
                one.conversation_id,
                one.hand_off,
                one.state.value,
                rows.declined_json(one.declined),
                now,
            )
            for one in requests
        ],
    )
    await writes.run(connection)


def _add_changes(writes: "_Writes", desks: Collection[Desk]) -> None:
    offered: list[tuple[Any, ...]] = []
    closed: list[tuple[Any, ...]] = []
    matched: list[tuple[Any, ...]] = []
    released: list[tuple[Any, ...]] = []
    for desk in desks:
        for change in desk.changes:
            match change:
                case Offered():
                    offered.append(_offer(change.offer))
                case OfferClosed():
                    closed.append((change.offer.offer_id, change.offer.state, change.time))
                case Matched():
                    closed.append((change.offer.offer_id, change.offer.state, change.time))
                    matched.append(_assignment(change.assignment))
                case Released():
                    released.append((change.assignment.conversation_id, change.assignment.hand_off))
                case _:
                    pass
    writes.add(_INSERT_OFFERS, offered)
    writes.add(_CLOSE_OFFERS, closed)
    writes.add(_INSERT_ASSIGNMENTS, matched)
    writes.add(_DELETE_ASSIGNMENTS, released)


def _agent(desk: Desk) -> tuple[Any, ...]:
    takes = any(isinstance(change, Offered) for change in desk.changes)
    return (
        desk.agent.agent_id,
        desk.stored.version,
        takes and desk.agent.status is desk.stored.status is Status.ONLINE,
        desk.agent.status.value,
        desk.agent.average_response_ms,
        desk.agent.idle_since,
        desk.agent.version,
        desk.agent.last_sequence,
    )


def _offer(one: Offer) -> tuple[Any, ...]:
    return (
        one.offer_id,
        one.agent_id,
        one.conversation_id,
        one.hand_off,
        one.customer_id,
        one.channel,
        one.reason,
        one.hand_off_time,
        one.offer_time,
        one.expire_time,
    )


def _assignment(one: Assignment) -> tuple[Any, ...]:
    return (one.conversation_id, one.hand_off, one.agent_id, one.channel, one.accept_time)


class _Writes:
    """Statements over rows that run as one: an offer waits for each round trip."""

    def __init__(self, tenant_id: str) -> None:
        self._queries: list[str] = []
        self._counts: list[int] = []
        self._arguments: list[Any] = [tenant_id]

    def add(self, query: str, written: Sequence[tuple[Any, ...]]) -> None:
        """Take a statement whose $1 is the tenant and whose others are columns of `written`."""
        if written:
            self._queries.append(query)
            self._counts.append(len(written))
            self._arguments += map(list, zip(*written, strict=True))

    async def run(self, connection: Connection) -> None:
        """Run all; raises Stale when one did not meet each of its rows."""
        if not self._queries:
            return
        found = await connection.fetchrow(_together(tuple(self._queries)), *self._arguments)
        if found is None or list(found) != self._counts:
            raise Stale(f"{found} of {self._counts} rows")


@lru_cache(maxsize=256)
def _together(queries: tuple[str, ...]) -> str:
    """Return one statement that runs all and counts the rows of each."""
    parts, taken = [], 0
    for index, query in enumerate(queries):
        # Of its own, a statement has $1 for the tenant and $2 and on for its columns.
        numbers = {int(number) for number in _PLACE.findall(query)} - {1}
        for number in sorted(numbers, reverse=True):
            query = query.replace(f"${number}:", f"${number + taken}:")
        taken += len(numbers)
        parts.append(f"w{index} AS ({query} RETURNING 1)")
    counts = ", ".join(f"(SELECT count(*) FROM w{index})" for index in range(len(queries)))
    return f"WITH {', '.join(parts)} SELECT {counts}"
