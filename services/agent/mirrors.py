"""The mirrors of this process: loaded from Postgres, told of commits, checked."""

import asyncio
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from services.agent.agenda import Pool
from services.agent.domain import Agent
from services.agent.mirror import Mirror
from services.agent.repository import Agents
from services.agent.reservations import FAULTS, Reservations
from services.common.handling import TRANSIENT
from services.common.work import WorkUnits

log = structlog.get_logger()

UNUSED_S = 600.0
"""A pool of which nothing is asked for so long is not mirrored any more."""
UNUSED_EMPTY_S = 10.0
"""The same of one without agents: anybody can ask for pools that are not there."""


@dataclass(slots=True)
class _Kept:
    """A mirror and when it was used and compared last."""

    mirror: Mirror
    used: float
    checked: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Mirrors:
    """Mirrors by tenant and pool."""

    def __init__(
        self, uow: WorkUnits[Agents], reservations: Reservations | None, check_ms: int
    ) -> None:
        self._uow = uow
        self._reservations = reservations
        self._check_s = check_ms / 1000
        self._kept: dict[Pool, _Kept] = {}

    async def get(self, tenant_id: str, pool_id: str) -> Mirror:
        """Return the mirror of a pool, loaded when it is new."""
        pool = (tenant_id, pool_id)
        kept = self._kept.get(pool)
        if kept is None:
            kept = self._kept[pool] = _Kept(Mirror(pool_id), time.monotonic())
        kept.used = time.monotonic()
        if not kept.checked:
            await self.check(tenant_id, pool_id)
        return kept.mirror

    def apply(self, tenant_id: str, agents: Iterable[Agent]) -> None:
        """Take what was committed of agents, here or elsewhere."""
        changed = list(agents)
        for (tenant, pool_id), kept in self._kept.items():
            if tenant == tenant_id:
                kept.mirror.apply(
                    one
                    for one in changed
                    if one.pool_id == pool_id or kept.mirror.get(one.agent_id) is not None
                )

    def drop(self, tenant_id: str, pool_id: str, agent_ids: Iterable[str]) -> None:
        """Forget agents who are not there."""
        if (kept := self._kept.get((tenant_id, pool_id))) is not None:
            kept.mirror.drop(agent_ids)

    async def check(self, tenant_id: str, pool_id: str, age_max_s: float = 0.0) -> bool:
        """Compare a mirror with the tables unless it was lately; tell whether it lagged."""
        kept = self._kept.get((tenant_id, pool_id))
        if kept is None:
            return False
        async with kept.lock:
            started = time.monotonic()
            if kept.checked and started - kept.checked < age_max_s:
                return False
            lagged = await self._compare(tenant_id, kept.mirror)
            kept.checked = started
        return lagged

    async def _compare(self, tenant_id: str, mirror: Mirror) -> bool:
        known = mirror.versions()
        async with self._uow.reading(tenant_id) as repository:
            if not known:
                agents = await repository.pool(tenant_id, mirror.pool_id)
                mirror.apply(agents)
                return bool(agents)
            stored = await repository.pool_versions(tenant_id, mirror.pool_id)
            gone = known.keys() - stored.keys()
            stale = [name for name, version in stored.items() if version > known.get(name, 0)]
            found = await repository.find(tenant_id, stale) if stale else {}
        # One who came by a commit since is newer than what was read.
        mirror.drop(name for name in gone if _as_known(mirror, name, known))
        mirror.apply(found.values())
        return bool(gone or found)

    async def run(self) -> None:
        """Compare all mirrors, and what Redis has, again and again until cancelled."""
        while True:
            await asyncio.sleep(self._check_s)
            with suppress(*FAULTS):
                await self._rebuild_lost()
            for (tenant_id, pool_id), kept in list(self._kept.items()):
                unused_s = UNUSED_S if len(kept.mirror) else UNUSED_EMPTY_S
                if time.monotonic() - kept.used > unused_s:
                    del self._kept[tenant_id, pool_id]
                    continue
                try:
                    await self.check(tenant_id, pool_id, self._check_s / 2)
                except TRANSIENT as error:
                    log.warning("mirror not checked", pool=pool_id, error=repr(error))

    async def _rebuild_lost(self) -> None:
        """Give pools back to a Redis that lost them, from the tables."""
        if self._reservations is None or not self._kept:
            return
        pools = list(self._kept)
        lost = self._reservations.torn()
        whole = await self._reservations.whole(pools)
        lost |= {pool for pool, found in zip(pools, whole, strict=True) if not found}
        for tenant_id, pool_id in lost:
            await self.rebuild(tenant_id, pool_id)

    async def correct(self, tenant_id: str, pool_id: str, agent_ids: Iterable[str]) -> None:
        """Write agents to Redis as they are here, whatever it claims of them."""
        if self._reservations is None or (kept := self._kept.get((tenant_id, pool_id))) is None:
            return
        known = [agent for name in agent_ids if (agent := kept.mirror.get(name)) is not None]
        with suppress(*FAULTS):
            await self._reservations.tell(tenant_id, known, forced=True)

    async def rebuild(self, tenant_id: str, pool_id: str) -> None:
        """Write a pool to Redis as the tables have it."""
        if self._reservations is None:
            return
        try:
            async with self._uow.reading(tenant_id) as repository:
                agents = await repository.pool(tenant_id, pool_id)
        except TRANSIENT as error:
            log.warning("pool not rebuilt", pool=pool_id, error=repr(error))
            return
        with suppress(*FAULTS):
            await self._reservations.rebuild(tenant_id, pool_id, agents)


def _as_known(mirror: Mirror, agent_id: str, known: dict[str, int]) -> bool:
    agent = mirror.get(agent_id)
    return agent is not None and agent.version == known[agent_id]
