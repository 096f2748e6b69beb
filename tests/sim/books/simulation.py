"""One run: a day of a tenant in a world of faults, decided by a seed."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from services.common.clock import ManualClock
from services.ledger import consumer as ledger
from services.ledger.repository import PostgresBooks as LedgerBooks
from services.position import consumer as position
from services.position import fills
from services.position.repository import PostgresBooks as PositionBooks
from services.trade import consumer as trade
from services.trade.repository import PostgresTrades
from tests.sim import ways
from tests.sim.books.caller import Caller
from tests.sim.books.desk import TENANT, Desk
from tests.sim.books.laws import breaches
from tests.sim.books.market import mangled
from tests.sim.books.seen import see
from tests.sim.books.sent import Skip
from tests.sim.chance import Chance
from tests.sim.follower import Consumer, Follower
from tests.sim.house import HEARD, House
from tests.sim.ids import SeededIds
from tests.sim.operations import Operator
from tests.sim.report import Report
from tests.sim.ways import Ways
from tests.sim.weather import Weather
from tests.sim.wire import Relay

MORNING = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
STEPS = 120
ROUNDS_MAX = 60
"""Rounds without faults in which a run must come to rest."""

ACTIONS = ways.ACTIONS | {"book": 20.0, "move": 6.0, "instrument": 1.5, "operate": 3.0}


class Simulation:
    """The services, the ways between them, their callers and their operator."""

    def __init__(self, house: House, seed: int, ids: SeededIds) -> None:
        self.chance = Chance(seed)
        self.clock = ManualClock(MORNING)
        weather = Weather.of(self.chance)
        self.caller = Caller(Desk(house, self.clock, ids), self.chance)
        relays = [Relay(house, name) for name in ("instrument", "account", "trade")]
        followers = [
            Follower(house, self.chance, consumer, mangled)
            for consumer in consumers(self.clock, ids)
        ]
        self.ways = Ways(self.chance, weather, relays, followers)
        sent = self.caller.sent
        self.operator = Operator(
            *(house, self.chance, sent.problems),
            skip=lambda service, event: sent.skipped.add(Skip(service, *event[1:])),
        )
        self._house = house

    async def run(self) -> Report:
        """Let the day pass, let everything come to rest, and see whether the laws held."""
        self.chance.note(self.ways.weather)
        await self._house.empty()
        await self.caller.open()
        await self.ways.start()
        for database in self._house.databases.values():
            database.fate = self._fate
        for _ in range(STEPS):
            await self._step()
        self.ways.calm()
        came_to_rest = await self._settle()
        found = breaches(self.caller.sent, await see(self._house.owner, TENANT))
        if not came_to_rest:
            found.insert(0, f"the run did not come to rest in {ROUNDS_MAX} rounds")
        return Report.of(self.chance, found, len(self.caller.sent.trades))

    async def _step(self) -> None:
        self.clock.advance(timedelta(microseconds=self.chance.between(1, 5_000_000)))
        self.ways.step()
        action = self.chance.weighted(ACTIONS)
        self.chance.note("step", self.ways.steps, action)
        if action == "book":
            await self.caller.book()
        elif action == "move":
            await self.caller.move()
        elif action == "instrument":
            await self.caller.halt_or_resume()
        elif action == "operate":
            await self.operator.work(self.chance.pick(self.ways.followers))
        else:
            await self.ways.act(action)

    async def _settle(self) -> bool:
        """Finish everything without further faults; tell whether it ever ended."""
        await self.caller.close()
        for _ in range(ROUNDS_MAX):
            await self.caller.send(self.caller.unanswered)
            await self.caller.send_moves(self.caller.unanswered_moves)
            await self.ways.finish()
            for follower in self.ways.followers:
                await self.operator.work(follower, finish=True)
            if await self._rests():
                return True
        return False

    async def _rests(self) -> bool:
        parked = [await self.operator.parked(follower) for follower in self.ways.followers]
        return not (any(parked) or self.caller.unanswered or self.caller.unanswered_moves)

    def _fate(self, service: str) -> str:
        weather = self.ways.weather
        if service == "instrument":
            return HEARD  # its own service is not simulated
        # The copies of accounts and instruments are a follower's work too.
        callers = service in ("account", "trade")
        return self.ways.fate(service, weather.client_dies if callers else weather.follower_dies)


def consumers(clock: ManualClock, ids: SeededIds) -> Sequence[Callable[[], Consumer]]:
    """Return who follows what."""
    return (
        lambda: Consumer(
            *("trade", trade.TOPICS, trade.MESSAGES, PostgresTrades),
            trade.on_reference_changed,
        ),
        lambda: Consumer(
            *("position", fills.TOPICS, position.MESSAGES, PositionBooks),
            position.on_events(clock),
        ),
        lambda: Consumer(
            *("ledger", ledger.TOPICS, ledger.MESSAGES, LedgerBooks),
            ledger.posting(clock, ids),
        ),
    )


async def simulate(house: House, seed: int, ids: SeededIds) -> Report:
    """Run a seed."""
    return await Simulation(house, seed, ids).run()
