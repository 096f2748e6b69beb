"""Timers and repairs: what is due is found in the tables, by every instance.

A timer is a row, so it survives whoever set it. The next one that an instance knows of
wakes it on time; the sweep, each second, finds those of an instance that is gone.
"""

import asyncio
import random
from collections.abc import Awaitable

import structlog
from prometheus_client import Counter, Gauge

from services.agent import settling
from services.agent.agenda import Agenda
from services.agent.due import PURGE_ROWS_MAX, Due
from services.agent.floor import Tools
from services.common.config import Settings

log = structlog.get_logger()

PAUSE_MIN_S = 0.005
"""Between two sweeps: timers that run out together are one."""

WAITING = Gauge("agent_waiting", "Conversations that wait for an agent, of all tenants")
REPAIRED = Counter("agent_repaired_total", "What a repair set right", ["what"])


class Timers:
    """Looks for what is due."""

    def __init__(self, tools: Tools, agenda: Agenda, due: Due, settings: Settings) -> None:
        self._tools = tools
        self._agenda = agenda
        self._due = due
        self._sweep_s = settings.agent_sweep_ms / 1000
        self._repair_s = settings.agent_repair_ms / 1000

    async def run(self) -> None:
        """Sweep until cancelled: at the next timer, at latest after a pause."""
        while True:
            try:
                await self.sweep()
            except Exception as error:
                log.warning("sweep failed", error=repr(error))
            await asyncio.sleep(PAUSE_MIN_S)
            await self._wait()

    async def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        # Instances spread: their sweeps must not meet in the same rows each second.
        latest = loop.time() + self._sweep_s * random.uniform(0.75, 1.25)
        while True:
            left = latest - loop.time()
            if (due := self._agenda.due_time) is not None:
                left = min(left, (due - self._tools.clock.now()).total_seconds())
            if left <= 0:
                return
            await self._agenda.timer(left)

    async def sweep(self) -> None:
        """Do what is due now, and put those who wait on the agenda."""
        self._agenda.take_due()
        found = await self._due.claim(self._tools.clock.now())
        WAITING.set(found.waiting_count)
        if found.next_due is not None:
            self._agenda.due_at(found.next_due)
        for tenant_id, offers in found.offers.items():
            await _attempt(settling.expire(tenant_id, offers, tools=self._tools))
        for tenant_id, agent_ids in found.departures.items():
            await _attempt(settling.depart(tenant_id, agent_ids, tools=self._tools))
        for tenant_id, conversation_ids in found.unsettled.items():
            self._agenda.settle(tenant_id, conversation_ids)
        for tenant_id, pool_id in found.waiting:
            self._agenda.match(tenant_id, pool_id)

    async def keep_repaired(self) -> None:
        """Compare and repair from time to time, until cancelled."""
        while True:
            await asyncio.sleep(self._repair_s * random.uniform(0.75, 1.25))
            try:
                await self.repair()
                while await self._due.purge(self._tools.clock.now()) >= PURGE_ROWS_MAX:
                    pass
            except Exception as error:
                log.warning("repair failed", error=repr(error))

    async def repair(self) -> int:
        """Compare agents' load with what they have, and requests with their offers.

        What differs is looked at again under its locks, set right and logged; return
        how much was.
        """
        loads, stuck = await self._due.wrong()
        count = 0
        for tenant_id, agent_ids in loads.items():
            wrong = await settling.recount(tenant_id, agent_ids, tools=self._tools)
            count += _repaired("load", tenant_id, wrong)
        for tenant_id, conversation_ids in stuck.items():
            freed = await settling.free_stuck(tenant_id, conversation_ids, tools=self._tools)
            count += _repaired("request", tenant_id, freed)
        return count


async def _attempt(doing: Awaitable[None]) -> None:
    """Do one thing that is due; when it fails, its claim runs out and it is due again."""
    try:
        await doing
    except Exception as error:
        log.warning("timer failed", error=repr(error))


def _repaired(what: str, tenant_id: str, names: list[str]) -> int:
    if names:
        log.error("agents repaired", what=what, tenant=tenant_id, names=names[:10])
        REPAIRED.labels(what).inc(len(names))
    return len(names)
