"""The ways between services: relays that publish, followers that apply, and time."""

from collections.abc import Sequence

from tests.sim.chance import Chance
from tests.sim.follower import Follower
from tests.sim.house import HEARD, LOST, UNHEARD
from tests.sim.weather import CALM, Weather
from tests.sim.wire import Relay

ACTIONS = {
    "relay": 16.0,
    "deliver": 34.0,
    "tend": 10.0,
    "age": 3.0,
    "restart": 2.0,
    "rewind": 1.0,
}
"""What happens on the way, and how often."""
LATE_STEPS = 1_000
"""More than any event may be late."""


class Ways:
    """All relays and followers of a run."""

    def __init__(
        self,
        chance: Chance,
        weather: Weather,
        relays: Sequence[Relay],
        followers: Sequence[Follower],
    ) -> None:
        self.weather = weather
        self.steps = 0
        self.followers = followers
        self._chance, self._relays = chance, relays

    async def start(self) -> None:
        """Start all followers, in the weather of the run."""
        for follower in self.followers:
            await follower.start()
            follower.weather = self.weather

    def calm(self) -> None:
        """Let nothing go wrong any more."""
        self.weather = CALM
        for follower in self.followers:
            follower.weather = CALM

    def find_lost(self) -> None:
        """Let even what was lost come: the last event of a key has no next one to tell of it."""
        for follower in self.followers:
            follower.subscription.find_lost()
            # Who changed places with one that was read already was lost, too.
            follower.rewind()

    def step(self) -> None:
        """Let what was late arrive."""
        self.steps += 1
        for follower in self.followers:
            follower.subscription.arrive(self.steps)

    async def flow(self) -> None:
        """Let events move a little, at many places."""
        for relay in self._relays:
            if self._chance.happens(0.6):
                await self._relay(relay)
        for follower in self.followers:
            if self._chance.happens(0.6):
                await follower.deliver()

    async def act(self, action: str) -> None:
        """Do one thing somewhere on the way."""
        follower = self._chance.pick(self.followers)
        if action == "relay":
            await self._relay(self._chance.pick(self._relays))
        elif action == "deliver":
            await follower.deliver()
        elif action == "tend":
            await follower.tend()
        elif action == "age":
            await follower.age_gaps()
        elif action == "restart":
            await follower.start()
        elif self._chance.happens(self.weather.rewinds * 10):
            follower.rewind()

    async def finish(self) -> None:
        """Bring everything that was committed to everybody, once around."""
        self.steps += LATE_STEPS
        for relay in self._relays:
            while await self._relay(relay):
                pass
        for follower in self.followers:
            follower.subscription.arrive(self.steps)
            while follower.waiting:
                await follower.deliver()
            await follower.age_gaps()
            await follower.tend()

    def fate(self, service: str, dies: float) -> str:
        """Decide what becomes of a commit."""
        if not self._chance.happens(dies):
            return HEARD
        fate = self._chance.pick((LOST, UNHEARD))
        self._chance.note(service, "dies, its commit is", fate)
        return fate

    async def _relay(self, relay: Relay) -> int:
        subscriptions = [follower.subscription for follower in self.followers]
        return await relay.run(subscriptions, self.steps, self._chance, self.weather)
