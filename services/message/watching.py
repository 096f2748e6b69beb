"""Watches: a conversation's messages from a number on, in order, as they are sent.

Pushes make it fast, the database makes it whole. A push that continues what was sent
is passed on; anything else only says how far the conversation is, and is read from
the table. Once a second one query a tenant looks how far all watched ones are, so a
push that never came costs a second and nothing more.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import structlog
from interchange.gateway.v1.gateway_pb2 import Push
from interchange.message.v1.message_pb2 import Message

from services.common.access import may_see
from services.common.errors import FailedPrecondition, ResourceExhausted, Unavailable
from services.common.identity import Caller
from services.message import responses
from services.message.domain import Conversation, Tail
from services.message.reading import Page, Reader, page_after
from services.message.repository import Messages

log = structlog.get_logger()

Batches: TypeAlias = AsyncGenerator[Sequence[Message], None]

LOOK_S = 1.0
"""How often watched conversations are looked at: what no push told is found then."""
PENDING_MAX = 64
"""Pushed messages that wait for a slow reader; more are read from the table later."""
PAGE_SIZE = 200
WATCHERS_MAX = 1_000
LIFE_S_MAX = 3_600.0
"""A stream ends then, so that readers spread over instances that came since."""


class Follows(Protocol):
    """Tells this process what is pushed; services.common.push.Followers."""

    async def follow(self, tenant_id: str, *, conversation_id: str = "", subject: str = "") -> None:
        """Be told of a conversation; return once that is so."""
        ...

    def unfollow(self, tenant_id: str, *, conversation_id: str = "", subject: str = "") -> None:
        """Undo one call of `follow`."""
        ...


@dataclass(eq=False, slots=True)
class Watcher:
    """One stream, and what is known to be ahead of it."""

    caller: Caller
    conversation_id: str
    at: int
    """Number of the last message that it was given."""
    epoch: str = ""
    tail: int = 0
    """Number up to which messages are known to exist."""
    pending: list[Message] = field(default_factory=list)
    """Pushed messages that follow the last one without a hole."""
    unsure: bool = True
    """The table must be asked: nothing is known yet, or who may see it has changed."""
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def behind(self) -> bool:
        """True when there is more than what was pushed in order."""
        return self.unsure or self.tail > self.at + len(self.pending)

    def offer(self, message: Message) -> None:
        """Take a pushed message if it is the next one; note in any case that it exists.

        What the platform says may take the conversation from an agent: from there on
        the table is asked, which knows who may see it.
        """
        following = self.at + len(self.pending) + 1
        if message.sequence < following:
            return
        self.unsure = self.unsure or message.HasField("system")
        full = len(self.pending) >= PENDING_MAX
        if message.sequence == following and not self.unsure and not full:
            self.pending.append(message)
        self.tail = max(self.tail, message.sequence)
        self.ready.set()

    def look(self, found: Tail) -> None:
        """Take note of how far the conversation is, and whether the caller still sees it."""
        self.tail = max(self.tail, found.last_sequence)
        seen = may_see(self.caller, found.customer_id, found.agent_id)
        if not seen or found.epoch != self.epoch:
            self.unsure = True
        if self.behind:
            self.ready.set()

    def move(self, rows: Sequence[Message]) -> Sequence[Message]:
        """Note that it is given messages, which follow the last one."""
        if rows:
            self.at = rows[-1].sequence
            self.pending = [one for one in self.pending if one.sequence > self.at]
        return rows


class Watches:
    """The watchers of this process."""

    def __init__(self, reader: Reader, draining: asyncio.Event) -> None:
        self._reader = reader
        self._draining = draining
        self._watchers: dict[tuple[str, str], set[Watcher]] = {}
        self._count = 0

    def receive(self, push: Push) -> None:
        """Take what is pushed."""
        if push.HasField("message"):
            for watcher in self._watchers.get((push.tenant_id, push.conversation_id), ()):
                watcher.offer(push.message)

    async def run(self) -> None:
        """Look for what no push told, until the server drains."""
        while not self._draining.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._draining.wait()
            tenants = {tenant_id for tenant_id, _ in self._watchers}
            for tenant_id in tenants:
                await self._look(tenant_id)
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.ready.set()

    async def watch(
        self, caller: Caller, conversation_id: str, after: int, follows: Follows
    ) -> Batches:
        """Yield the messages after a number, then each new one.

        `follows` makes that `receive` is called with what is pushed.
        Raises NotFound when the caller may not see the conversation, or no longer;
        FailedPrecondition when the messages after the number are not to be had, and
        Unavailable when the server drains.
        """
        if self._count >= WATCHERS_MAX:
            raise ResourceExhausted("TOO_MANY_WATCHERS", f"{WATCHERS_MAX} streams are open here")
        self._count += 1
        watcher = Watcher(caller, conversation_id, after)
        try:
            conversation = await self._reader.opened(caller, conversation_id, _only)
            _check(conversation, watcher)
            watcher.epoch = conversation.epoch
            async with self._joined(watcher, follows), aclosing(self._messages(watcher)) as batches:
                async for batch in batches:
                    yield batch
        finally:
            self._count -= 1

    @asynccontextmanager
    async def _joined(self, watcher: Watcher, follows: Follows) -> AsyncIterator[None]:
        """Be told from here on: what is sent before the first look is seen by both."""
        tenant_id, conversation_id = watcher.caller.tenant_id, watcher.conversation_id
        key = tenant_id, conversation_id
        self._watchers.setdefault(key, set()).add(watcher)
        try:
            await follows.follow(tenant_id, conversation_id=conversation_id)
            try:
                yield
            finally:
                follows.unfollow(tenant_id, conversation_id=conversation_id)
        finally:
            self._watchers[key].discard(watcher)
            if not self._watchers[key]:
                del self._watchers[key]

    async def _messages(self, watcher: Watcher) -> Batches:
        loop = asyncio.get_running_loop()
        end = loop.time() + LIFE_S_MAX
        while not self._draining.is_set():
            if watcher.behind:
                watcher.unsure = False
                rows = watcher.move(await self._missing(watcher))
            else:
                rows = watcher.move(watcher.pending)
            if rows:
                yield rows
                continue
            watcher.ready.clear()
            try:
                async with asyncio.timeout_at(end):
                    await watcher.ready.wait()
            except TimeoutError:
                return
        raise Unavailable("DRAINING", "the server is leaving; go on elsewhere")

    async def _missing(self, watcher: Watcher) -> list[Message]:
        """Return what follows the last message, from the table."""
        tenant_id = watcher.caller.tenant_id

        async def read(reads: Messages, conversation: Conversation) -> Page:
            _check(conversation, watcher)
            return await page_after(reads, tenant_id, conversation, watcher.at, PAGE_SIZE)

        page = await self._reader.opened(watcher.caller, watcher.conversation_id, read)
        watcher.tail = max(watcher.tail, page.conversation.last_sequence)
        return [responses.message(row) for row in page.rows]

    async def _look(self, tenant_id: str) -> None:
        watched = {name: found for (its, name), found in self._watchers.items() if its == tenant_id}
        try:
            tails = await self._reader.tails(tenant_id, list(watched))
        except Exception as error:
            # The database may be away for a moment; the streams are not.
            log.warning("watched conversations not looked at", error=repr(error))
            return
        for found in tails:
            for watcher in watched[found.conversation_id]:
                watcher.look(found)


async def _only(reads: Messages, conversation: Conversation) -> Conversation:
    return conversation


def _check(conversation: Conversation, watcher: Watcher) -> None:
    """Raise when what follows the last message can't be given without a hole."""
    if not conversation.continues(watcher.at, watcher.epoch or conversation.epoch):
        raise FailedPrecondition(
            "HISTORY_GONE",
            f"messages after {watcher.at} are not to be had: resume, and go on from there",
        )
