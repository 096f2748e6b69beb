"""Instances of the agent service: the real matcher, timers and use cases, without tasks."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime
from typing import Any

from services.agent import settling, working
from services.agent.agenda import Agenda
from services.agent.desk import Desk
from services.agent.due import Found, PostgresDue
from services.agent.floor import Tools
from services.agent.matcher import Matcher
from services.agent.mirrors import Mirrors
from services.agent.offering import Offering
from services.agent.proposals import Proposal
from services.agent.repository import Agents, PostgresAgents
from services.agent.reservations import Reservation, Reserving
from services.agent.timers import Timers
from services.common.clock import BusinessClock
from services.common.ids import Uuid7
from services.common.work import UnitOfWork
from tests.sim.chance import Chance
from tests.sim.house import Crash, House
from tests.sim.talk.cast import POOLS, TENANTS
from tests.sim.talk.sky import Sky

World = Callable[[], Awaitable[None]]
"""Lets the world go on by one step."""


class Liar(Reserving):
    """A Redis that is down, empty or wrong as often as the sky says."""

    def __init__(self, chance: Chance, world: World) -> None:
        self.sky = Sky()
        self._chance, self._world = chance, world

    async def reserve(
        self, tenant_id: str, pool_id: str, tokens: Sequence[str], proposals: Sequence[Proposal]
    ) -> list[Reservation] | None:
        chance, sky = self._chance, self.sky
        if not proposals:
            return None
        if chance.happens(sky.meanwhile):
            await self._world()
        if chance.happens(sky.redis_is_down):
            return None
        return [self._one(proposal) for proposal in proposals]

    async def release(self, tenant_id: str, pool_id: str, held: Sequence[tuple[str, str]]) -> None:
        pass

    async def tell(
        self,
        tenant_id: str,
        agents: Collection[Any],
        ended: Sequence[tuple[str, str]] = (),
        *,
        forced: bool = False,
    ) -> None:
        pass

    async def rebuild(self, tenant_id: str, pool_id: str, agents: Collection[Any]) -> None:
        pass

    def _one(self, proposal: Proposal) -> Reservation:
        chance = self._chance
        if not chance.happens(self.sky.redis_lies):
            return Reservation(0)
        lie = chance.pick(("another", "held", "newer", "none"))
        if lie == "another":
            return Reservation(chance.between(0, len(proposal.candidates) - 1))
        return Reservation(None, held=lie == "held", newer=lie == "newer")


class OrderlyDue(PostgresDue):
    """What is due, in one order: the database returns it in an order of its own."""

    async def claim(self, now: datetime) -> Found:
        found = await super().claim(now)
        for by_tenant in (found.offers, found.departures, found.unsettled):
            ordered = {tenant: sorted(by_tenant[tenant]) for tenant in sorted(by_tenant)}
            by_tenant.clear()
            by_tenant.update(ordered)  # type: ignore[arg-type]
        found.waiting.sort()
        return found


class Floor:
    """One instance of the agent service."""

    def __init__(
        self, house: House, clock: BusinessClock, ids: Uuid7, chance: Chance, world: World
    ) -> None:
        self.redis = Liar(chance, world)
        self.busy = False
        """True while it matches: the world that goes on meanwhile is other instances."""
        self._house, self._clock, self._ids, self._chance = house, clock, ids, chance
        self.restart()

    def restart(self) -> None:
        """Begin as a new process does: with an empty mirror and an empty agenda."""
        house = self._house
        database, settings = house.databases["agent"], house.settings
        uow: UnitOfWork[Agents] = UnitOfWork(database, settings, PostgresAgents, [])
        self.agenda = Agenda()
        self._mirrors = Mirrors(uow, self.redis, settings.agent_mirror_check_ms)  # type: ignore[arg-type]
        self.tools = Tools(uow, self._clock, self._ids, self)
        offering = Offering(self.tools, self._mirrors, self.redis, settings)
        self._matcher = Matcher(self.tools, self.agenda, self._mirrors, offering, settings)
        self._timers = Timers(self.tools, self.agenda, OrderlyDue(database), settings)

    def tell(self, tenant_id: str, desks: Sequence[Desk], waiting: Collection[str] = ()) -> None:
        """Take the news of this instance; nobody else is told, mirrors lag."""
        self._mirrors.apply(tenant_id, [desk.agent for desk in desks])
        for pool in waiting:
            self.agenda.match(tenant_id, pool)

    async def work(self, tenant: str, commands: Sequence[working.Command]) -> list[working.Outcome]:
        """Do what agents say, in one transaction."""
        return await working.work(tenant, commands, tools=self.tools)

    async def attend(self) -> None:
        """Do what is on the agenda."""
        for tenant in TENANTS:
            for pool in POOLS:
                if self.agenda.has((tenant, pool)):
                    await self._match(tenant, pool, self.agenda.take_pool((tenant, pool)))
            while names := self.agenda.take_unsettled(tenant):
                await settling.settle(tenant, names, tools=self.tools)

    async def match(self, tenant: str, pool: str) -> None:
        """Look at everybody who waits in a pool."""
        await self._match(tenant, pool, None)

    async def sweep(self) -> None:
        """Do what is due."""
        await self._timers.sweep()

    async def repair(self) -> int:
        """Compare and repair; return how much was wrong."""
        return await self._timers.repair()

    async def alive(self, doing: Awaitable[Any], what: str) -> Any:
        """Do something; begin anew when the process dies of it."""
        self.busy = True
        try:
            return await doing
        except Crash:
            self._chance.note("agent dies while it", what)
            self.restart()
            return None
        finally:
            self.busy = False

    async def _match(self, tenant: str, pool: str, wanted: frozenset[str] | None) -> None:
        await self._matcher.match(tenant, pool, wanted)
