"""Customers of one tenant: they start, say, end and reopen, and lose answers."""

from collections.abc import Sequence
from dataclasses import dataclass

from interchange.conversation.v1 import conversation_pb2
from interchange.conversation.v1 import conversation_service_pb2 as pb
from interchange.message.v1.message_pb2 import SENDER_KIND_CUSTOMER, Sender

from services.common.errors import InterchangeError
from services.conversation import commands
from services.conversation.commands import Change
from tests.sim.chance import Chance
from tests.sim.house import Crash
from tests.sim.talk import cast
from tests.sim.talk.office import Office
from tests.sim.talk.speech import Speech
from tests.sim.talk.told import CUSTOMER, Begun, Told

STARTS_MAX = 14
"""Conversations of a tenant in a run."""
FITTING = {
    "ALREADY_QUEUED",
    "ALREADY_WITH_AGENT",
    "CONVERSATION_ENDED",
    "CONVERSATION_NOT_ENDED",
}
"""Refusals of a change that came too late, or twice by two roads."""


@dataclass(slots=True)
class Starting:
    """A start that nobody has answered yet."""

    request: pb.StartConversationRequest
    begun: Begun


class Customers:
    """All customers of a tenant, as one."""

    def __init__(
        self, tenant: str, office: Office, speech: Speech, told: Told, chance: Chance
    ) -> None:
        self.tenant, self.told = tenant, told
        self.starting: list[Starting] = []
        self.changing: list[tuple[str, Change]] = []
        """Changes that nobody has answered yet, with their customer."""
        self._office, self._speech, self._chance = office, speech, chance
        self._answered: list[Starting] = []
        self._over: dict[str, None] = {}
        """Conversations that ended, as far as customers know."""
        self._numbers = 0

    @property
    def rests(self) -> bool:
        """True when nobody waits for an answer."""
        return not self.starting and not self.changing

    async def start(self) -> None:
        """Start some conversations, and one of those before once more."""
        if len(self._answered) + len(self.starting) < STARTS_MAX:
            for _ in range(self._chance.between(1, 2)):
                self.starting.append(self._new())
        if self._answered and self._chance.happens(0.2):
            self.starting.append(self._chance.pick(self._answered))
        await self.retry()

    async def retry(self) -> None:
        """Ask again for everything that was not answered."""
        batch = list(self.starting)
        if batch:
            given = [commands.start(one.request, self._caller(one)) for one in batch]
            try:
                outcomes = await self._office.start(self.tenant, given)
            except Crash:
                self._chance.note("no answer to", len(batch), "starts")
                return
            for one, outcome in zip(batch, outcomes, strict=True):
                self._started(one, outcome)
            self.starting = []
            self._answered += batch
        await self._change()

    async def say(self) -> None:
        """Say something in some conversations."""
        names = list(self.told.conversations)
        for _ in range(self._chance.between(1, 3)):
            if not names:
                return
            name = self._chance.pick(names)
            # Of the last ones more is said: most of the others are over.
            if self._chance.happens(0.5):
                name = names[-1 - self._chance.between(0, min(2, len(names) - 1))]
            self._say(name, cast.utterance(self._chance, self.tenant, self._numbers))
        await self._speech.send()

    async def say_in(self, name: str, text: str) -> None:
        """Say something in a conversation."""
        self._say(name, text)
        await self._speech.send()

    def _say(self, name: str, text: str) -> None:
        self._numbers += 1
        sender = Sender(kind=SENDER_KIND_CUSTOMER, id=self.told.conversations[name].customer)
        self._speech.say(name, sender, f"m{self._numbers}", text)

    async def turn(self) -> None:
        """End, reopen, or ask for a person."""
        if not self.told.conversations:
            return
        what = self._chance.weighted({"end": 3.0, "reopen": 5.0, "hand off": 2.0})
        names = list(self._over if what == "reopen" and self._over else self.told.conversations)
        name = self._chance.pick(names)
        customer = self.told.conversations[name].customer
        caller = cast.customer(self.tenant, customer)
        self._numbers += 1
        key = {"conversation_id": name, "request_id": f"t{self._numbers}"}
        route = self._chance.pick((pb.ROUTE_BOT, pb.ROUTE_BOT, pb.ROUTE_QUEUE))
        self._chance.note(customer, what, name)
        if what == "end":
            command = commands.end(pb.EndConversationRequest(**key), caller)
        elif what == "reopen":
            command = commands.reopen(pb.ReopenConversationRequest(**key, route=route), caller)
        else:
            drawn = cast.needs(self._chance)
            needs = cast.modest(drawn) if self._chance.happens(0.5) else None
            request = pb.HandOffConversationRequest(**key, needs=needs)
            command = commands.hand_off(request, caller)
        self.changing.append((customer, command))
        if what == "end" and self._chance.happens(0.4):
            # He comes back at once: what was on its way belongs to the time before.
            key["request_id"] += "r"
            again = pb.ReopenConversationRequest(**key, route=route)
            self.changing.append((customer, commands.reopen(again, caller)))
        await self._change()

    async def read(self) -> None:
        """Say how far somebody has read."""
        views = [view for view in self.told.views if view.kind == CUSTOMER and view.items]
        if views:
            view = self._chance.pick(views)
            number = self._chance.pick(view.items).sequence
            await self._speech.mark(view, number)

    async def _change(self) -> None:
        batch = list(self.changing)
        if not batch:
            return
        try:
            outcomes = await self._office.change(self.tenant, [one for _, one in batch])
        except Crash:
            self._chance.note("no answer to", len(batch), "changes")
            return
        for (customer, command), outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, InterchangeError):
                self._chance.note(customer, "is refused:", outcome.reason)
                if outcome.reason not in FITTING:
                    self.told.problems.append(f"{customer} was refused: {outcome!r}")
                if outcome.reason == "CONVERSATION_ENDED":
                    self._over[command.conversation_id] = None
            elif outcome.status == conversation_pb2.STATUS_ENDED:
                self._over[outcome.conversation_id] = None
            else:
                self._over.pop(outcome.conversation_id, None)
        self.changing = []

    def _started(
        self, one: Starting, outcome: conversation_pb2.Conversation | InterchangeError
    ) -> None:
        if isinstance(outcome, InterchangeError):
            self.told.problems.append(f"{one.request} was refused: {outcome!r}")
            return
        self._chance.note(one.begun.customer, "starts", outcome.conversation_id)
        self.told.began(outcome.conversation_id, one.begun)

    def _new(self) -> Starting:
        chance = self._chance
        self._numbers += 1
        request = pb.StartConversationRequest(
            request_id=f"s{self._numbers}",
            customer_name=chance.pick(("", "Ada")),
            channel=chance.pick(cast.CHANNELS),
            route=chance.pick((pb.ROUTE_UNSPECIFIED, pb.ROUTE_BOT, pb.ROUTE_QUEUE)),
            bot_id="silent" if chance.happens(0.1) else "",
            needs=cast.needs(chance) if chance.happens(0.5) else None,
        )
        if chance.happens(0.6):
            request.text = cast.utterance(chance, self.tenant, self._numbers)
        customer = chance.pick(cast.CUSTOMERS)
        if request.needs.priority or request.needs.preferred_only:
            # Somebody starts it for him who may ask for that.
            request.customer_id = customer
        return Starting(request, Begun(customer, request.customer_name, request.text))

    def _caller(self, one: Starting) -> cast.Caller:
        if one.request.customer_id:
            return cast.supervisor(self.tenant)
        return cast.customer(self.tenant, one.begun.customer)


def names_of(told: Told, customer: str) -> Sequence[str]:
    """Return the conversations of a customer."""
    return [name for name, begun in told.conversations.items() if begun.customer == customer]
