"""SQL that writes what changed on desks: the rows are the fold of the changes.

Postgres decides: an agent is written only as the version that was read, and a load
goes up only where the agent is online and the slot is free. Writers of an agent take
his lock before they read, so a refusal here means that somebody wrote without it.
"""

from collections.abc import Sequence
from typing import Any

from services.agent.desk import Desk
from services.agent.domain import (
    Assignment,
    Matched,
    Offer,
    OfferClosed,
    Offered,
    Released,
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


class Stale(Aborted):
    """A desk is not as it was read: somebody else wrote it."""

    def __init__(self, found: str) -> None:
        super().__init__("AGENT_CONTENDED", f"an agent was changed elsewhere: {found}")


class Save:
    """One saving of the desks of a tenant."""

    def __init__(self, connection: Connection, tenant_id: str, desks: Sequence[Desk]) -> None:
        self._connection = connection
        self._tenant_id = tenant_id
        self._desks = desks

    async def run(self) -> None:
        """Write everything; raises Stale when a desk is not as it was read."""
        if not self._desks:
            return
        await self._update_agents()
        await self._update_loads()
        offered: list[Offer] = []
        closed: list[tuple[str, str, Any]] = []
        matched: list[Assignment] = []
        released: list[tuple[str, int]] = []
        for desk in self._desks:
            for change in desk.changes:
                match change:
                    case Offered():
                        offered.append(change.offer)
                    case OfferClosed():
                        closed.append((change.offer.offer_id, change.offer.state, change.time))
                    case Matched():
                        closed.append((change.offer.offer_id, change.offer.state, change.time))
                        matched.append(change.assignment)
                    case Released():
                        one = change.assignment
                        released.append((one.conversation_id, one.hand_off))
                    case _:
                        pass
        await self._insert_offers(offered)
        await self._write(_CLOSE_OFFERS, closed)
        await self._insert_assignments(matched)
        await self._write(_DELETE_ASSIGNMENTS, released)

    async def _update_agents(self) -> None:
        await self._write(
            _UPDATE_AGENTS,
            [
                (
                    desk.agent.agent_id,
                    desk.stored.version,
                    any(isinstance(change, Offered) for change in desk.changes)
                    and desk.stored.status is desk.agent.status is Status.ONLINE,
                    desk.agent.status.value,
                    desk.agent.average_response_ms,
                    desk.agent.idle_since,
                    desk.agent.version,
                    desk.agent.last_sequence,
                )
                for desk in self._desks
            ],
        )

    async def _update_loads(self) -> None:
        await self._write(
            _UPDATE_LOADS,
            [
                (desk.agent.agent_id, channel, desk.stored.load(channel), load)
                for desk in self._desks
                for channel, load in desk.agent.loads.items()
                if load != desk.stored.load(channel)
            ],
        )

    async def _insert_offers(self, offers: Sequence[Offer]) -> None:
        await self._write(
            _INSERT_OFFERS,
            [
                (
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
                for one in offers
            ],
        )

    async def _insert_assignments(self, assignments: Sequence[Assignment]) -> None:
        await self._write(
            _INSERT_ASSIGNMENTS,
            [
                (one.conversation_id, one.hand_off, one.agent_id, one.channel, one.accept_time)
                for one in assignments
            ],
        )

    async def _write(self, query: str, written: Sequence[tuple[Any, ...]]) -> None:
        """Run a statement over rows, each of which it must meet."""
        if not written:
            return
        columns = map(list, zip(*written, strict=True))
        status = await self._connection.execute(query, self._tenant_id, *columns)
        if int(status.rpartition(" ")[2]) != len(written):
            raise Stale(f"{status} of {len(written)} rows")
