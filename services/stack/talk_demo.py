"""Two tenants' help desks at work, and what must be true afterwards."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from interchange.agent.v1.agent_service_pb2 import (
    ListAgentsRequest,
    ListWaitingConversationsRequest,
)
from interchange.conversation.v1.conversation_pb2 import STATUS_ENDED, Conversation
from interchange.conversation.v1.conversation_service_pb2 import (
    EndConversationRequest,
    GetConversationRequest,
    ListConversationsRequest,
)
from interchange.message.v1.message_pb2 import Message
from interchange.message.v1.message_service_pb2 import ListMessagesRequest

from services.gateway.client import Client
from services.stack.report import Bars
from services.stack.stack import Stack
from services.stack.staffing import Supervisor, staff
from services.stack.talking import GUEST, Customer, DeskAgent, Notes, everybody

TENANTS = ("demo", "demo-two")
NAMES = (
    *("ada", "ben", "cleo", "dan", "eva", "finn", "gia", "hugo", "ida", "jon", "kim", "leo", "mia"),
    *("nils", "olga", "paul", "quin", "rosa", "sam", "tess", "ugo", "vera", "will", "xena", "yara"),
)
LIMIT = 4
"""Conversations an agent takes at once."""
SPREAD_S = 8.0
"""Time over which customers come."""
PAGE = 500
CALLS_AT_ONCE = 16
POOL = "default"
SEED = 1969


@dataclass(slots=True)
class Hours:
    """The work of one tenant's desk."""

    tenant: str
    run: str
    notes: Notes = field(default_factory=Notes)
    conversations: list[Conversation] = field(default_factory=list)
    messages: dict[str, list[Message]] = field(default_factory=dict)
    waiting: int = 0
    """Conversations that still waited for an agent in the end."""
    loads: int = 0
    """Conversations that agents still carried in the end."""

    @property
    def handed_over(self) -> int:
        """How many conversations came to agents."""
        return sum(one.hand_off_count > 0 for one in self.conversations)

    def matches_ms(self) -> Iterator[float]:
        """Yield how long conversations waited for their last offer."""
        for one in self.conversations:
            at = self.notes.offered_at.get((one.conversation_id, one.hand_off_count))
            if at is not None:
                yield (at - one.hand_off_time.ToNanoseconds() / 1e9) * 1000


class TalkDemo:
    """One run of both desks."""

    def __init__(self, stack: Stack, bars: Bars, patience_s: float) -> None:
        self._stack = stack
        self._bars = bars
        self._patience_s = patience_s
        self._chance = random.Random(SEED)
        run = f"{time.time_ns() // 1_000_000:x}"
        self.hours = [Hours(tenant, run) for tenant in TENANTS]
        self.took_s = 0.0

    async def run(self, customers: int) -> None:
        """Open the desks, let the customers come, and read what is stored."""
        async with AsyncExitStack() as open_:
            supervisors = [
                await open_.enter_async_context(Supervisor(self._stack, tenant, self._patience_s))
                for tenant in TENANTS
            ]
            await asyncio.gather(*(self._prepare(one) for one in supervisors))
            stage = self._bars.stage("conversations", customers)
            began = time.monotonic()
            await asyncio.gather(
                *(
                    self._work(hours, customers // len(TENANTS), stage.advance)
                    for hours in self.hours
                )
            )
            self.took_s = time.monotonic() - began
            stage = self._bars.stage("recount", customers)
            for hours, supervisor in zip(self.hours, supervisors, strict=True):
                await self._read(hours, supervisor, stage.advance)

    async def _prepare(self, supervisor: Supervisor) -> None:
        """Open a desk; end what customers of a run that was interrupted left behind."""
        await supervisor.open_desk(staff(NAMES, LIMIT))
        async for one in _conversations(supervisor):
            if one.customer_id.startswith(GUEST) and one.status != STATUS_ENDED:
                request = EndConversationRequest(conversation_id=one.conversation_id)
                await supervisor.call(supervisor.conversations.EndConversation, request)

    async def _work(self, hours: Hours, customers: int, done: Callable[[], None]) -> None:
        agents = [
            DeskAgent(self._client(hours, "agent", name), name, hours.notes, self._dice(), LIMIT)
            for name in NAMES
        ]
        guests = [f"{GUEST}{hours.run}-{number}" for number in range(customers)]
        people = [
            Customer(self._client(hours, "customer", name), name, hours.notes, self._dice())
            for name in guests
        ]
        async with AsyncExitStack() as open_:
            await asyncio.gather(*(open_.enter_async_context(agent) for agent in agents))
            await asyncio.gather(*(agent.client.status("online") for agent in agents))
            await everybody(people, SPREAD_S, done)
            await asyncio.gather(*(agent.rest() for agent in agents))
            await asyncio.gather(*(agent.client.status("offline") for agent in agents))

    def _client(self, hours: Hours, role: str, subject: str) -> Client:
        token = self._stack.token(hours.tenant, [role], subject)
        url = self._stack.edge_url.replace("http", "ws", 1) + "/v1/ws"
        return Client(url, token, name="demo")

    def _dice(self) -> random.Random:
        return random.Random(self._chance.random())

    async def _read(self, hours: Hours, supervisor: Supervisor, done: Callable[[], None]) -> None:
        """Read what is stored of the run."""
        gate = asyncio.Semaphore(CALLS_AT_ONCE)

        async def one(conversation_id: str) -> None:
            async with gate:
                get = GetConversationRequest(conversation_id=conversation_id)
                found = await supervisor.call(supervisor.conversations.GetConversation, get)
                hours.conversations.append(found)
                hours.messages[conversation_id] = await _messages(supervisor, conversation_id)
                done()

        await asyncio.gather(*map(one, hours.notes.started))
        request = ListWaitingConversationsRequest(pool_id=POOL)
        waiting = await supervisor.call(supervisor.agents.ListWaitingConversations, request)
        hours.waiting = waiting.total_count
        agents = await supervisor.call(
            supervisor.agents.ListAgents, ListAgentsRequest(page_size=PAGE)
        )
        hours.loads = sum(
            load.count for agent in agents.agents if agent.agent_id in NAMES for load in agent.loads
        )


async def _conversations(supervisor: Supervisor) -> AsyncIterator[Conversation]:
    request = ListConversationsRequest(page_size=PAGE)
    while True:
        page = await supervisor.call(supervisor.conversations.ListConversations, request)
        for one in page.conversations:
            yield one
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


async def _messages(supervisor: Supervisor, conversation_id: str) -> list[Message]:
    request = ListMessagesRequest(conversation_id=conversation_id, page_size=PAGE)
    found: list[Message] = []
    while True:
        page = await supervisor.call(supervisor.messages.ListMessages, request)
        found = [*page.messages, *found]
        if not page.more:
            return found
        request.before_sequence = found[0].sequence
