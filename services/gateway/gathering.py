"""Gathers what many sockets bring, by tenant, while the batch before is on its way.

As `common/batcher`, but without a task and a future for each item: who brings one
goes on at once, and hears of it by a frame.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import Context
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import structlog

T = TypeVar("T")

CROWD = 4
"""Items in a batch from which on the next one gathers."""
GATHER_S = 0.004
WAITING_MAX = 20_000
"""Items of one tenant that wait, at most."""
log = structlog.get_logger()


@dataclass(slots=True)
class _Queue(Generic[T]):
    """What waits for one tenant, and the batches on their way."""

    waiting: deque[T] = field(default_factory=deque)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


class Gatherer(Generic[T]):
    """Hands items over in batches of a tenant: one at a time by default, so order holds.

    `handle(tenant_id, items)` tells those who wait of its own failures. A batch ends
    once `weigh` of its items reaches `weight_max`.
    """

    def __init__(
        self,
        handle: Callable[[str, list[T]], Awaitable[None]],
        size_max: int,
        batches_max: int = 1,
        weigh: Callable[[T], int] = lambda item: 0,
        weight_max: int = 1,
    ) -> None:
        self._handle = handle
        self._size_max = size_max
        self._batches_max = batches_max
        self._weigh = weigh
        self._weight_max = weight_max
        self._queues: dict[str, _Queue[T]] = {}

    def add(self, tenant_id: str, item: T) -> bool:
        """Take an item; False when too many of the tenant wait."""
        queue = self._queues.setdefault(tenant_id, _Queue())
        if len(queue.waiting) >= WAITING_MAX:
            return False
        queue.waiting.append(item)
        # A task that has begun to gather takes along whoever is ready in its turn.
        if len(queue.waiting) == 1 and len(queue.tasks) < self._batches_max:
            task = asyncio.create_task(self._run(tenant_id, queue), context=Context())
            queue.tasks.add(task)
        return True

    async def settled(self, timeout_s: float) -> None:
        """Wait until nothing is on its way, or until the time is over."""
        tasks = [task for queue in self._queues.values() for task in queue.tasks]
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)

    async def _run(self, tenant_id: str, queue: _Queue[T]) -> None:
        try:
            # Whoever is ready in this turn of the loop joins; beside other batches there
            # is a crowd, and more will come.
            await asyncio.sleep(GATHER_S if len(queue.tasks) > 1 else 0)
            while queue.waiting:
                batch = self._batch(queue.waiting)
                try:
                    await self._handle(tenant_id, batch)
                except Exception:
                    log.exception("batch failed", tenant=tenant_id, size=len(batch))
                if len(batch) >= CROWD:
                    await asyncio.sleep(GATHER_S)
        finally:
            task = asyncio.current_task()
            assert task is not None
            queue.tasks.discard(task)
            if not queue.tasks and not queue.waiting:
                self._queues.pop(tenant_id, None)

    def _batch(self, waiting: deque[T]) -> list[T]:
        """Take the next batch, one item at least."""
        batch = [waiting.popleft()]
        weight = self._weigh(batch[0])
        while waiting and len(batch) < self._size_max:
            weight += self._weigh(waiting[0])
            if weight > self._weight_max:
                break
            batch.append(waiting.popleft())
        return batch
