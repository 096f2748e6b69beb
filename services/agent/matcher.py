"""The matcher: gives waiting conversations to agents, as soon as there is one for them.

A pool is matched by one task of a process at a time, in rounds: the scorer proposes
the best few for each request, Redis holds the first free of them, and a transaction
decides. Who lost is tried again with what was learned. Other processes may do the same
at the same time: the locks of the agents and the rows decide between them.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from datetime import timedelta
from typing import Any

import structlog

from services.agent import settling
from services.agent.agenda import Agenda, Pool, Wanted
from services.agent.domain import Request
from services.agent.floor import Tools
from services.agent.mirrors import Mirrors
from services.agent.offering import Offering
from services.agent.proposals import propose
from services.agent.queue import Place, place
from services.common.config import Settings

log = structlog.get_logger()

ROUNDS_MAX = 16
"""Times that a page of requests is tried, at most; the sweep comes back to it."""
FRESH_S = 0.25
"""A mirror compared within this time is fresh enough to say that nobody fits."""
HELD_PAUSE_S = 0.05
"""When to look again after slots that somebody else holds."""
LANES_MAX = 8
"""Pools and tenants worked on at the same time, so that calls find connections too."""


class Matcher:
    """Does what is on the agenda."""

    def __init__(
        self,
        tools: Tools,
        agenda: Agenda,
        mirrors: Mirrors,
        offering: Offering,
        settings: Settings,
    ) -> None:
        self._tools = tools
        self._agenda = agenda
        self._mirrors = mirrors
        self._offering = offering
        self._pause = timedelta(milliseconds=settings.agent_decline_pause_ms)
        self._batch_max = settings.agent_match_batch_max
        self._candidates_max = settings.agent_candidates_max
        self._lanes: dict[object, asyncio.Task[None]] = {}
        self._turn = asyncio.Semaphore(LANES_MAX)

    async def run(self) -> None:
        """Match and settle until cancelled."""
        try:
            while True:
                pools, tenants = await self._agenda.work()
                for tenant_id in tenants:
                    self._start(tenant_id, self._settle(tenant_id))
                for pool in pools:
                    self._start(pool, self._match(pool))
        finally:
            lanes = list(self._lanes.values())
            for lane in lanes:
                lane.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)

    async def step(self) -> bool:
        """Do what is on the agenda now, one after the other; tell whether there was any.

        What simulations and tests call in place of `run`.
        """
        pools, tenants = self._agenda.todo()
        for tenant_id in tenants:
            await self._settle(tenant_id)
        for pool in pools:
            await self._match(pool)
        return bool(pools or tenants)

    def _start(self, key: object, work: Coroutine[Any, Any, None]) -> None:
        """Run work in the lane of its key, unless one runs there and will see it."""
        if key in self._lanes:
            work.close()
            return
        self._lanes[key] = asyncio.create_task(self._lane(key, work))

    async def _lane(self, key: object, work: Coroutine[Any, Any, None]) -> None:
        try:
            async with self._turn:
                await work
        except Exception as error:
            # What was not done is in the tables, and the sweep finds it.
            log.warning("matching interrupted", lane=str(key), error=repr(error))
        finally:
            del self._lanes[key]
            # What came while this lane failed was left to it.
            self._agenda.remind()

    async def _settle(self, tenant_id: str) -> None:
        while conversation_ids := self._agenda.take_unsettled(tenant_id):
            await settling.settle(tenant_id, conversation_ids, tools=self._tools)

    async def _match(self, pool: Pool) -> None:
        while self._agenda.has(pool):
            await self.match(*pool, self._agenda.take_pool(pool))

    async def match(self, tenant_id: str, pool_id: str, wanted: Wanted = None) -> None:
        """Offer some requests of a pool, or all that wait, to whom they can be offered."""
        await self._mirrors.get(tenant_id, pool_id)
        if wanted is not None:
            for start in range(0, len(wanted), self._batch_max):
                await self._page(tenant_id, pool_id, wanted[start : start + self._batch_max])
            return
        after: Place | None = None
        while True:
            async with self._tools.uow.reading(tenant_id) as repository:
                queue = repository.queue
                page = await queue.waiting(tenant_id, pool_id, after, self._batch_max)
            await self._page(tenant_id, pool_id, page)
            # One whom nobody fits blocks none behind him: the whole queue is looked
            # at, as long as anybody is free.
            mirror = await self._mirrors.get(tenant_id, pool_id)
            if len(page) < self._batch_max or not mirror.anybody_free():
                return
            after = place(page[-1])

    async def _page(self, tenant_id: str, pool_id: str, page: Sequence[Request]) -> None:
        left = {request.conversation_id: request for request in page}
        doubted: set[str] = set()
        for _ in range(ROUNDS_MAX):
            if not left:
                return
            mirror = await self._mirrors.get(tenant_id, pool_id)
            found = propose(
                mirror,
                list(left.values()),
                self._tools.clock.now(),
                self._pause,
                self._candidates_max,
            )
            tried = await self._offering.attempt(tenant_id, pool_id, found, doubted)
            if tried.held:
                self._again(tenant_id, pool_id, [left[name] for name in sorted(tried.held)])
            for conversation_id in tried.done | tried.held:
                left.pop(conversation_id)
            if tried.doubted:
                # The tables know: when they agree with Redis nobody is proposed next
                # time, and when they don't, Redis is wrong and not asked again.
                await self._mirrors.check(tenant_id, pool_id)
                names = {
                    candidate.agent.agent_id
                    for one in found
                    if one.request.conversation_id in tried.doubted
                    for candidate in one.candidates
                }
                await self._mirrors.correct(tenant_id, pool_id, names)
                doubted |= tried.doubted
            elif not tried.lost:
                lagged = left and await self._mirrors.check(tenant_id, pool_id, FRESH_S)
                if not lagged:
                    return
        log.warning("requests left for the sweep", pool=pool_id, count=len(left))

    def _again(self, tenant_id: str, pool_id: str, requests: Sequence[Request]) -> None:
        """Look again when those who hold the slots have used them, or not."""
        loop = asyncio.get_running_loop()
        loop.call_later(HELD_PAUSE_S, self._agenda.match, tenant_id, pool_id, requests)
