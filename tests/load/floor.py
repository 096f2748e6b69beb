"""A floor of agents and customers over WebSockets, for the benchmarks of conversations."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from services.gateway import frames_in, frames_out
from services.stack.stack import Stack
from services.stack.staffing import Supervisor, staff
from tests.load.line import Line
from tests.load.scene import PATIENCE_S, Wrong

TENANT = "talk"
LIMIT = 50
"""Conversations an agent takes at once."""
OPEN_AT_ONCE = 32
TIMED = "timed-"
"""Begins the id of a message whose text is when it was sent."""
MARK_EVERY = 5
"""Messages between two marks of a reader."""


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a conversation."""

    line: Line
    conversation_id: str


class Floor:
    """Agents who accept everything, and customers who talk with them."""

    def __init__(self, stack: Stack, *, stay: bool = True) -> None:
        """Unless they `stay`, customers look no longer once the bot has answered."""
        self._stack = stack
        self._stay = stay
        self.agents: list[Line] = []
        self.customers: list[Line] = []
        self.offered: dict[str, float] = {}
        """Wall time at which a conversation was first in an agent's hand."""
        self.answered: dict[str, float] = {}
        """Clock at which a conversation's first reply of the bot came."""
        self.joined: dict[str, Side] = {}
        """Agents by the conversation that they follow."""
        self.latencies_ns: list[int] = []
        """From send to the other side."""
        self.errors: Counter[str] = Counter()
        self._followed: set[str] = set()

    async def open(self, agents: int, customers: int, limit: int = LIMIT) -> None:
        """Staff the tenant's desk and connect everybody."""
        names = [f"agent-{number}" for number in range(agents)]
        async with Supervisor(self._stack, TENANT, PATIENCE_S) as supervisor:
            await supervisor.open_desk(staff(names, limit))
        self.agents = await self._connect("agent", names, self._hear_agent)
        await asyncio.gather(
            *(agent.ask(frames_in.SetStatus(status="online")) for agent in self.agents)
        )
        names = [f"customer-{number}" for number in range(customers)]
        self.customers = await self._connect("customer", names, self._hear_customer)

    def close(self) -> None:
        """Let everybody go."""
        for line in (*self.agents, *self.customers):
            line.close()

    async def pairs(self, count: int) -> list[tuple[Side, Side]]:
        """Return conversations between a customer and an agent, both following."""
        customers = await asyncio.gather(
            *(self._begin(self.customers[number % len(self.customers)]) for number in range(count))
        )
        await until(lambda: all(side.conversation_id in self.joined for side in customers))
        return [(side, self.joined[side.conversation_id]) for side in customers]

    async def _begin(self, line: Line) -> Side:
        started = await line.ask(frames_in.Start(route="queue"))
        follow = frames_in.Subscribe(conversation_id=started.conversation_id)
        await line.ask(follow)
        return Side(line, started.conversation_id)

    async def _connect(
        self, role: str, names: Sequence[str], hear: Callable[[Line, Any], None]
    ) -> list[Line]:
        gate = asyncio.Semaphore(OPEN_AT_ONCE)

        async def one(name: str) -> Line:
            async with gate:
                return await Line.open(self._stack, TENANT, role, name, hear)

        return await asyncio.gather(*map(one, names))

    def _hear_agent(self, line: Line, frame: Any) -> None:
        if isinstance(frame, frames_out.Message):
            self._hear_message(line, frame)
        elif isinstance(frame, frames_out.Desk):
            now = time.time()
            for offer in frame.offers:
                if self.offered.setdefault(offer.conversation_id, now) == now:
                    line.say(frames_in.Accept(offer_id=offer.offer_id))
            for conversation in frame.conversation_ids:
                if conversation not in self._followed:
                    self._followed.add(conversation)
                    line.say(frames_in.Subscribe(conversation_id=conversation))
        elif isinstance(frame, frames_out.Subscribed):
            self.joined[frame.conversation_id] = Side(line, frame.conversation_id)
        elif isinstance(frame, frames_out.Error):
            self.errors[f"agent {frame.reason}"] += 1

    def _hear_customer(self, line: Line, frame: Any) -> None:
        if isinstance(frame, frames_out.Message):
            self._hear_message(line, frame)
        elif isinstance(frame, frames_out.Error):
            self.errors[f"customer {frame.reason}"] += 1

    def _hear_message(self, line: Line, frame: frames_out.Message) -> None:
        if frame.sender.kind == "bot":
            self.answered.setdefault(frame.conversation_id, time.perf_counter())
            if not self._stay:
                line.say(frames_in.Unsubscribe(conversation_id=frame.conversation_id))
        elif frame.client_message_id.startswith(TIMED) and frame.sender.id != line.subject:
            self.latencies_ns.append(time.perf_counter_ns() - int(frame.text or "0"))
            if frame.sequence % MARK_EVERY == 0:
                mark = frames_in.SetMark(conversation_id=frame.conversation_id, read=frame.sequence)
                line.say(mark)


def send(side: Side, number: str) -> None:
    """Send a message that says when it was sent."""
    side.line.say(
        frames_in.Send(
            conversation_id=side.conversation_id,
            client_message_id=TIMED + number,
            text=str(time.perf_counter_ns()),
        )
    )


async def until(condition: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
    """Wait until it is so."""
    ends = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > ends:
            raise Wrong("it did not come to pass in time")
        await asyncio.sleep(0.005)


def ms(nanoseconds: Sequence[int], percent: float) -> float:
    """Return a percentile in milliseconds."""
    found: npt.NDArray[np.float64] = np.percentile(nanoseconds, [percent])
    return float(found[0]) / 1e6
