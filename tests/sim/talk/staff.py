"""Agents of one tenant: they come, go, vanish, accept, decline, answer, transfer and end."""

from collections.abc import Callable
from dataclasses import dataclass, field

from interchange.agent.v1.agent_pb2 import Desk
from interchange.conversation.v1 import conversation_service_pb2 as pb
from interchange.message.v1.message_pb2 import SENDER_KIND_AGENT, Sender

from services.agent import handlers
from services.agent.domain import Status
from services.agent.handlers import CreateAgent
from services.agent.profile import Details
from services.agent.working import AcceptOffer, Command, DeclineOffer, SetStatus, get_desk
from services.common.errors import InterchangeError
from services.common.requests import RequestKey
from services.conversation import commands
from tests.sim.chance import Chance
from tests.sim.house import Crash
from tests.sim.talk import cast
from tests.sim.talk.matching import Floor
from tests.sim.talk.office import Office
from tests.sim.talk.speech import Speech
from tests.sim.talk.told import Told

FITTING = {"OFFER_ACCEPTED", "OFFER_DECLINED", "OFFER_EXPIRED", "OFFER_WITHDRAWN"}
"""Refusals of who answers an offer too late, or the other way than before."""
CHANGE_FITTING = {
    "CONVERSATION_NOT_FOUND",
    "CONVERSATION_ENDED",
    "NOT_WITH_AGENT",
    "NOT_THE_AGENT",
    "PREFERRED_AGENT_EXCLUDED",
}
"""Refusals of an agent whose conversation moved on."""

Answer = Callable[[], Floor]
"""Returns the instance that a call comes to."""


@dataclass(slots=True)
class Person:
    """An agent, and what he knows."""

    name: str
    offers: list[str] = field(default_factory=list)
    """Offers that he ever saw."""
    conversations: list[str] = field(default_factory=list)
    """Conversations on his desk, as he saw it last."""
    had: list[str] = field(default_factory=list)
    """Conversations that were ever on his desk."""


class Staff:
    """All agents of a tenant."""

    def __init__(
        self,
        tenant: str,
        office: Office,
        floor: Answer,
        speech: Speech,
        told: Told,
        chance: Chance,
    ) -> None:
        self.tenant = tenant
        self.people = {name: Person(name) for name in cast.AGENTS}
        self._office, self._floor, self._speech = office, floor, speech
        self._told, self._chance = told, chance
        self._numbers = 0

    async def open(self) -> None:
        """Create the agents."""
        batch = [
            CreateAgent(
                Details(
                    name,
                    name.upper(),
                    profile.pool,
                    list(profile.skills.items()),
                    list(zip(cast.CHANNELS, (profile.web, profile.mobile), strict=True)),
                ),
                RequestKey("CreateAgent", "", b""),
            )
            for name, profile in cast.AGENTS.items()
        ]
        outcomes = await handlers.create_agents(self.tenant, batch, tools=self._floor().tools)
        assert not any(isinstance(one, InterchangeError) for one in outcomes), outcomes

    async def come(self, name: str = "") -> None:
        """Let somebody say that he is there."""
        name = name or self._chance.pick(list(self.people))
        await self._do([SetStatus(name, Status.ONLINE)])

    async def go(self) -> None:
        """Let somebody pause, or leave."""
        name = self._chance.pick(list(self.people))
        status = self._chance.pick((Status.AWAY, Status.AWAY, Status.OFFLINE))
        await self._do([SetStatus(name, status)])

    async def look(self, name: str) -> Desk:
        """Let an agent look at his desk."""
        desk = await get_desk(self.tenant, name, tools=self._floor().tools)
        person = self.people[name]
        person.offers += [one.offer_id for one in desk.offers if one.offer_id not in person.offers]
        person.conversations = list(desk.conversation_ids)
        person.had += [one for one in person.conversations if one not in person.had]
        return desk

    async def decide(self) -> None:
        """Let some agents accept or decline, what they are offered and what they were."""
        batch: list[Command] = []
        for name, person in self.people.items():
            desk = await self.look(name)
            offers = [one.offer_id for one in desk.offers]
            if person.offers and self._chance.happens(0.15):
                offers.append(self._chance.pick(person.offers))
            for offer_id in offers:
                accepts = self._chance.happens(0.7)
                kind = AcceptOffer if accepts else DeclineOffer
                if self._chance.happens(0.7):
                    batch += [kind(name, offer_id)] * self._chance.pick((1, 1, 2))
        await self._do(batch)

    async def accept_all(self) -> int:
        """Let everybody accept what he is offered; return how many offers there were."""
        batch: list[Command] = []
        for name in self.people:
            desk = await self.look(name)
            batch += [AcceptOffer(name, one.offer_id) for one in desk.offers]
        await self._do(batch)
        return len(batch)

    async def answer(self) -> None:
        """Let some agents write, in their conversations and in those that were theirs."""
        for name, person in self.people.items():
            await self.look(name)
            names = list(person.conversations)
            if person.had and self._chance.happens(0.2):
                names.append(self._chance.pick(person.had))
            for conversation in names:
                if self._chance.happens(0.5):
                    self._numbers += 1
                    sender = Sender(kind=SENDER_KIND_AGENT, id=name)
                    text = f"[{self.tenant}] answer {self._numbers} of {name}"
                    self._speech.say(conversation, sender, f"a{self._numbers}", text)
        await self._speech.send()

    async def turn(self) -> None:
        """Let an agent transfer or end a conversation, which may not be his any more."""
        person = self._chance.pick([one for one in self.people.values() if one.had] or [None])
        if person is None:
            return
        name = self._chance.pick(person.conversations or person.had)
        caller = cast.agent(self.tenant, person.name)
        self._numbers += 1
        key = {"conversation_id": name, "request_id": f"w{self._numbers}"}
        if self._chance.happens(0.5):
            drawn = cast.needs(self._chance)
            needs = cast.modest(drawn) if self._chance.happens(0.3) else None
            request = pb.TransferConversationRequest(**key, needs=needs)
            command = commands.transfer(request, caller)
        else:
            command = commands.end(pb.EndConversationRequest(**key), caller)
        self._chance.note(person.name, "turns", name, type(command.verb).__name__)
        try:
            outcomes = await self._office.change(self.tenant, [command])
        except Crash:
            return
        for outcome in outcomes:
            if isinstance(outcome, InterchangeError) and outcome.reason not in CHANGE_FITTING:
                self._told.problems.append(f"{person.name} was refused: {outcome!r}")

    async def _do(self, batch: list[Command]) -> None:
        if not batch:
            return
        floor = self._floor()
        outcomes = await floor.alive(floor.work(self.tenant, batch), "is told by agents")
        if outcomes is None:
            self._chance.note("no answer to", len(batch), "agents")
            return
        for command, outcome in zip(batch, outcomes, strict=True):
            self._take(command, outcome)

    def _take(self, command: Command, outcome: object) -> None:
        what = type(command).__name__
        if isinstance(outcome, InterchangeError):
            self._chance.note(command.agent_id, what, "is refused:", outcome.reason)
            if isinstance(command, SetStatus) or outcome.reason not in FITTING:
                self._told.problems.append(f"{command} was refused: {outcome!r}")
            return
        self._chance.note(command.agent_id, what)
        if isinstance(command, AcceptOffer):
            self._told.accepted.add((command.agent_id, command.offer_id))
        elif isinstance(command, DeclineOffer):
            self._told.declined.add((command.agent_id, command.offer_id))
