"""Sessions of agents, by the real session service on the time of the simulation."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from interchange.gateway.v1.gateway_pb2 import Push

from services.common.clock import BusinessClock
from services.common.db import Connection
from services.common.work import UnitOfWork
from services.session import commands, handlers
from services.session.commands import Outcome
from services.session.domain import Kind, Timings
from services.session.repository import PostgresSessions, Sessions
from services.session.sweep import Sweep
from tests.sim.chance import Chance
from tests.sim.house import Crash, House

TIMINGS = Timings(
    heartbeat_ms=10_000,
    lease=timedelta(seconds=20),
    resume=timedelta(seconds=20),
    keep=timedelta(seconds=60),
)


class Presence:
    """Who is there: sessions of one tenant's agents, which close, or run out unheard."""

    def __init__(self, house: House, clock: BusinessClock, tenant: str, chance: Chance) -> None:
        async def now(connection: Connection) -> datetime:
            return clock.now()

        database = house.databases["session"]
        self._tenant, self._chance = tenant, chance
        self._uow: UnitOfWork[Sessions] = UnitOfWork(
            database, house.settings, lambda connection: PostgresSessions(connection, now), []
        )
        self._sweep = Sweep(database, self._uow, TIMINGS, Nobody(), now)
        self._open: list[tuple[str, str]] = []
        """Agent and session, as far as anybody was told."""

    async def open(self, name: str) -> None:
        """Let an agent open one more session."""
        command = commands.Open(name, Kind.AGENT, "desk")
        for outcome in await self._settle([command]):
            self._chance.note(name, "opens a session")
            self._open.append((name, outcome.session.session_id))

    async def close(self) -> None:
        """Let an agent close a session."""
        if self._open:
            name, session_id = self._open.pop(self._chance.between(0, len(self._open) - 1))
            self._chance.note(name, "closes a session")
            await self._settle([commands.Close(name, session_id)])

    async def sweep(self) -> None:
        """End what nobody heard of for long; sessions of all tenants."""
        try:
            while await self._sweep.sweep():
                pass
        except Crash:
            self._chance.note("session dies while it sweeps")

    async def _settle(self, batch: list[commands.Command]) -> list[Outcome]:
        try:
            outcomes = await handlers.settle(
                self._tenant, batch, uow=self._uow, timings=TIMINGS, pusher=Nobody()
            )
        except Crash:
            return []
        return [one for one in outcomes if isinstance(one, Outcome)]


class Nobody:
    """Nobody is told of who came or went: that has tests of its own."""

    def push(self, pushes: Iterable[Push]) -> None:
        pass
