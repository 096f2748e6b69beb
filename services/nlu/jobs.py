"""SQL of the trainer: trainings of all tenants, each somebody's while his lease runs."""

import hashlib
from typing import NamedTuple, Protocol
from uuid import UUID, uuid4

from services.common.db import Database

ATTEMPTS_MAX = 3
"""Trainers that may die over a training before it is given up."""
KEPT = 2
"""Versions whose content is kept: the one that serves, and the one before."""

# A tenant's trainings go one after the other, so that one who sends many makes
# others wait for one only.
_CLAIM = """
UPDATE nlu.trainings AS t SET claim = $1, attempts = attempts + 1,
    lease_until = clock_timestamp() + $2 * interval '1 ms'
FROM (
    SELECT tenant_id, model_id, version FROM nlu.trainings AS waiting
    WHERE (lease_until IS NULL OR lease_until < clock_timestamp())
        AND NOT EXISTS (
            SELECT FROM nlu.trainings AS earlier
            WHERE earlier.tenant_id = waiting.tenant_id
                AND (earlier.create_time, earlier.model_id, earlier.version)
                    < (waiting.create_time, waiting.model_id, waiting.version))
    ORDER BY create_time LIMIT 1 FOR UPDATE SKIP LOCKED
) AS next
WHERE (t.tenant_id, t.model_id, t.version) = (next.tenant_id, next.model_id, next.version)
RETURNING t.tenant_id, t.model_id, t.version, t.attempts, t.examples
"""

_RENEW = """
UPDATE nlu.trainings SET lease_until = clock_timestamp() + $5 * interval '1 ms'
WHERE tenant_id = $1 AND model_id = $2 AND version = $3 AND claim = $4
"""

_RELEASE = """
UPDATE nlu.trainings SET claim = NULL, lease_until = clock_timestamp() + $5 * interval '1 ms',
    attempts = attempts - $6
WHERE tenant_id = $1 AND model_id = $2 AND version = $3 AND claim = $4
"""

_DONE = """
DELETE FROM nlu.trainings
WHERE tenant_id = $1 AND model_id = $2 AND version = $3 AND claim = $4
"""

_FINISH = """
UPDATE nlu.models SET state = $4, failure = $5, accuracy_millis = $6,
    finish_time = clock_timestamp()
WHERE tenant_id = $1 AND model_id = $2 AND version = $3
"""

_ACTIVATE = """
INSERT INTO nlu.active (tenant_id, model_id, version) VALUES ($1, $2, $3)
ON CONFLICT (tenant_id, model_id) DO UPDATE SET version = excluded.version
WHERE active.version < excluded.version
"""


class Job(NamedTuple):
    """A training that is ours."""

    tenant_id: str
    model_id: str
    version: int
    attempts: int
    """Of all trainers, this one included."""
    examples: bytes
    claim: UUID

    @property
    def key(self) -> tuple[str, str, int, UUID]:
        """What names it as ours."""
        return self.tenant_id, self.model_id, self.version, self.claim


class Jobs(Protocol):
    """The trainings to be done; the port that tests fake."""

    async def claim(self) -> Job | None:
        """Take the next training; None when there is none."""
        ...

    async def renew(self, job: Job) -> bool:
        """Keep the lease; False when the training is no longer ours."""
        ...

    async def release(self, job: Job, *, pause_ms: int = 0, counts: bool = True) -> None:
        """Leave the training to others, after a pause; `counts` if this was an attempt."""
        ...

    async def finish(self, job: Job, content: bytes, accuracy_millis: int) -> bool:
        """Store what was learned and let it serve; False when the training is not ours."""
        ...

    async def fail(self, job: Job, failure: str) -> bool:
        """Give the training up; False when it is not ours."""
        ...


class PostgresJobs(Jobs):
    """Trainings in the tables of nlu."""

    def __init__(self, database: Database, lease_ms: int) -> None:
        self._database = database
        self._lease_ms = lease_ms

    async def claim(self) -> Job | None:
        """Take the next training; None when there is none."""
        claim = uuid4()
        async with self._database.pipeline() as connection:
            row = await connection.fetchrow(_CLAIM, claim, self._lease_ms)
        return Job(**dict(row), claim=claim) if row else None

    async def renew(self, job: Job) -> bool:
        """Keep the lease; False when the training is no longer ours."""
        async with self._database.pipeline() as connection:
            return bool(await connection.execute(_RENEW, *job.key, self._lease_ms) == "UPDATE 1")

    async def release(self, job: Job, *, pause_ms: int = 0, counts: bool = True) -> None:
        """Leave the training to others, after a pause; `counts` if this was an attempt."""
        async with self._database.pipeline() as connection:
            await connection.execute(_RELEASE, *job.key, pause_ms, 0 if counts else 1)

    async def finish(self, job: Job, content: bytes, accuracy_millis: int) -> bool:
        """Store what was learned and let it serve; False when the training is not ours."""
        tenant_id, model_id, version, _ = job.key
        digest = hashlib.sha256(content).digest()
        async with self._database.pipeline() as connection:
            if await connection.execute(_DONE, *job.key) != "DELETE 1":
                return False
            await connection.execute(
                "INSERT INTO nlu.contents VALUES ($1, $2, $3, $4, $5)",
                tenant_id, model_id, version, content, digest,
            )  # fmt: skip
            await connection.execute(
                _FINISH, tenant_id, model_id, version, "READY", "", accuracy_millis
            )
            await connection.execute(_ACTIVATE, tenant_id, model_id, version)
            await connection.execute(
                "DELETE FROM nlu.contents AS c USING nlu.active AS a "
                "WHERE a.tenant_id = $1 AND a.model_id = $2 AND c.tenant_id = $1 "
                "AND c.model_id = $2 AND c.version <= a.version - $3::bigint",
                tenant_id, model_id, KEPT,
            )  # fmt: skip
        return True

    async def fail(self, job: Job, failure: str) -> bool:
        """Give the training up; False when it is not ours."""
        async with self._database.pipeline() as connection:
            if await connection.execute(_DONE, *job.key) != "DELETE 1":
                return False
            tenant_id, model_id, version, _ = job.key
            await connection.execute(_FINISH, tenant_id, model_id, version, "FAILED", failure, 0)
        return True
