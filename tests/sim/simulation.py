"""One run: a day of a tenant in a world of faults, decided by a seed."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from services.common.clock import ManualClock
from services.ledger import consumer as ledger
from services.ledger.repository import PostgresBooks as LedgerBooks
from services.position import consumer as position
from services.position import fills
from services.position.repository import PostgresBooks as PositionBooks
from services.trade import consumer as trade
from services.trade.repository import PostgresTrades
from tests.sim.caller import Caller
from tests.sim.chance import Chance
from tests.sim.desk import TENANT, Desk, SeededIds
from tests.sim.follower import Follower
from tests.sim.house import HEARD, LOST, UNHEARD, House
from tests.sim.laws import breaches
from tests.sim.operations import Operator
from tests.sim.seen import see
from tests.sim.weather import CALM, Weather
from tests.sim.wire import Relay

MORNING = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
STEPS = 120
ROUNDS_MAX = 60
"""Rounds without faults in which a run must come to rest."""

ACTIONS = {
    "book": 20.0,
    "move": 6.0,
    "instrument": 1.5,
    "relay": 16.0,
    "deliver": 34.0,
    "tend": 10.0,
    "age": 3.0,
    "operate": 3.0,
    "restart": 2.0,
    "rewind": 1.0,
}


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a run."""

    seed: int
    breaches: list[str]
    digest: str
    trades: int
    last_words: str


class Simulation:
    """The services, the ways between them, their callers and their operator."""

    def __init__(self, house: House, seed: int, ids: SeededIds) -> None:
        self.chance = Chance(seed)
        self.weather = Weather.of(self.chance)
        self.clock = ManualClock(MORNING)
        self.caller = Caller(Desk(house, self.clock, ids), self.chance)
        self.relays = [Relay(house, name) for name in ("instrument", "account", "trade")]
        self.followers = [
            Follower(
                *(house, self.chance, "trade", trade.TOPICS, trade.MESSAGES, PostgresTrades),
                trade.on_reference_changed,
            ),
            Follower(
                *(house, self.chance, "position", fills.TOPICS, position.MESSAGES, PositionBooks),
                position.on_events(self.clock),
            ),
            Follower(
                *(house, self.chance, "ledger", ledger.TOPICS, ledger.MESSAGES, LedgerBooks),
                ledger.posting(self.clock, ids),
            ),
        ]
        self.operator = Operator(house, self.chance, self.caller.sent)
        self._house = house
        self._steps = 0

    async def run(self) -> Report:
        """Let the day pass, let everything come to rest, and see whether the laws held."""
        self.chance.note(self.weather)
        await self._house.empty()
        await self.caller.open()
        for follower in self.followers:
            await follower.start()
            follower.weather = self.weather
        for database in self._house.databases.values():
            database.fate = self._fate
        for _ in range(STEPS):
            await self._step()
        self.weather = CALM
        for follower in self.followers:
            follower.weather = CALM
        came_to_rest = await self._settle()
        found = breaches(self.caller.sent, await see(self._house.owner, TENANT))
        if not came_to_rest:
            found.insert(0, f"the run did not come to rest in {ROUNDS_MAX} rounds")
        for breach in found:
            self.chance.note(breach)
        return Report(
            self.chance.seed,
            found,
            self.chance.digest(),
            len(self.caller.sent.trades),
            self.chance.last_words(),
        )

    async def _step(self) -> None:
        self._steps += 1
        self.clock.advance(timedelta(microseconds=self.chance.between(1, 5_000_000)))
        for follower in self.followers:
            follower.subscription.arrive(self._steps)
        action = self.chance.weighted(ACTIONS)
        self.chance.note("step", self._steps, action)
        follower = self.chance.pick(self.followers)
        if action == "book":
            await self.caller.book()
        elif action == "move":
            await self.caller.move()
        elif action == "instrument":
            await self.caller.halt_or_resume()
        elif action == "relay":
            await self._relay(self.chance.pick(self.relays))
        elif action == "deliver":
            await follower.deliver()
        elif action == "tend":
            await follower.tend()
        elif action == "age":
            await follower.age_gaps()
        elif action == "operate":
            await self.operator.work(follower)
        elif action == "restart":
            await follower.start()
        elif self.chance.happens(self.weather.rewinds * 10):
            follower.rewind()

    async def _relay(self, relay: Relay) -> int:
        subscriptions = [follower.subscription for follower in self.followers]
        return await relay.run(subscriptions, self._steps, self.chance, self.weather)

    async def _settle(self) -> bool:
        """Finish everything without further faults; tell whether it ever ended."""
        await self.caller.close()
        for _ in range(ROUNDS_MAX):
            await self.caller.send(self.caller.unanswered)
            await self.caller.send_moves(self.caller.unanswered_moves)
            self._steps += 1_000
            for relay in self.relays:
                while await self._relay(relay):
                    pass
            for follower in self.followers:
                follower.subscription.arrive(self._steps)
                while follower.waiting:
                    await follower.deliver()
                await follower.age_gaps()
                await follower.tend()
                await self.operator.work(follower, finish=True)
            if await self._rests():
                return True
        return False

    async def _rests(self) -> bool:
        parked = [await self.operator.parked(follower) for follower in self.followers]
        return not (any(parked) or self.caller.unanswered or self.caller.unanswered_moves)

    def _fate(self, service: str) -> str:
        """Decide what becomes of a commit."""
        callers = service in ("account", "trade")
        dies = self.weather.client_dies if callers else self.weather.follower_dies
        # The copies of accounts and instruments are a follower's work too.
        if service == "instrument" or not self.chance.happens(dies):
            return HEARD
        fate = self.chance.pick((LOST, UNHEARD))
        self.chance.note(service, "dies, its commit is", fate)
        return fate


async def simulate(house: House, seed: int, ids: SeededIds) -> Report:
    """Run a seed."""
    return await Simulation(house, seed, ids).run()
