"""Puts the parts of matching together, for the service and for tests."""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from redis.asyncio import Redis

from services.agent.agenda import Agenda
from services.agent.due import PostgresDue
from services.agent.floor import Tools
from services.agent.matcher import Matcher
from services.agent.mirrors import Mirrors
from services.agent.news import Changes, Told
from services.agent.offering import Offering
from services.agent.repository import Agents
from services.agent.reservations import Reservations
from services.agent.timers import Timers
from services.common.clock import BusinessClock
from services.common.config import Settings
from services.common.db import Database
from services.common.ids import Uuid7
from services.common.push import Pusher
from services.common.work import WorkUnits

Run = Callable[[], Coroutine[Any, Any, None]]


class Matching:
    """One instance: its agenda and mirrors, and who works on them."""

    def __init__(
        self,
        uow: WorkUnits[Agents],
        database: Database,
        client: Redis,
        pusher: Pusher,
        clock: BusinessClock,
        settings: Settings,
    ) -> None:
        self.agenda = Agenda()
        self.reservations = Reservations(client)
        self.mirrors = Mirrors(uow, self.reservations, settings.agent_mirror_check_ms)
        self.news = Told(self.mirrors, self.reservations, client, pusher, self.agenda)
        self.tools = Tools(uow, clock, Uuid7(), self.news)
        offering = Offering(self.tools, self.mirrors, self.reservations, settings)
        self.matcher = Matcher(self.tools, self.agenda, self.mirrors, offering, settings)
        self.timers = Timers(self.tools, self.agenda, PostgresDue(database), settings)
        self._changes = Changes(client, self.mirrors)

    def tasks(self) -> Mapping[str, Run]:
        """Return what runs for as long as the instance does, by name."""
        return {
            "matcher": self.matcher.run,
            "timers": self.timers.run,
            "repairs": self.timers.keep_repaired,
            "mirrors": self.mirrors.run,
            "news": self.news.run,
            "changes": self._changes.run,
        }
