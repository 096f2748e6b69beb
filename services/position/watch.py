"""Watches of positions: one query a tenant looks for all watchers of this process.

Whichever instance applied a change, the tables say so. A watcher holds the
latest state of each position that it has not sent, so a slow reader skips steps
and its memory is bounded by the positions of its account.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TypeAlias

import structlog

from services.common.errors import ResourceExhausted, Unavailable
from services.common.work import WorkUnits
from services.position.reads import PositionReads, PositionRow

log = structlog.get_logger()

Rows: TypeAlias = AsyncGenerator[list[PositionRow], None]

POLL_MIN_MS = 25
POLL_MAX_MS = 250
WATCHERS_MAX = 1_000
LIFE_SECONDS_MAX = 3_600.0
"""A stream ends then, so that readers spread over instances that came since."""


@dataclass(eq=False, slots=True)
class Watcher:
    """One stream: what it has not sent yet."""

    account_id: str
    seen: int = 0
    """Number of the last change of the account that reached it."""
    pending: dict[str, PositionRow] = field(default_factory=dict)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    failed: bool = False

    def offer(self, rows: Iterable[PositionRow]) -> None:
        """Take the latest state of positions, where it is new to this watcher."""
        seen = self.seen
        for row in rows:
            if row.sequence > seen:
                self.pending[row.instrument_id] = row
                self.seen = max(self.seen, row.sequence)
        if self.pending:
            self.ready.set()

    def take(self) -> list[PositionRow]:
        """Return what is pending, in the order in which it changed."""
        rows = sorted(self.pending.values(), key=lambda row: row.sequence)
        self.pending = {}
        self.ready.clear()
        return rows


class Watches:
    """The watchers of this process."""

    def __init__(self, uow: WorkUnits[PositionReads], draining: asyncio.Event) -> None:
        self._uow = uow
        self._draining = draining
        self._watchers: dict[str, set[Watcher]] = {}
        self._polls: dict[str, asyncio.Task[None]] = {}
        self._count = 0

    async def watch(self, tenant_id: str, account_id: str) -> Rows:
        """Yield all positions of an account, then what changed; end when the server drains.

        Raises ResourceExhausted when too many watch, Unavailable when the
        database does not answer.
        """
        if self._count >= WATCHERS_MAX:
            raise ResourceExhausted("TOO_MANY_WATCHERS", f"{WATCHERS_MAX} streams are open here")
        self._count += 1
        watcher = Watcher(account_id)
        try:
            async with self._uow.reading(tenant_id) as reads:
                rows = await reads.of_account(tenant_id, account_id)
            watcher.seen = max((row.sequence for row in rows), default=0)
            self._join(tenant_id, watcher)
            yield rows
            async with aclosing(self._changes(watcher)) as changes:
                async for rows in changes:
                    yield rows
        finally:
            self._count -= 1
            self._watchers.get(tenant_id, set()).discard(watcher)

    async def _changes(self, watcher: Watcher) -> Rows:
        end = asyncio.get_running_loop().time() + LIFE_SECONDS_MAX
        while not self._draining.is_set():
            try:
                async with asyncio.timeout_at(end):
                    await watcher.ready.wait()
            except TimeoutError:
                return
            if watcher.failed:
                raise Unavailable("DATABASE_UNAVAILABLE", "the database does not answer; try again")
            if watcher.pending:
                yield watcher.take()

    def _join(self, tenant_id: str, watcher: Watcher) -> None:
        self._watchers.setdefault(tenant_id, set()).add(watcher)
        if tenant_id not in self._polls:
            self._polls[tenant_id] = asyncio.create_task(self._poll(tenant_id))

    async def _poll(self, tenant_id: str) -> None:
        """Look for changes until nobody watches any more."""
        watchers, pause_ms = self._watchers[tenant_id], POLL_MIN_MS
        try:
            while watchers and not self._draining.is_set():
                found = await self._look(tenant_id, watchers)
                pause_ms = POLL_MIN_MS if found else min(2 * pause_ms, POLL_MAX_MS)
                await asyncio.sleep(pause_ms / 1000)
        except Exception as error:
            log.warning("watch failed", tenant=tenant_id, error=repr(error))
            for watcher in watchers:
                watcher.failed = True
        finally:
            del self._polls[tenant_id], self._watchers[tenant_id]
            for watcher in watchers:
                watcher.ready.set()

    async def _look(self, tenant_id: str, watchers: set[Watcher]) -> bool:
        """Offer what changed since the least that a watcher of its account has seen."""
        seen: dict[str, int] = {}
        for watcher in watchers:
            least = seen.get(watcher.account_id, watcher.seen)
            seen[watcher.account_id] = min(least, watcher.seen)
        async with self._uow.reading(tenant_id) as reads:
            rows = await reads.changed(tenant_id, list(seen), list(seen.values()))
        changed: dict[str, list[PositionRow]] = {}
        for row in rows:
            changed.setdefault(row.account_id, []).append(row)
        for watcher in watchers:
            watcher.offer(changed.get(watcher.account_id, ()))
        return bool(rows)
