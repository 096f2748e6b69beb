"""Waiting for copies that are on their way: one query a poll and tenant for all waiters.

Who starts a conversation, or is given one, and uses it at once must not be told that
it does not exist. What this process applies itself wakes its waiters.
"""

import asyncio
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from services.common import deadline
from services.message.domain import Conversation
from services.message.ports import Units

KNOWN_S = 2.0
"""How long a conversation that was just made is awaited."""
ASSIGNED_S = 1.0
"""How long an agent's assignment is awaited."""
POLL_MIN_S = 0.002
POLL_MAX_S = 0.05


class Awaited(NamedTuple):
    """A conversation that shall be known, and be the agent's where one is given."""

    conversation_id: str
    agent_id: str = ""

    def is_settled(self, conversation: Conversation | None) -> bool:
        """Tell whether waiting on has no use: it came, or it went to somebody else."""
        if conversation is None:
            return False
        return not self.agent_id or not conversation.is_queued


@dataclass(slots=True)
class _Poll:
    waiting: dict["asyncio.Future[None]", Awaited] = field(default_factory=dict)
    wake: asyncio.Event = field(default_factory=asyncio.Event)


class Arrivals:
    """The waiters of this process."""

    def __init__(self, uow: Units) -> None:
        self._uow = uow
        self._polls: dict[str, _Poll] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        """Look at once: events were applied here."""
        for poll in self._polls.values():
            poll.wake.set()

    async def wait(self, tenant_id: str, awaited: Collection[Awaited], patience_s: float) -> bool:
        """Wait until all are settled, within the deadline of the call; tell whether any is."""
        patience_s = min(patience_s, deadline.patience(patience_s))
        loop = asyncio.get_running_loop()
        futures = {loop.create_future(): one for one in set(awaited)}
        poll = self._join(tenant_id)
        poll.waiting.update(futures)
        poll.wake.set()
        try:
            done, _ = await asyncio.wait(futures, timeout=patience_s)
        finally:
            for future in futures:
                poll.waiting.pop(future, None)
        for future in done:
            future.result()
        return bool(done)

    def _join(self, tenant_id: str) -> _Poll:
        poll = self._polls.get(tenant_id)
        if poll is None:
            poll = self._polls[tenant_id] = _Poll()
            task = asyncio.create_task(self._run(tenant_id, poll))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return poll

    async def _run(self, tenant_id: str, poll: _Poll) -> None:
        pause_s = POLL_MIN_S
        try:
            # Whoever joins does so in one step with the check here: none is left behind.
            while poll.waiting:
                poll.wake.clear()
                await self._look(tenant_id, poll)
                if poll.waiting:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(pause_s):
                            await poll.wake.wait()
                    pause_s = min(2 * pause_s, POLL_MAX_S)
        except Exception as error:
            for future in list(poll.waiting):
                if not future.done():
                    future.set_exception(error)
        finally:
            self._polls.pop(tenant_id, None)

    async def _look(self, tenant_id: str, poll: _Poll) -> None:
        asked = dict(poll.waiting)
        async with self._uow.reading(tenant_id) as reads:
            names = {one.conversation_id for one in asked.values()}
            found = await reads.conversations(tenant_id, names)
        for future, one in asked.items():
            if one.is_settled(found.get(one.conversation_id)):
                poll.waiting.pop(future, None)
                if not future.done():
                    future.set_result(None)
