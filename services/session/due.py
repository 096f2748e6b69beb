"""All SQL of the sweep, which sees all tenants."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from services.session.domain import Session
from services.session.repository import PostgresSessions, columns

_DUE = """
(SELECT tenant_id, subject, session_id::text FROM session.sessions
 WHERE end_time IS NULL AND expire_time IS NOT NULL AND expire_time <= $1
 ORDER BY expire_time LIMIT $3)
UNION ALL
(SELECT s.tenant_id, s.subject, s.session_id::text FROM session.instances AS i
 JOIN session.sessions AS s ON s.instance_id = i.instance_id AND s.expire_time IS NULL
 WHERE i.lease_time <= $1::timestamptz - $2::interval LIMIT $3)
"""

_NEXT_DUE = """
SELECT least(
    (SELECT min(expire_time) FROM session.sessions
     WHERE end_time IS NULL AND expire_time IS NOT NULL),
    (SELECT min(lease_time) FROM session.instances WHERE buried_time IS NULL) + $1::interval)
"""

_BURY = """
UPDATE session.instances AS i SET buried_time = $1
WHERE lease_time <= $1::timestamptz - $2::interval AND buried_time IS NULL AND NOT EXISTS (
    SELECT FROM session.sessions AS s
    WHERE s.instance_id = i.instance_id AND s.expire_time IS NULL)
"""


class Due(NamedTuple):
    """A session of which nothing was heard in time."""

    tenant_id: str
    subject: str
    session_id: str


class DueSessions(PostgresSessions):
    """The sessions in Postgres, as the sweep sees them."""

    async def due(self, now: datetime, resume: timedelta, limit: int) -> list[Due]:
        """Return open sessions of which nothing was heard in time, twice `limit` at most."""
        return [Due(*row) for row in await self.connection.fetch(_DUE, now, resume, limit)]

    async def try_lock(self, numbers: Sequence[int]) -> set[int]:
        """Take those advisory locks that nobody holds, and return them."""
        query = "SELECT n FROM unnest($1::bigint[]) AS n WHERE pg_try_advisory_xact_lock(n)"
        return {row["n"] for row in await self.connection.fetch(query, numbers)}

    async def find_due(self, due: Collection[Due]) -> list[Session]:
        """Return sessions as they are now, where they are open."""
        keys = [(one.tenant_id, one.session_id) for one in due]
        return await self.fetch(
            "JOIN unnest($1::text[], $2::text[]::uuid[]) AS d(tenant_id, session_id) "
            "ON (s.tenant_id, s.session_id) = (d.tenant_id, d.session_id) "
            "WHERE s.end_time IS NULL",
            *columns(keys, 2),
        )

    async def next_due(self, resume: timedelta) -> datetime | None:
        """Return when the next session, or instance, runs out; None when there is none."""
        found: datetime | None = await self.connection.fetchval(_NEXT_DUE, resume)
        return found

    async def bury(self, now: datetime, resume: timedelta) -> None:
        """Bury instances that are dead and hold nothing."""
        await self.connection.execute(_BURY, now, resume)

    async def forget(self, before: datetime) -> None:
        """Delete instances that were buried, and losses that were noted, before a time."""
        for query in (
            "DELETE FROM session.instances WHERE buried_time <= $1",
            "DELETE FROM session.losses WHERE lost_time <= $1",
        ):
            await self.connection.execute(query, before)
