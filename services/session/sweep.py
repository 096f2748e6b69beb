"""The sweep: ends sessions of which nothing was heard in time.

Every instance of the service sweeps, when the next session is due. It takes the
locks of subjects before it writes, as all writers do; where another holds one, it
leaves that subject to it.
"""

import asyncio
from collections.abc import Collection
from datetime import timedelta

import structlog
from prometheus_client import Counter

from services.common import telemetry
from services.common.db import Database
from services.common.outbox import lock_numbers
from services.common.work import UnitOfWork
from services.session import domain, events
from services.session.domain import Session, Timings
from services.session.due import Due, DueSessions
from services.session.register import Register
from services.session.repository import Clock, Sessions
from services.session.writing import Push, open_register, save

SWEPT = Counter("session_swept_total", "Sessions ended because nothing was heard of them")

BATCH_MAX = 500
PAUSE_MIN_S = 0.2
RETRY_S = 1.0
KEPT = timedelta(minutes=10)
"""How long instances that were buried are remembered, and what they lost."""

log = structlog.get_logger()


class Sweep:
    """Ends what ran out, of all tenants."""

    def __init__(
        self,
        database: Database,
        unit: UnitOfWork[Sessions],
        timings: Timings,
        pusher: Push,
        clock: Clock,
    ) -> None:
        self._database = database
        self._unit = unit
        self._timings = timings
        self._pusher = pusher
        self._clock = clock

    async def run(self) -> None:
        """Sweep whenever something is due, until cancelled."""
        while True:
            try:
                while await self.sweep():
                    pass
                pause_s = await self.tidy()
            except Exception as error:
                # The database may be away: what is due stays due.
                log.warning("sweep failed", error=repr(error))
                pause_s = RETRY_S
            await asyncio.sleep(pause_s)

    async def sweep(self) -> int:
        """End a batch of what ran out; return how many it ended."""
        async with self._database.pipeline() as connection:
            work = self._unit.joined(connection)
            repository = DueSessions(connection, self._clock)
            now = await repository.now()
            due = await repository.due(now, self._timings.resume, BATCH_MAX)
            if not due:
                return 0
            sessions = await repository.find_due(await self._locked(due, repository))
            register = await end_due(sessions, repository, self._timings)
            await save(register, work)
            await self._unit.flush(work, connection, telemetry.inject())
        self._pusher.push(events.presences(register.moves))
        SWEPT.inc(len(register.happenings))
        return len(register.happenings)

    async def _locked(self, due: Collection[Due], repository: DueSessions) -> list[Due]:
        """Lock the subjects; return what is due of those that nobody else holds."""
        numbers = {
            (one.tenant_id, one.subject): lock_numbers(
                self._database.service, one.tenant_id, [one.subject]
            )[0]
            for one in due
        }
        taken = await repository.try_lock(sorted(set(numbers.values())))
        return [one for one in due if numbers[one.tenant_id, one.subject] in taken]

    async def tidy(self) -> float:
        """Bury instances that are dead; return in how many seconds something is due.

        What appears meanwhile lives at least as long as the longest pause.
        """
        timings = self._timings
        async with self._database.pipeline() as connection:
            repository = DueSessions(connection, self._clock)
            now = await repository.now()
            await repository.bury(now, timings.resume)
            await repository.forget(now - KEPT)
            due = await repository.next_due(timings.resume)
        longest = min(timings.resume, timings.keep)
        pause = longest if due is None else min(due - now, longest)
        return max(pause.total_seconds(), PAUSE_MIN_S)


async def end_due(
    sessions: Collection[Session], repository: Sessions, timings: Timings
) -> Register:
    """End what is still due of sessions whose subjects are locked."""
    subjects = sorted({(one.tenant_id, one.subject) for one in sessions})
    register = await open_register(repository, sessions, subjects, timings, len(sessions))
    for session in sessions:
        if session.is_over(register.now, timings):
            register.end(session, domain.end_of(session))
    return register
