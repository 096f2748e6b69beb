"""Customers and agents of the demo: they talk over WebSockets, break off and come back.

What each was told is noted, to be compared with what is stored.
"""

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

from services.gateway.client import (
    Client,
    Desk,
    Message,
    Refused,
    Subscribed,
)
from services.gateway.client.events import Event
from services.stack import help_desk

PATIENCE_S = 60.0
TURNS = 2
"""Questions that a customer has for an agent."""
THINK_S = (0.05, 0.4)
DROPPED = 0.15
"""Share of the customers whose connection breaks."""
MOVED = 0.08
"""Share of the conversations that an agent hands to another one."""
ASKS_AGAIN = 0.4
"""Share of the customers who have a second question for the bot."""
GUEST = "guest-"
"""Customers of the demo; others of the tenant are left alone."""


@dataclass(slots=True)
class Notes:
    """What happened, as those saw it who took part."""

    heard: defaultdict[tuple[str, str], list[int]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """Numbers of messages by subject and conversation, as they came."""
    started: list[str] = field(default_factory=list)
    sent_at: dict[str, float] = field(default_factory=dict)
    """Clock by the message's id, from its sender."""
    acknowledged: list[str] = field(default_factory=list)
    """Messages that were told to be stored."""
    crossings_ms: list[float] = field(default_factory=list)
    """From send to the other side."""
    offered_at: dict[tuple[str, int], float] = field(default_factory=dict)
    """Wall time by conversation and hand-over."""
    overfull: list[str] = field(default_factory=list)
    """Desks that held more than their agent takes."""
    drops: int = 0


class Member:
    """Somebody with a socket."""

    def __init__(self, client: Client, subject: str, notes: Notes, chance: random.Random) -> None:
        self.client = client
        self.subject = subject
        self.notes = notes
        self.chance = chance
        self._listening: asyncio.Task[None] | None = None
        self._sent = 0

    async def __aenter__(self) -> Self:
        """Connect and listen."""
        await self.client.__aenter__()
        self._listening = asyncio.create_task(self._listen())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Leave."""
        await self.client.close()
        assert self._listening is not None
        await self._listening

    async def _listen(self) -> None:
        async for event in self.client:
            if isinstance(event, Message):
                self._note(event)
            self.hear(event)

    def _note(self, message: Message) -> None:
        self.notes.heard[self.subject, message.conversation_id].append(message.sequence)
        sent = self.notes.sent_at.get(message.client_message_id)
        if sent is not None and message.sender.id != self.subject and self.is_live(message):
            self.notes.crossings_ms.append((time.perf_counter() - sent) * 1000)

    def is_live(self, message: Message) -> bool:
        """Tell what was said while one was there from what was said before."""
        return True

    def hear(self, event: Event) -> None:
        """Take what came."""
        raise NotImplementedError

    async def say(self, conversation_id: str, text: str) -> None:
        """Send a message, after a moment of typing."""
        self.client.typing(conversation_id)
        await self.think()
        self._sent += 1
        name = f"{self.subject}-{self._sent}"
        self.notes.sent_at[name] = time.perf_counter()
        await self.client.send(conversation_id, text, client_message_id=name)
        self.notes.acknowledged.append(name)

    async def think(self) -> None:
        """Let a moment pass."""
        await asyncio.sleep(self.chance.uniform(*THINK_S))


class Customer(Member):
    """One customer with one conversation."""

    def __init__(self, client: Client, subject: str, notes: Notes, chance: random.Random) -> None:
        super().__init__(client, subject, notes, chance)
        self._said: list[Message] = []
        self._news = asyncio.Event()

    def hear(self, event: Event) -> None:
        """Keep what is said."""
        if isinstance(event, Message):
            self._said.append(event)
            self._news.set()
            self.client.mark(event.conversation_id, read=event.sequence)

    async def talk(self) -> None:
        """Ask, be answered by the bot or by an agent, and end it."""
        conversation = await self.client.start(self._question(), name=self.subject)
        self.notes.started.append(conversation)
        if self.chance.random() < DROPPED:
            await self.think()
            self.notes.drops += 1
            await self.client.drop()
        await self._until(lambda: self._answered or self._queued)
        if not self._queued and self.chance.random() < ASKS_AGAIN:
            await self._ask(conversation, self._question())
        if self._queued:
            await self._until(lambda: self._joined)
            for turn in range(TURNS):
                await self._ask(conversation, f"Question {turn + 1} for you")
        await self.think()
        await self.client.end(conversation)
        await self._until(lambda: self._ended)

    def _question(self) -> str:
        topic = self.chance.choice(list(help_desk.TOPICS.values()))
        return self.chance.choice(topic.said)

    async def _ask(self, conversation: str, text: str) -> None:
        """Say something, and wait for what comes after it."""
        await self.say(conversation, text)
        await self._until(lambda: self._answered or (self._queued and not self._joined))
        await self._until(lambda: self._answered or self._joined)

    @property
    def _answered(self) -> bool:
        """True when the bot or an agent spoke last, of those who speak."""
        speakers = [one.sender.kind for one in self._said if one.system is None]
        return bool(speakers) and speakers[-1] != "customer"

    @property
    def _queued(self) -> bool:
        return self._happened("queued")

    @property
    def _joined(self) -> bool:
        return self._happened("agent_joined")

    @property
    def _ended(self) -> bool:
        return self._happened("ended")

    def _happened(self, kind: str) -> bool:
        return any(one.system is not None and one.system.kind == kind for one in self._said)

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._news.clear()
                await self._news.wait()


class DeskAgent(Member):
    """An agent who takes what is offered, answers each message and sometimes hands on."""

    def __init__(
        self, client: Client, subject: str, notes: Notes, chance: random.Random, limit: int
    ) -> None:
        super().__init__(client, subject, notes, chance)
        self._limit = limit
        self._mine: set[str] = set()
        self._history: dict[str, int] = {}
        """Number of the last message that was there when he came."""
        self._handed_on: set[str] = set()
        self._doing: set[asyncio.Task[None]] = set()

    async def rest(self) -> None:
        """Finish what is being done; raises what went wrong."""
        while self._doing:
            await asyncio.gather(*self._doing)

    def hear(self, event: Event) -> None:
        """Do what is due."""
        if isinstance(event, Desk):
            self._look(event)
        elif isinstance(event, Subscribed):
            self._history.setdefault(event.conversation_id, event.last_sequence)
        elif isinstance(event, Message):
            self._read(event)

    def is_live(self, message: Message) -> bool:
        """Tell what was said while he was there from what was said before he came."""
        history = self._history.get(message.conversation_id)
        return history is not None and message.sequence > history

    def _look(self, desk: Desk) -> None:
        carried = len(desk.offers) + len(desk.conversation_ids)
        if carried > self._limit:
            self.notes.overfull.append(f"{self.subject} has {carried} of {self._limit}")
        for offer in desk.offers:
            key = offer.conversation_id, offer.hand_off
            if key not in self.notes.offered_at:
                self.notes.offered_at[key] = time.time()
                self._do(self._accept(offer.offer_id))
        for conversation in set(desk.conversation_ids) - self._mine:
            self._do(self._greet(conversation))
        self._mine = set(desk.conversation_ids)

    def _read(self, message: Message) -> None:
        """Answer what a customer says; what he said before is answered by the greeting."""
        conversation = message.conversation_id
        said = self.is_live(message) and message.sender.kind == "customer"
        if said and conversation in self._mine:
            self._do(self._answer(conversation))

    async def _accept(self, offer_id: str) -> None:
        await self.client.accept(offer_id)

    async def _greet(self, conversation: str) -> None:
        await self.client.subscribe(conversation)
        await self.say(conversation, f"Hello, {self.subject} here")

    async def _answer(self, conversation: str) -> None:
        if conversation not in self._handed_on and self.chance.random() < MOVED:
            self._handed_on.add(conversation)
            await self.client.transfer(conversation)
        else:
            await self.say(conversation, "Let me see. Done.")

    def _do(self, action: Coroutine[Any, Any, None]) -> None:
        async def doing() -> None:
            # The conversation may have ended, or gone elsewhere, while he was typing.
            with suppress(Refused):
                await action

        task = asyncio.create_task(doing())
        self._doing.add(task)
        task.add_done_callback(self._doing.discard)


async def everybody(
    customers: Sequence[Customer], spread_s: float, done: Callable[[], None]
) -> None:
    """Let customers come one after the other and talk; raises what the first could not do."""

    async def one(place: int, customer: Customer) -> None:
        await asyncio.sleep(spread_s * place / len(customers))
        async with customer:
            await customer.talk()
        done()

    async with asyncio.TaskGroup() as group:
        for place, customer in enumerate(customers):
            group.create_task(one(place, customer))
