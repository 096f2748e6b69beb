"""What there is to do, noted by those who find it and taken by those who do it."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime

from services.agent.domain import Request
from services.agent.queue import in_order

Pool = tuple[str, str]
"""Tenant and pool."""

Wanted = Sequence[Request] | None
"""Requests of a pool to match; None for all that wait."""
SOME_MAX = 2_000
"""Requests noted one by one; beyond, all of the pool are looked at."""


class Agenda:
    """Pools to match, conversations to settle, and the moment to look again."""

    def __init__(self) -> None:
        self._pools: dict[Pool, dict[str, Request] | None] = {}
        self._unsettled: dict[str, set[str]] = {}
        self._due: datetime | None = None
        self._work = asyncio.Event()
        self._timer = asyncio.Event()

    def match(
        self, tenant_id: str, pool_id: str, requests: Iterable[Request] | None = None
    ) -> None:
        """Look for agents of some requests; of all that wait when none are named.

        Only what is new can be looked at alone: the others wait since nobody fits
        them, and that changes with an agent only.
        """
        pool = (tenant_id, pool_id)
        known = self._pools.get(pool, {})
        if known is None or requests is None:
            self._pools[pool] = None
        else:
            known.update((request.conversation_id, request) for request in requests)
            self._pools[pool] = known if len(known) <= SOME_MAX else None
        self._work.set()

    def settle(self, tenant_id: str, conversation_ids: Iterable[str]) -> None:
        """Close what earlier hand-overs of conversations left open."""
        self._unsettled.setdefault(tenant_id, set()).update(conversation_ids)
        self._work.set()

    def due_at(self, moment: datetime) -> None:
        """Look at the timers at a moment."""
        if self._due is None or moment < self._due:
            self._due = moment
            self._timer.set()

    async def work(self) -> tuple[list[Pool], list[str]]:
        """Wait for work; return the pools and the tenants that have some."""
        await self._work.wait()
        self._work.clear()
        return self.todo()

    def todo(self) -> tuple[list[Pool], list[str]]:
        """Return the pools and the tenants that have work."""
        return list(self._pools), list(self._unsettled)

    def remind(self) -> None:
        """Let work be looked at again when some is left."""
        if self._pools or self._unsettled:
            self._work.set()

    def has(self, pool: Pool) -> bool:
        """Tell whether there is something to match in a pool."""
        return pool in self._pools

    def take_pool(self, pool: Pool) -> Wanted:
        """Return, and forget, what there is to match in a pool that has something."""
        wanted = self._pools.pop(pool)
        return None if wanted is None else in_order(wanted.values())

    def take_unsettled(self, tenant_id: str) -> set[str]:
        """Return the conversations to settle."""
        return self._unsettled.pop(tenant_id, set())

    @property
    def due_time(self) -> datetime | None:
        """The moment to look at the timers again, when one is known."""
        return self._due

    def take_due(self) -> None:
        """Forget the moment to look again: somebody looks now."""
        self._due = None

    async def timer(self, timeout_s: float) -> None:
        """Wait until the moment to look again was moved, or for so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._timer.wait()
        self._timer.clear()
