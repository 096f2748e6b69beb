"""Gathers what many sockets bring, by tenant, while the batch before is on its way.

As `common/batcher`, but without a task and a future for each item: who brings one
goes on at once, and hears of it by a frame.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Generic, TypeVar

import structlog

T = TypeVar("T")

WAITING_MAX = 20_000
"""Items of one tenant that wait, at most."""
log = structlog.get_logger()


class Gatherer(Generic[T]):
    """Hands items over in batches: one batch a tenant at a time, so order holds.

    `handle(tenant_id, items)` tells those who wait of its own failures.
    """

    def __init__(self, handle: Callable[[str, list[T]], Awaitable[None]], size_max: int) -> None:
        self._handle = handle
        self._size_max = size_max
        self._waiting: dict[str, deque[T]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def add(self, tenant_id: str, item: T) -> bool:
        """Take an item; False when too many of the tenant wait."""
        waiting = self._waiting.setdefault(tenant_id, deque())
        if len(waiting) >= WAITING_MAX:
            return False
        waiting.append(item)
        if tenant_id not in self._tasks:
            task = asyncio.create_task(self._run(tenant_id, waiting), context=Context())
            self._tasks[tenant_id] = task
        return True

    async def settled(self, timeout_s: float) -> None:
        """Wait until nothing is on its way, or until the time is over."""
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()), timeout=timeout_s)

    async def _run(self, tenant_id: str, waiting: deque[T]) -> None:
        try:
            # Whoever is ready in this turn of the loop joins.
            await asyncio.sleep(0)
            while waiting:
                batch = [waiting.popleft() for _ in range(min(len(waiting), self._size_max))]
                try:
                    await self._handle(tenant_id, batch)
                except Exception:
                    log.exception("batch failed", tenant=tenant_id, size=len(batch))
        finally:
            del self._tasks[tenant_id], self._waiting[tenant_id]
