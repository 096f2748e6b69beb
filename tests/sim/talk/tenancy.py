"""Everybody of one tenant: customers, agents, and the clients that they use."""

from collections.abc import Callable, Sequence

from services.common.clock import BusinessClock
from tests.sim.chance import Chance
from tests.sim.house import House
from tests.sim.talk import cast
from tests.sim.talk.client import Client
from tests.sim.talk.customers import Customers, names_of
from tests.sim.talk.gateways import Gateway
from tests.sim.talk.matching import Floor
from tests.sim.talk.office import Office
from tests.sim.talk.presence import Presence
from tests.sim.talk.speech import Learn, Speech
from tests.sim.talk.staff import Staff
from tests.sim.talk.told import Told


class Tenancy:
    """One tenant."""

    def __init__(
        self,
        tenant: str,
        house: House,
        clock: BusinessClock,
        office: Office,
        floor: Callable[[], Floor],
        learn: Learn,
        chance: Chance,
    ) -> None:
        self.tenant, self._chance = tenant, chance
        self.told = Told(tenant)
        self._speech = Speech(tenant, office, learn, self.told, chance)
        self.customers = Customers(tenant, office, self._speech, self.told, chance)
        self.staff = Staff(tenant, office, floor, self._speech, self.told, chance)
        self.presence = Presence(house, clock, tenant, chance)
        self._of_customers = {
            name: Client(cast.customer(tenant, name), self.told, chance) for name in cast.CUSTOMERS
        }
        self._of_agents = {
            name: Client(cast.agent(tenant, name), self.told, chance) for name in cast.AGENTS
        }

    @property
    def clients(self) -> list[Client]:
        """All clients of the tenant."""
        return [*self._of_customers.values(), *self._of_agents.values()]

    @property
    def rests(self) -> bool:
        """True when nobody waits for an answer, and everybody sees what he wants to."""
        return (
            self.customers.rests
            and not self._speech.waiting
            and all(client.follows_all for client in self.clients)
        )

    async def finish(self) -> None:
        """Ask again for everything that was not answered."""
        await self.customers.retry()
        await self._speech.send()

    def connect(self, gateways: Sequence[Gateway], *, everybody: bool = False) -> None:
        """Let clients come, and follow what is theirs."""
        for name, client in self._of_customers.items():
            if everybody or self._chance.happens(0.5):
                for conversation in names_of(self.told, name):
                    client.follow(conversation)
                self._come(client, gateways)
        for name, client in self._of_agents.items():
            if everybody or self._chance.happens(0.5):
                for conversation in self.staff.people[name].conversations:
                    client.follow(conversation)
                self._come(client, gateways)

    def read(self) -> None:
        """Let all clients read what came."""
        for client in self.clients:
            client.read()

    def drop_one(self) -> None:
        """Break the socket of somebody."""
        client = self._chance.pick(self.clients)
        self._chance.note(client.caller.subject, "loses the socket")
        client.drop()

    def drop_from(self, gateway: Gateway) -> None:
        """Break all sockets of an instance."""
        for client in self.clients:
            if client.gateway is gateway:
                client.drop()

    def _come(self, client: Client, gateways: Sequence[Gateway]) -> None:
        if client.gateway is None or self._chance.happens(0.05):
            client.connect(self._chance.pick(gateways))
        client.subscribe()
