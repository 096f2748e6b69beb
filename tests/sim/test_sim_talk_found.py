"""What the simulation of talk found, each in its smallest form."""

from dataclasses import dataclass

from interchange.conversation.v1 import conversation_service_pb2 as pb

from services.conversation import commands
from services.conversation.commands import Change
from tests.sim.conftest import Simulator
from tests.sim.house import House
from tests.sim.ids import SeededIds
from tests.sim.report import Report
from tests.sim.talk import cast
from tests.sim.talk.simulation import Simulation
from tests.sim.talk.sky import CLEAR
from tests.sim.talk.told import Begun

TENANT = cast.TENANTS[0]
CALLER = cast.customer(TENANT, "c1")


@dataclass
class Story:
    """A talk without faults and without chance, told step by step."""

    talk: Simulation

    async def start(self, text: str) -> str:
        """Start a conversation; return its id."""
        given = commands.start(pb.StartConversationRequest(text=text), CALLER)
        [begun] = await self.talk.office.start(TENANT, [given])
        assert not isinstance(begun, Exception)
        self.talk.tenancies[0].told.began(begun.conversation_id, Begun("c1", "", text))
        await self.all_hear()
        return begun.conversation_id

    async def change(self, command: Change) -> None:
        """Change a conversation, and let everybody hear of it."""
        [changed] = await self.talk.office.change(TENANT, [command])
        assert not isinstance(changed, Exception), changed
        await self.all_hear()

    async def say(self, name: str, text: str) -> None:
        """Let the customer say something."""
        await self.talk.tenancies[0].customers.say_in(name, text)
        await self.all_hear()

    async def all_hear(self) -> None:
        """Bring everything to everybody, and what follows from it, and from that."""
        for _ in range(3):
            await self.talk.ways.finish()


async def calm(house: House, seed: int, ids: SeededIds) -> Simulation:
    """Return a simulation in which nothing goes wrong, and nothing happens by itself."""
    talk = Simulation(house, seed, ids)
    talk.ways.calm()
    talk.sky = CLEAR
    await talk.open(starts=0)
    return talk


async def test_bot_answers_again_after_it_asked_for_an_agent_in_vain(
    talk_house: House, simulator: Simulator
) -> None:
    """A customer asked for a person and left before he got one; then he came back.

    The bot had handed over, and the conversation had ended before it heard of it. When
    it was opened again, with the bot, the bot took it for handed over and kept silent.
    """

    async def tell(house: House, seed: int, ids: SeededIds) -> Report:
        story = Story(await calm(house, seed, ids))
        name = await story.start(f"[{TENANT}] person 1")
        assert await story.talk.bots[0].answer()
        await story.change(commands.end(pb.EndConversationRequest(conversation_id=name), CALLER))
        again = pb.ReopenConversationRequest(conversation_id=name)
        await story.change(commands.reopen(again, CALLER))
        await story.say(name, f"[{TENANT}] orders 2")
        return await story.talk.close()

    report = await simulator.run(tell, talk_house, 0)

    report.check("pytest")
