"""All SQL of the session service."""

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeAlias

import asyncpg

from services.common.db import Connection
from services.session.domain import End, Kind, Session
from services.session.register import Standing, Subject

Clock: TypeAlias = Callable[[Connection], Awaitable[datetime]]
"""Tells the wall time. All instances must agree on it: leases of one are ended by others."""

_SESSION = """s.tenant_id, s.session_id::text, s.subject, s.kind, s.client, s.secret_hash,
    s.open_time, s.instance_id, s.held_time, s.expire_time,
    CASE WHEN s.expire_time IS NULL THEN coalesce(i.lease_time, 'epoch') END AS lease_time,
    s.resume_count, s.end_time, s.end_reason
    FROM session.sessions AS s LEFT JOIN session.instances AS i ON i.instance_id = s.instance_id"""

_INSERT = """
INSERT INTO session.sessions (tenant_id, session_id, subject, kind, client, secret_hash, open_time,
    instance_id, held_time, expire_time, resume_count)
SELECT *, 0 FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::bytea[],
    $7::timestamptz[], $8::text[], $9::timestamptz[], $10::timestamptz[])
"""

_UPDATE = """
UPDATE session.sessions AS s SET instance_id = c.instance_id, held_time = c.held_time,
    expire_time = c.expire_time, resume_count = c.resume_count, end_time = c.end_time,
    end_reason = c.end_reason
FROM unnest($1::text[], $2::uuid[], $3::text[], $4::timestamptz[], $5::timestamptz[],
    $6::integer[], $7::timestamptz[], $8::text[])
    AS c(tenant_id, session_id, instance_id, held_time, expire_time, resume_count, end_time,
         end_reason)
WHERE s.tenant_id = c.tenant_id AND s.session_id = c.session_id
"""

_STANDINGS = """
SELECT s.* FROM session.subjects AS s
JOIN unnest($1::text[], $2::text[]) AS n(tenant_id, subject) USING (tenant_id, subject)
"""

_SAVE_STANDINGS = """
INSERT INTO session.subjects AS s (tenant_id, subject, open_count, last_sequence)
SELECT * FROM unnest($1::text[], $2::text[], $3::integer[], $4::bigint[])
ON CONFLICT (tenant_id, subject) DO UPDATE
SET open_count = excluded.open_count, last_sequence = excluded.last_sequence
"""

_RENEW = """
INSERT INTO session.instances AS i (instance_id, lease_time) VALUES ($1, $2)
ON CONFLICT (instance_id) DO UPDATE
SET lease_time = greatest(i.lease_time, excluded.lease_time), buried_time = NULL
WHERE i.lease_time > $3 OR i.buried_time IS NOT NULL
RETURNING lease_time
"""

# Told three times, for an answer may be lost, and then forgotten.
_TELL = """
WITH told AS (
    UPDATE session.losses SET told_count = told_count + 1
    WHERE instance_id = $1 AND told_count < 3 RETURNING session_id
), forgotten AS (
    DELETE FROM session.losses WHERE instance_id = $1 AND told_count >= 3
)
SELECT session_id::text FROM told
"""


class Sessions(Protocol):
    """Sessions and instances within a transaction; the port that tests fake."""

    async def now(self) -> datetime:
        """Return the wall time that all instances agree on."""
        ...

    async def find(self, tenant_id: str, session_ids: Collection[str]) -> list[Session]:
        """Return those of the sessions that exist, ended ones too."""
        ...

    async def find_held(self, tenant_id: str, instance_id: str) -> list[Session]:
        """Return what an instance holds of a tenant."""
        ...

    async def list_open(
        self, tenant_id: str, subject: str, before: str, limit: int
    ) -> list[Session]:
        """Return open sessions, newest first, of ids below `before`; of all when no subject."""
        ...

    async def standings(self, subjects: Collection[Subject]) -> dict[Subject, Standing]:
        """Return what is known of subjects."""
        ...

    async def insert(self, sessions: Sequence[Session]) -> None:
        """Store new sessions."""
        ...

    async def update(self, sessions: Sequence[Session]) -> None:
        """Store what became of sessions."""
        ...

    async def save_standings(self, standings: dict[Subject, Standing]) -> None:
        """Store what is known of subjects."""
        ...

    async def lease(self, instance_id: str) -> datetime | None:
        """Return until when an instance lives; None for one that was never heard of."""
        ...

    async def renew(
        self, instance_id: str, lease_time: datetime, dead_since: datetime
    ) -> datetime | None:
        """Let an instance live until `lease_time` at least; return until when.

        None for one that is dead since `dead_since` or longer, and not yet buried.
        """
        ...

    async def lose(self, holders: Iterable[tuple[str, str]], now: datetime) -> None:
        """Note sessions that their instances hold no longer."""
        ...

    async def regain(self, holders: Iterable[tuple[str, str]]) -> None:
        """Forget losses of sessions that their instances hold again."""
        ...

    async def tell_losses(self, instance_id: str) -> list[str]:
        """Return what an instance lost and was not told often enough."""
        ...


class PostgresSessions(Sessions):
    """The sessions in Postgres."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self.connection = connection
        self._clock = clock

    async def now(self) -> datetime:
        """Return the wall time that all instances agree on."""
        return await self._clock(self.connection)

    async def find(self, tenant_id: str, session_ids: Collection[str]) -> list[Session]:
        """Return those of the sessions that exist, ended ones too."""
        if not session_ids:
            return []
        return await self.fetch(
            "WHERE s.tenant_id = $1 AND s.session_id = ANY ($2::text[]::uuid[])",
            tenant_id,
            list(session_ids),
        )

    async def find_held(self, tenant_id: str, instance_id: str) -> list[Session]:
        """Return what an instance holds of a tenant."""
        return await self.fetch(
            "WHERE s.tenant_id = $1 AND s.instance_id = $2 AND s.expire_time IS NULL",
            tenant_id,
            instance_id,
        )

    async def list_open(
        self, tenant_id: str, subject: str, before: str, limit: int
    ) -> list[Session]:
        """Return open sessions, newest first, of ids below `before`; of all when no subject."""
        one = "AND s.subject = $4" if subject else "AND $4 = ''"
        return await self.fetch(
            f"WHERE s.tenant_id = $1 AND s.end_time IS NULL AND s.session_id < $2::text::uuid "
            f"{one} ORDER BY s.session_id DESC LIMIT $3",
            tenant_id,
            before,
            limit,
            subject,
        )

    async def standings(self, subjects: Collection[Subject]) -> dict[Subject, Standing]:
        """Return what is known of subjects."""
        rows = await self.connection.fetch(_STANDINGS, *columns(subjects, 2))
        return {
            (row["tenant_id"], row["subject"]): Standing(row["open_count"], row["last_sequence"])
            for row in rows
        }

    async def insert(self, sessions: Sequence[Session]) -> None:
        """Store new sessions."""
        if sessions:
            rows = [
                (
                    *(one.tenant_id, one.session_id, one.subject, one.kind.value, one.client),
                    *(one.secret_hash, one.open_time),
                    *(one.instance_id, one.held_time, one.expire_time),
                )
                for one in sessions
            ]
            await self.connection.execute(_INSERT, *columns(rows, 10))

    async def update(self, sessions: Sequence[Session]) -> None:
        """Store what became of sessions."""
        if sessions:
            rows = [
                (
                    *(one.tenant_id, one.session_id),
                    *(one.instance_id, one.held_time, one.expire_time, one.resume_count),
                    *(one.end_time, one.end.value if one.end else None),
                )
                for one in sessions
            ]
            await self.connection.execute(_UPDATE, *columns(rows, 8))

    async def save_standings(self, standings: dict[Subject, Standing]) -> None:
        """Store what is known of subjects."""
        if standings:
            rows = [(*subject, *standing) for subject, standing in sorted(standings.items())]
            await self.connection.execute(_SAVE_STANDINGS, *columns(rows, 4))

    async def lease(self, instance_id: str) -> datetime | None:
        """Return until when an instance lives; None for one that was never heard of."""
        query = "SELECT lease_time FROM session.instances WHERE instance_id = $1"
        lives_until: datetime | None = await self.connection.fetchval(query, instance_id)
        return lives_until

    async def renew(
        self, instance_id: str, lease_time: datetime, dead_since: datetime
    ) -> datetime | None:
        """Let an instance live until `lease_time` at least; return until when."""
        lives_until: datetime | None = await self.connection.fetchval(
            _RENEW, instance_id, lease_time, dead_since
        )
        return lives_until

    async def lose(self, holders: Iterable[tuple[str, str]], now: datetime) -> None:
        """Note sessions that their instances hold no longer."""
        if holders := sorted(holders):
            await self.connection.execute(
                "INSERT INTO session.losses (instance_id, session_id, lost_time) "
                "SELECT *, $3 FROM unnest($1::text[], $2::uuid[]) "
                "ON CONFLICT (instance_id, session_id) DO UPDATE SET told_count = 0, "
                "lost_time = excluded.lost_time",
                *columns(holders, 2),
                now,
            )

    async def regain(self, holders: Iterable[tuple[str, str]]) -> None:
        """Forget losses of sessions that their instances hold again."""
        if holders := sorted(holders):
            await self.connection.execute(
                "DELETE FROM session.losses AS l "
                "USING unnest($1::text[], $2::uuid[]) AS h(instance_id, session_id) "
                "WHERE (l.instance_id, l.session_id) = (h.instance_id, h.session_id)",
                *columns(holders, 2),
            )

    async def tell_losses(self, instance_id: str) -> list[str]:
        """Return what an instance lost and was not told often enough."""
        rows = await self.connection.fetch(_TELL, instance_id)
        return [row["session_id"] for row in rows]

    async def fetch(self, condition: str, *values: object) -> list[Session]:
        """Return sessions by a condition in SQL, with the leases of who holds them."""
        rows = await self.connection.fetch(f"SELECT {_SESSION} {condition}", *values)
        return [_session(row) for row in rows]


async def database_time(connection: Connection) -> datetime:
    """Return the time of the database, which all instances share."""
    now: datetime = await connection.fetchval("SELECT clock_timestamp()")
    return now


def columns(rows: Collection[Sequence[Any]], count: int) -> list[list[Any]]:
    """Return rows as columns, `count` of them even without a row."""
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(count)]


def _session(row: asyncpg.Record) -> Session:
    return Session(
        tenant_id=row["tenant_id"],
        session_id=row["session_id"],
        subject=row["subject"],
        kind=Kind(row["kind"]),
        client=row["client"],
        secret_hash=row["secret_hash"],
        open_time=row["open_time"],
        instance_id=row["instance_id"],
        held_time=row["held_time"],
        expire_time=row["expire_time"],
        lease_time=row["lease_time"],
        resume_count=row["resume_count"],
        end_time=row["end_time"],
        end=End(row["end_reason"]) if row["end_reason"] else None,
    )
