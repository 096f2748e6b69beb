"""Instances of the bot: the real worker, with an NLU that is scripted, slow and fails."""

from collections.abc import Awaitable, Callable, Sequence

import asyncpg
from interchange.nlu.v1.nlu_service_pb2 import DetectIntentRequest

from services.bot import handlers
from services.bot.domain import Detection
from services.bot.repository import Bots, PostgresBots
from services.bot.turns import PostgresQueue
from services.bot.understanding import Understanding
from services.bot.worker import Patience, Worker
from services.common.clock import BusinessClock
from services.common.personal import Keys
from services.common.work import UnitOfWork
from tests.sim.chance import Chance
from tests.sim.house import Crash, House
from tests.sim.talk import cast
from tests.sim.talk.sky import Sky

World = Callable[[], Awaitable[None]]
"""Lets the world go on by one step."""
SURE, UNSURE = 900, 100
HOUR_MS = 3_600_000
"""Longer than any run: a lease is over, and a pause, when the simulation says so."""
POISON = cast.ODD
"""A topic that the NLU fails on, each time."""


class Script(Understanding):
    """Understands the second word."""

    def __init__(self, chance: Chance, world: World) -> None:
        self.sky = Sky()
        self._chance, self._world = chance, world

    async def detect(
        self, tenant_id: str, requests: Sequence[DetectIntentRequest]
    ) -> Sequence[Detection | None]:
        chance, sky = self._chance, self.sky
        for _ in range(3):
            if chance.happens(sky.nlu_is_slow):
                await self._world()
        if chance.happens(sky.nlu_fails):
            chance.note("the NLU does not answer")
            return [None] * len(requests)
        return [self._one(request.text) for request in requests]

    def _one(self, text: str) -> Detection | None:
        topic = text.split()[1]
        if topic == POISON or self._chance.happens(self.sky.nlu_fails / 2):
            return None
        return Detection(topic, UNSURE if topic == cast.MUMBLE else SURE, 1)


class Answering:
    """One instance of the bot service."""

    def __init__(
        self, house: House, clock: BusinessClock, keys: Keys, chance: Chance, world: World
    ) -> None:
        self.nlu = Script(chance, world)
        self.busy = False
        """True while it answers: the world that goes on meanwhile is other instances."""
        self._house, self._clock, self._keys, self._chance = house, clock, keys, chance
        self._uow: UnitOfWork[Bots] = UnitOfWork(
            house.databases["bot"], house.settings, PostgresBots, []
        )
        self.restart()

    def restart(self) -> None:
        """Begin as a new process does."""
        self._queue = PostgresQueue(self._house.databases["bot"], 3, HOUR_MS)
        self._worker = Worker(
            *(self._queue, self._uow, self.nlu, self._keys, self._clock),
            *(Patience(3, HOUR_MS), HOUR_MS),
        )

    async def open(self) -> None:
        """Describe the bots of all tenants."""
        for tenant in cast.TENANTS:
            await handlers.put_bot(tenant, cast.bot(), uow=self._uow)

    async def answer(self) -> int:
        """Take some turns and answer them; return how many."""
        self.busy = True
        count = 0
        try:
            claimed = await self._queue.claim((), self._chance.between(1, 2))
            # The database returns them in an order of its own.
            for tenant in sorted(claimed):
                turns = sorted(claimed[tenant], key=lambda one: (one.conversation_id, one.sequence))
                count += len(turns)
                try:
                    await self._worker._settle(tenant, turns)
                except Crash:
                    self._chance.note("a bot dies while it answers", len(turns))
                    self.restart()
        except Crash:
            self._chance.note("a bot dies while it takes turns")
            self.restart()
        finally:
            self.busy = False
        return count


async def age_turns(owner: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Let leases and pauses run out."""
    await owner.execute("UPDATE bot.turns SET due_at = '-infinity'")


async def turns_left(owner: "asyncpg.Connection[asyncpg.Record]") -> int:
    """Return how many turns wait for their answer."""
    count: int = await owner.fetchval("SELECT count(*) FROM bot.turns")
    return count
