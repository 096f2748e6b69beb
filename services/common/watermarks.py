"""How far a service has applied the events of a key, and waiting for it.

Whichever instance applied them, the table says so: waiters ask it together, one
query a poll and tenant. What this process applies itself wakes them at once.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from services.common.db import Database
from services.common.errors import FailedPrecondition

POLL_MIN_MS = 2
POLL_MAX_MS = 25


@dataclass(slots=True)
class _Waiter:
    key: str
    wanted: Mapping[str, int]
    future: "asyncio.Future[dict[str, int]]"


@dataclass(slots=True)
class _Poll:
    waiters: list[_Waiter] = field(default_factory=list)
    task: "asyncio.Task[None] | None" = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)


class Watermarks:
    """Reads `inbox_sequences` of one service for its readers."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._polls: dict[str, _Poll] = {}

    def wake(self) -> None:
        """Look at once: events were applied here."""
        for poll in self._polls.values():
            poll.wake.set()

    async def wait(
        self, tenant_id: str, key: str, wanted: Mapping[str, int], timeout_s: float
    ) -> dict[str, int]:
        """Return the last applied number by topic, once each is at least as wanted.

        Raises FailedPrecondition when that takes longer than `timeout_s`.
        """
        future: asyncio.Future[dict[str, int]] = asyncio.get_running_loop().create_future()
        poll = self._polls.setdefault(tenant_id, _Poll())
        waiter = _Waiter(key, wanted, future)
        poll.waiters.append(waiter)
        poll.wake.set()
        if poll.task is None:
            poll.task = asyncio.create_task(self._run(tenant_id, poll))
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            raise FailedPrecondition(
                "NOT_YET_APPLIED",
                f"{self._database.service} has not applied event {dict(wanted)} of {key} in time",
                metadata={"key": key},
            ) from None
        finally:
            if waiter in poll.waiters:
                poll.waiters.remove(waiter)

    async def _run(self, tenant_id: str, poll: _Poll) -> None:
        pause_ms = POLL_MIN_MS
        try:
            while poll.waiters:
                woken = poll.wake.is_set()
                poll.wake.clear()
                await self._look(tenant_id, poll)
                pause_ms = POLL_MIN_MS if woken else min(pause_ms * 2, POLL_MAX_MS)
                if poll.waiters:
                    await _either(poll.wake, pause_ms / 1000)
        except Exception as error:
            for waiter in poll.waiters:
                if not waiter.future.done():
                    waiter.future.set_exception(error)
            poll.waiters.clear()
        finally:
            poll.task = None
            if not poll.waiters:
                self._polls.pop(tenant_id, None)

    async def _look(self, tenant_id: str, poll: _Poll) -> None:
        asked = list(poll.waiters)
        async with self._database.tenant(tenant_id, read_only=True) as connection:
            rows = await connection.fetch(
                f"SELECT topic, key, sequence FROM {self._database.service}.inbox_sequences "
                "WHERE tenant_id = $1 AND key = ANY ($2::text[])",
                tenant_id,
                list({waiter.key for waiter in asked}),
            )
        reached: dict[str, dict[str, int]] = {}
        for row in rows:
            reached.setdefault(row["key"], {})[row["topic"]] = row["sequence"]
        for waiter in asked:
            found = reached.get(waiter.key, {})
            done = all(found.get(topic, 0) >= least for topic, least in waiter.wanted.items())
            if done and not waiter.future.done():
                waiter.future.set_result(found)
                poll.waiters.remove(waiter)


async def _either(event: asyncio.Event, timeout_s: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event.wait()
