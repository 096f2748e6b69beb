"""Customers and agents of one tenant who talk over real sockets until they are told to end.

What they were told goes into the same `Told` as in the deterministic tier, and is held
to the same laws.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import asyncpg

from services.common.db import Database
from services.common.personal import PersonalKeys
from services.gateway.client import (
    Backoff,
    Client,
    Desk,
    Message,
    Refused,
    Subscribed,
    Unsubscribed,
)
from services.gateway.client.errors import ClientError
from services.gateway.client.events import Event
from services.stack import help_desk
from services.stack.stack import Stack
from services.stack.staffing import Supervisor, staff
from tests.sim.chance import Chance
from tests.sim.talk.laws import NOTES, breaches
from tests.sim.talk.seen import see
from tests.sim.talk.told import AGENT, CUSTOMER, Answer, Begun, Item, Told, View, Wording

CUSTOMERS, AGENTS, LIMIT = 5, 3, 3
PATIENCE_S = 60.0
REST_S = 30.0
"""How long everything may take to come to rest, once nobody says anything new."""
PAUSE_S = (20, 120)
"""Milliseconds between two things that somebody does."""
TEXTS = tuple(text for topic in help_desk.TOPICS.values() for text in topic.said)
NOTE_NAMES = dict(zip(("queued", "agent_joined", "ended", "reopened"), NOTES[1:], strict=True))
LATER = {"CONVERSATION_NOT_YET_KNOWN", "MESSAGE_RATE", "TOO_MANY_WAITING"}
"""Refusals that pass."""


class Member:
    """Somebody with a socket that breaks and comes back."""

    role, kind = "customer", CUSTOMER

    def __init__(self, talking: "Talking", name: str) -> None:
        self.talking, self.name = talking, name
        self.chance = Chance(hash_of(name, talking.seed))
        self.told = talking.told
        token = talking.stack.token(talking.tenant, [self.role], name)
        url = talking.stack.edge_url.replace("http", "ws", 1) + "/v1/ws"
        self.client = Client(url, token, name="chaos", backoff=Backoff(0.05, 0.5))
        self.views: dict[str, View] = {}
        self._numbers = 0
        self._listening: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.client.__aenter__()
        self._listening = asyncio.create_task(self._listen())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()
        if self._listening is not None:
            await self._listening

    async def _listen(self) -> None:
        async for event in self.client:
            if isinstance(event, Message):
                self._see(event)
            elif isinstance(event, Subscribed) and not event.recovered:
                self.told.problems.append(f"{self.name} lost his place: {event}")
            self.hear(event)

    def hear(self, event: Event) -> None:
        """Take what came."""

    def view(self, conversation: str) -> View:
        """Begin to see a conversation from its beginning."""
        view = View(conversation, self.kind, self.name)
        self.views[conversation] = view
        self.told.views.append(view)
        return view

    async def say(self, conversation: str, text: str) -> bool:
        """Say something until it is answered; False when it is refused for good."""
        self._numbers += 1
        wording = Wording(conversation, self.kind, self.name, f"{self.name}-{self._numbers}")
        self.told.tried[wording] = text
        while True:
            try:
                sent = await self.client.send(
                    conversation, text, client_message_id=wording.client_id
                )
            except TimeoutError:
                continue
            except Refused as error:
                if error.passing or error.reason in self.later:
                    await self.pause()
                    continue
                if error.reason not in self.final:
                    self.told.problems.append(f"{wording} was refused: {error!r}")
                self.told.tried.pop(wording)
                return False
            self.told.sent(wording, Answer(sent.sequence, sent.message_id))
            self.talking.answered()
            return True

    later, final = LATER | {"CONVERSATION_NOT_FOUND"}, {"CONVERSATION_ENDED"}

    async def pause(self) -> None:
        """Let a moment pass."""
        await asyncio.sleep(self.chance.between(*PAUSE_S) / 1000)

    def _see(self, message: Message) -> None:
        view = self.views.get(message.conversation_id)
        text = message.text if message.system is None else NOTE_NAMES[message.system.kind]
        if view is not None:
            view.items.append(Item(message.sequence, message.message_id, text or ""))


class Customer(Member):
    """A customer with some conversations at a time."""

    def __init__(self, talking: "Talking", name: str) -> None:
        super().__init__(talking, name)
        self._open: list[str] = []
        self._aside: asyncio.Task[None] | None = None

    async def talk(self) -> None:
        """Say one thing after the other until all end."""
        await self._start()
        while not self.talking.ending:
            await self.pause()
            if self.chance.happens(0.02):
                await self.client.drop()
            if self._aside is None or self._aside.done():
                await self._result()
                # Beside: who waits for a service that is gone goes on elsewhere.
                if self.chance.happens(0.10):
                    self._aside = asyncio.create_task(self._start())
                elif len(self._open) > 1 and self.chance.happens(0.08):
                    self._aside = asyncio.create_task(self._end())
            if self._open:
                conversation = self.chance.pick(self._open)
                if not await self.say(conversation, self._text()):
                    self._open = [one for one in self._open if one != conversation]
        await self._result()

    async def _result(self) -> None:
        if self._aside is not None:
            await self._aside
            self._aside = None

    def _text(self) -> str:
        return f"[{self.talking.tenant}] {self.chance.pick(TEXTS)}"

    async def _start(self) -> None:
        self._numbers += 1
        text = self._text() if self.chance.happens(0.7) else ""
        how: dict[str, Any] = {
            "route": self.chance.pick(("bot", "bot", "queue")),
            "request_id": f"{self.name}-s{self._numbers}",
        }
        conversation = await self._ask(lambda: self.client.start(text, follow=False, **how))
        self.told.began(conversation, Begun(self.name, "", text))
        self.view(conversation)
        await self._ask(lambda: self.client.subscribe(conversation))
        self._open.append(conversation)

    async def _end(self) -> None:
        conversation = self._open.pop(0)
        key = f"{self.name}-e{conversation}"
        try:
            await self._ask(lambda: self.client.end(conversation, request_id=key))
        except Refused as error:
            # Its agent was faster.
            if error.reason not in self.final:
                raise

    async def _ask(self, ask: Any) -> Any:
        """Ask until it is answered."""
        while True:
            try:
                return await ask()
            except TimeoutError:
                continue
            except Refused as error:
                if not (error.passing or error.reason in self.later):
                    raise
                await self.pause()


class Person(Member):
    """An agent who accepts, answers, hands on, and sometimes ends."""

    role, kind = "agent", AGENT
    later, final = LATER, {"CONVERSATION_ENDED", "CONVERSATION_NOT_FOUND"}

    def __init__(self, talking: "Talking", name: str) -> None:
        super().__init__(talking, name)
        self._mine: set[str] = set()
        self._accepting: set[str] = set()
        self._doing: set[asyncio.Task[None]] = set()

    def hear(self, event: Event) -> None:
        """Do what is due."""
        if isinstance(event, Desk):
            self._look(event)
        elif isinstance(event, Unsubscribed):
            self._leave(event.conversation_id)
        elif isinstance(event, Message) and event.sender.kind == "customer":
            self._do(self._answer(event.conversation_id))

    async def rest(self) -> None:
        """Finish what is being done."""
        while self._doing:
            await asyncio.gather(*self._doing)

    def _look(self, desk: Desk) -> None:
        if desk.status != "online":
            self._do(self.client.status("online"))
        for offer in desk.offers:
            if offer.offer_id not in self._accepting:
                self._accepting.add(offer.offer_id)
                self._do(self._accept(offer.offer_id))
        now = set(desk.conversation_ids)
        for conversation in now - self._mine:
            self._do(self._join(conversation))
        self._mine = now

    async def _accept(self, offer_id: str) -> None:
        await self.pause()
        await self.client.accept(offer_id)
        self.told.accepted.add((self.name, offer_id))

    async def _join(self, conversation: str) -> None:
        if (view := self.views.get(conversation)) is not None and not view.left:
            return
        self.view(conversation)
        while conversation in self._mine:
            try:
                await self.client.subscribe(conversation)
            except (Refused, TimeoutError):
                await self.pause()
            else:
                return
        self._leave(conversation)

    def _leave(self, conversation: str) -> None:
        if (view := self.views.get(conversation)) is not None:
            view.left = True

    async def _answer(self, conversation: str) -> None:
        if self.talking.ending or conversation not in self._mine or self.chance.happens(0.5):
            return
        await self.pause()
        if self.chance.happens(0.05):
            await self.client.transfer(conversation)
        elif self.chance.happens(0.03):
            await self.client.drop()
        elif self.chance.happens(0.05):
            await self.client.end(conversation)
        else:
            self._numbers += 1
            await self.say(conversation, f"[{self.talking.tenant}] let me see {self._numbers}")

    def _do(self, action: Coroutine[Any, Any, None]) -> None:
        async def doing() -> None:
            # The conversation may have ended, or gone elsewhere, meanwhile. What was not
            # done for another reason shows on the desk again.
            with suppress(ClientError, TimeoutError):
                await action
                return
            self._accepting.clear()

        task = asyncio.create_task(doing())
        self._doing.add(task)
        task.add_done_callback(self._doing.discard)


class Talking:
    """One tenant that talks without pause. Use as `async with`."""

    def __init__(self, stack: Stack, tenant: str, seed: int) -> None:
        self.stack, self.tenant, self.seed = stack, tenant, seed
        self.told = Told(tenant)
        self.ending = False
        self.customers = [Customer(self, f"c{number}") for number in range(CUSTOMERS)]
        self.people = [Person(self, f"a{number}") for number in range(AGENTS)]
        self._answer = asyncio.Event()

    async def __aenter__(self) -> Self:
        async with Supervisor(self.stack, self.tenant, PATIENCE_S) as supervisor:
            await supervisor.open_desk(staff([one.name for one in self.people], LIMIT))
        for person in self.people:
            await person.__aenter__()
            await person.client.status("online")
        for customer in self.customers:
            await customer.__aenter__()
        self._tasks = [asyncio.create_task(one.talk()) for one in self.customers]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for member in (*self.customers, *self.people):
            await member.__aexit__()

    def answered(self) -> None:
        """Take note that one more message was acknowledged."""
        self._answer.set()

    async def go_on(self, messages: int) -> None:
        """Return when so many more messages are acknowledged."""
        wanted = len(self.told.answers) + messages
        async with asyncio.timeout(PATIENCE_S):
            while len(self.told.answers) < wanted:
                self._answer.clear()
                answer = asyncio.create_task(self._answer.wait())
                await asyncio.wait([answer, *self._tasks], return_when="FIRST_COMPLETED")
                answer.cancel()
                for task in self._tasks:
                    if task.done():
                        task.result()

    async def end(self) -> list[str]:
        """Say nothing new, and return what breaks a law once all has come to rest."""
        self.ending = True
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*self._tasks)
            for person in self.people:
                await person.rest()
        ends = asyncio.get_running_loop().time() + REST_S
        while (found := await self.breaches()) and asyncio.get_running_loop().time() < ends:
            await asyncio.sleep(0.25)
        return found

    async def breaches(self) -> list[str]:
        """Return what breaks a law now."""
        settings = self.stack.service_settings()
        database = await Database.open(settings, "message")
        connection = await asyncpg.connect(self.stack.database_url())
        try:
            seen = await see(connection, self.tenant, PersonalKeys(database, settings))
        finally:
            await connection.close()
            await database.close()
        return breaches(self.told, seen)


def hash_of(name: str, seed: int) -> int:
    """Return a seed of somebody's own."""
    return seed * 1_000 + sum(map(ord, name))
