"""One run: an hour of two tenants who talk in a world of faults, decided by a seed."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta

from interchange.gateway.v1.gateway_pb2 import Push
from interchange.message.v1.message_pb2 import Message

from services.agent import consumer as agent
from services.agent.repository import PostgresAgents
from services.bot import consumer as bot
from services.bot.repository import PostgresBots
from services.common.clock import ManualClock
from services.conversation import consumer as conversation
from services.conversation.news import PushedNews
from services.conversation.repository import PostgresConversations
from services.message import consumer as message
from services.message.repository import PostgresMessages
from tests.sim import ways
from tests.sim.chance import Chance
from tests.sim.follower import Consumer, Follower
from tests.sim.house import House
from tests.sim.ids import SeededIds
from tests.sim.operations import Operator
from tests.sim.report import Report
from tests.sim.talk import cast
from tests.sim.talk.answering import Answering, age_turns, turns_left
from tests.sim.talk.gateways import Gateway
from tests.sim.talk.laws import breaches
from tests.sim.talk.laws_of_desks import overloads
from tests.sim.talk.matching import Floor
from tests.sim.talk.office import Office, SimKeys
from tests.sim.talk.seen import FOLLOWED, see, slots
from tests.sim.talk.sky import CLEAR, Sky
from tests.sim.talk.tenancy import Tenancy
from tests.sim.ways import Ways
from tests.sim.weather import Weather
from tests.sim.wire import EventId, Relay

MORNING = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
STEPS = 150
ROUNDS_MAX = 60
"""Rounds without faults in which a run must come to rest."""
SERVICES = ("session", "conversation", "message", "bot", "agent")

ACTIONS = {
    "start": 5.0,
    "say": 12.0,
    "turn": 11.0,
    "mark": 2.0,
    "come": 4.0,
    "go": 2.0,
    "open session": 1.5,
    "close session": 1.0,
    "sweep sessions": 2.0,
    "decide": 14.0,
    "answer": 20.0,
    "agent turns": 9.0,
    "attend": 18.0,
    "match": 3.0,
    "sweep": 5.0,
    "bot": 12.0,
    "age turns": 3.0,
    "clients": 10.0,
    "look": 4.0,
    "break": 2.0,
    "operate": 6.0,
    "office restarts": 1.0,
    "gateway vanishes": 0.7,
}
MEANWHILE = {
    "turn": 10.0,
    "say": 6.0,
    "go": 5.0,
    "come": 3.0,
    "decide": 8.0,
    "agent turns": 8.0,
    "attend": 6.0,
    "match": 8.0,
    "sweep": 8.0,
    "lease runs out": 12.0,
    "bot": 8.0,
}
"""What happens while somebody waits for somebody else: what gets into his way."""
MOVES = ways.ACTIONS | {"age": 10.0}
"""What else happens on the ways: gaps are old sooner than in a day of trades."""
STARTS = 3
"""Times that conversations are started before all else."""
INSTANCES = 2
"""Of the bot, the agent service and the gateway."""


class Simulation:
    """The services, the ways between them, and all who talk."""

    def __init__(self, house: House, seed: int, ids: SeededIds) -> None:
        self.chance = chance = Chance(seed)
        self.clock = ManualClock(MORNING)
        weather, self.sky = Weather.of(chance), Sky.of(chance)
        self._house, self._keys = house, SimKeys()
        self._problems: list[str] = []
        self.floors = [
            Floor(house, self.clock, ids, chance, self._meanwhile) for _ in range(INSTANCES)
        ]
        self.bots = [
            Answering(house, self.clock, self._keys, chance, self._meanwhile)
            for _ in range(INSTANCES)
        ]
        news = PushedNews(_nobody_watches, self._push)
        self.office = Office(house, self.clock, ids, self._keys, self._push, news)
        self.gateways = [Gateway(house, self.office, chance) for _ in range(INSTANCES)]
        self.tenancies = [
            Tenancy(name, house, self.clock, self.office, self._floor, self._learn, chance)
            for name in cast.TENANTS
        ]
        relays = [Relay(house, name) for name in SERVICES]
        followers = [Follower(house, chance, make) for make in self._consumers(news)]
        self.ways = Ways(chance, weather, relays, followers)
        self.operator = Operator(house, chance, self._problems, skip=_nothing_is_skipped)
        self._calling = False
        self._nested = False

    async def run(self) -> Report:
        """Let the hour pass, let everything come to rest, and see whether the laws held."""
        self.chance.note(self.ways.weather)
        self.chance.note(self.sky)
        await self.open()
        for _ in range(STEPS):
            await self._step()
        return await self.close()

    async def open(self, starts: int = STARTS) -> None:
        """Empty the house, and let everybody begin."""
        await self._house.empty()
        await self.bots[0].open()
        for tenancy in self.tenancies:
            await tenancy.staff.open()
        await self.ways.start()
        self._under(self.sky)
        for database in self._house.databases.values():
            database.fate = self._fate
        for tenancy in self.tenancies:
            for name in cast.AGENTS:
                if self.chance.happens(0.85):
                    await tenancy.staff.come(name)
            for _ in range(starts):
                await tenancy.customers.start()

    async def close(self) -> Report:
        """Let everything come to rest without further faults, and look at the laws."""
        came_to_rest = await self._settle()
        found = [*self._problems]
        for tenancy in self.tenancies:
            seen = await see(self._house.owner, tenancy.tenant, self._keys)
            found += [f"{tenancy.tenant}: {one}" for one in breaches(tenancy.told, seen)]
        if not came_to_rest:
            found.insert(0, f"the run did not come to rest in {ROUNDS_MAX} rounds")
        for gateway in self.gateways:
            await gateway.close()
        count = sum(len(tenancy.told.answers) for tenancy in self.tenancies)
        return Report.of(self.chance, found, count)

    async def _step(self) -> None:
        self.clock.advance(timedelta(microseconds=self.chance.between(1, 3_000_000)))
        self.ways.step()
        await self._arrive()
        action = self.chance.weighted(ACTIONS)
        self.chance.note("step", self.ways.steps, action)
        await self._act(action)
        await self.ways.flow()
        await self.ways.act(self.chance.weighted(MOVES))
        await self._check_loads()

    async def _meanwhile(self) -> None:
        """Go on by one step while somebody waits for somebody else; no deeper."""
        if self._nested:
            return
        self._nested = True
        try:
            if self.chance.happens(0.3):
                await self.ways.flow()
                return
            action = self.chance.weighted(MEANWHILE)
            self.chance.note("meanwhile:", action)
            await self._act(action)
        finally:
            self._nested = False

    async def _act(self, action: str) -> None:
        calling, self._calling = self._calling, True
        try:
            if not await self._act_of_people(action):
                self._calling = False
                await self._act_of_services(action)
        finally:
            self._calling = calling
        # What began behind it ends before anything else begins: else runs would differ.
        for gateway in self.gateways:
            await gateway.settle()

    async def _act_of_people(self, action: str) -> bool:
        tenancy = self.chance.pick(self.tenancies)
        if action in ("come", "decide", "go") and all(floor.busy for floor in self.floors):
            return True
        match action:
            case "start":
                await tenancy.customers.start()
            case "say":
                await tenancy.customers.say()
            case "turn":
                await tenancy.customers.turn()
            case "mark":
                await tenancy.customers.read()
            case "come":
                await tenancy.staff.come()
            case "go":
                await tenancy.staff.go()
            case "open session":
                await tenancy.presence.open(self.chance.pick(list(cast.AGENTS)))
            case "close session":
                await tenancy.presence.close()
            case "decide":
                await tenancy.staff.decide()
            case "answer":
                await tenancy.staff.answer()
            case "agent turns":
                await tenancy.staff.turn()
            case "break":
                tenancy.drop_one()
            case _:
                return False
        return True

    async def _act_of_services(self, action: str) -> None:
        floor, worker = self.chance.pick(self.floors), self.chance.pick(self.bots)
        gateway = self.chance.pick(self.gateways)
        match action:
            case "attend" if not floor.busy:
                await floor.alive(floor.attend(), "attends to its agenda")
            case "match" if not floor.busy:
                tenant, pool = self.chance.pick(cast.TENANTS), self.chance.pick(cast.POOLS)
                await floor.alive(floor.match(tenant, pool), "matches")
            case "sweep" if not floor.busy:
                await floor.alive(floor.sweep(), "sweeps")
            case "bot" if not worker.busy:
                await worker.answer()
            case "sweep sessions":
                await self.tenancies[0].presence.sweep()
            case "age turns":
                await age_turns(self._house.owner)
            case "lease runs out":
                await age_turns(self._house.owner)
                for other in self.bots:
                    if not other.busy:
                        await other.answer()
            case "clients":
                self.chance.pick(self.tenancies).connect(self.gateways)
                await self._arrive()
            case "look":
                await gateway.look()
            case "operate":
                await self.operator.work(self.chance.pick(self.ways.followers))
            case "office restarts":
                self.office.restart()
            case "gateway vanishes":
                await self._lose(gateway)

    async def _arrive(self) -> None:
        """Hand out what was pushed, and let clients read."""
        for gateway in self.gateways:
            await gateway.arrive(self.ways.steps)
        for tenancy in self.tenancies:
            tenancy.read()

    async def _lose(self, gateway: Gateway) -> None:
        """Let an instance of the gateway vanish, with its sockets."""
        self.chance.note("a gateway vanishes")
        for tenancy in self.tenancies:
            tenancy.drop_from(gateway)
        await gateway.close()
        new = Gateway(self._house, self.office, self.chance)
        new.sky = self.sky
        self.gateways[self.gateways.index(gateway)] = new

    async def _check_loads(self) -> None:
        """Hold agents to their capacity: at every moment, not only at the end."""
        for name in cast.TENANTS:
            for one in overloads(await slots(self._house.owner, name)):
                problem = f"in step {self.ways.steps} {name}: {one}"
                if len(self._problems) < 3:
                    self._problems.append(problem)

    async def _settle(self) -> bool:
        """Finish everything without further faults; tell whether it ever ended."""
        self.chance.note("all faults end")
        self.ways.calm()
        self._under(CLEAR)
        self.ways.find_lost()
        all_come = self.chance.happens(0.5)
        before: object = None
        for _ in range(ROUNDS_MAX):
            if all_come:
                for tenancy in self.tenancies:
                    for name in cast.AGENTS:
                        await tenancy.staff.come(name)
            await self._round()
            state = await self._state()
            if state is not None and state == before:
                return True
            before = state
        return False

    async def _round(self) -> None:
        """Let everybody do once what he has to do."""
        self.clock.advance(timedelta(minutes=2))
        for tenancy in self.tenancies:
            await tenancy.finish()
        await self.ways.finish()
        for follower in self.ways.followers:
            await self.operator.work(follower, finish=True)
        await age_turns(self._house.owner)
        while await self.bots[0].answer():
            pass
        await self.tenancies[0].presence.sweep()
        await self.ways.finish()
        for floor in self.floors:
            await floor.sweep()
            await floor.attend()
        for tenancy in self.tenancies:
            await tenancy.staff.accept_all()
        await self.ways.finish()
        for gateway in self.gateways:
            await gateway.arrive(self.ways.steps)
            await gateway.look()
        for tenancy in self.tenancies:
            for name in cast.AGENTS:
                await tenancy.staff.look(name)
            tenancy.connect(self.gateways, everybody=True)
        await self._arrive()

    async def _state(self) -> object:
        """Return what changes as long as anything happens; None while somebody waits."""
        owner = self._house.owner
        if not all(tenancy.rests for tenancy in self.tenancies) or await turns_left(owner):
            return None
        for service in FOLLOWED:
            if await owner.fetchval(f"SELECT count(*) FROM {service}.parked_keys"):
                return None
        counts = [
            await owner.fetchval(f"SELECT count(*) FROM {service}.outbox") for service in SERVICES
        ]
        return counts, await owner.fetchval("SELECT sum(version) FROM agent.agents")

    def _consumers(self, news: PushedNews) -> Sequence[Callable[[], Consumer]]:
        """Return who follows what."""

        def of_conversation() -> Consumer:
            decisions = conversation.Decisions(self.clock, news)
            return Consumer(
                "conversation",
                conversation.TOPICS,
                conversation.MESSAGES,
                PostgresConversations,
                decisions.on_decided,
                decisions.prepare,
                decisions.applied,
            )

        def of_message() -> Consumer:
            follower = message.Follower(self._keys, self._push, _nobody_waits)
            return Consumer(
                "message",
                message.TOPICS,
                message.MESSAGES,
                PostgresMessages,
                follower.apply,
                follower.prepare,
                follower.applied,
            )

        def of_bot() -> Consumer:
            return Consumer("bot", bot.TOPICS, bot.MESSAGES, PostgresBots, bot.on_events)

        def of_agent() -> Consumer:
            noted = agent.Noted()
            return Consumer(
                "agent",
                agent.TOPICS,
                agent.MESSAGES,
                PostgresAgents,
                agent.on_events(self.clock, self._house.settings, noted),
                on_applied=lambda: noted.tell(self.floors[0].agenda),
            )

        return of_conversation, of_message, of_bot, of_agent

    def _floor(self) -> Floor:
        """Return the instance that a call of an agent comes to."""
        return self.chance.pick([floor for floor in self.floors if not floor.busy])

    def _push(self, pushes: Iterable[Push]) -> None:
        told = list(pushes)
        for gateway in self.gateways:
            gateway.push(told, self.ways.steps)

    def _learn(self, tenant: str, message: Message) -> None:
        """Let the instance know through which something was sent, unless it is gone by now."""
        gateway = self.chance.pick(self.gateways)
        if self.chance.happens(0.5):
            gateway.feeds.learn(tenant, message)

    def _under(self, sky: Sky) -> None:
        for one in (*self.gateways, *(floor.redis for floor in self.floors)):
            one.sky = sky
        for bot_instance in self.bots:
            bot_instance.nlu.sky = sky

    def _fate(self, service: str) -> str:
        weather = self.ways.weather
        return self.ways.fate(
            service, weather.client_dies if self._calling else weather.follower_dies
        )


def _nothing_is_skipped(service: str, event: EventId) -> None:
    raise AssertionError(f"{service} was to skip {event}: nothing is mangled here")


def _nobody_watches(changes: object) -> None:
    """Wake no watcher: the gateway follows by itself."""


def _nobody_waits() -> None:
    """Wake nobody: copies come when the simulation delivers them."""


async def simulate(house: House, seed: int, ids: SeededIds) -> Report:
    """Run a seed."""
    return await Simulation(house, seed, ids).run()
