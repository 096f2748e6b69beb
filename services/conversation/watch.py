"""Watches of conversations: one query a tenant looks for all watchers of this process.

A commit of this process, and a push of another one, make it look at once at what
changed. Every second it looks at all that is watched: nothing depends on a push. A
watcher holds the latest state that it has not sent, so a slow reader skips states.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import structlog
from interchange.conversation.v1 import conversation_pb2 as pb
from interchange.gateway.v1.gateway_pb2 import Push

from services.common.errors import ResourceExhausted, Unavailable
from services.common.identity import Caller
from services.common.push import Followers
from services.common.work import WorkUnits
from services.conversation import events
from services.conversation.domain import ENDED, Conversation
from services.conversation.handlers import seen
from services.conversation.news import Changed
from services.conversation.repository import Conversations

log = structlog.get_logger()

POLL_S = 1.0
WATCHERS_MAX = 5_000
LIFE_SECONDS_MAX = 3_600.0
"""A stream ends then, so that readers spread over instances that came since."""


@dataclass(eq=False, slots=True)
class Watcher:
    """One stream: what it has not sent yet."""

    version: int = 0
    """Of the last state that reached it."""
    pending: Conversation | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    failed: bool = False

    def offer(self, state: Conversation) -> None:
        """Take a state, where it is new to this watcher."""
        if state.version > self.version:
            self.version, self.pending = state.version, state
            self.ready.set()


@dataclass(slots=True)
class _Tenant:
    """The watchers of one tenant, by conversation."""

    watchers: dict[str, set[Watcher]] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    """Conversations to look at now."""
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    task: "asyncio.Task[None] | None" = None


class Watches:
    """The watchers of this process."""

    def __init__(self, uow: WorkUnits[Conversations], draining: asyncio.Event) -> None:
        self._uow = uow
        self._draining = draining
        self._tenants: dict[str, _Tenant] = {}
        self._count = 0
        self.followers: Followers | None = None
        """By whom other processes reach this one; the poll finds what they can't tell."""

    def wake(self, changes: Sequence[Changed]) -> None:
        """Look at once at what was changed."""
        for tenant_id, conversation_id, _ in changes:
            tenant = self._tenants.get(tenant_id)
            if tenant is not None and conversation_id in tenant.watchers:
                tenant.changed.add(conversation_id)
                tenant.wake.set()

    def receive(self, push: Push) -> None:
        """Look at what another process changed."""
        if push.WhichOneof("content") == "conversation_version":
            self.wake([(push.tenant_id, push.conversation_id, push.conversation_version)])

    async def watch(
        self, caller: Caller, conversation_id: str
    ) -> AsyncGenerator[pb.Conversation, None]:
        """Yield a conversation, then each newer state; end with it, or when the server drains.

        Raises NotFound where the caller may not see it, or not any more, and
        ResourceExhausted when too many watch.
        """
        if self._count >= WATCHERS_MAX:
            raise ResourceExhausted("TOO_MANY_WATCHERS", f"{WATCHERS_MAX} streams are open here")
        self._count += 1
        watcher = Watcher()
        tenant = self._join(caller.tenant_id, conversation_id, watcher)
        try:
            # Followed before it is read: no change falls in between.
            if self.followers is not None:
                await self.followers.follow(caller.tenant_id, conversation_id=conversation_id)
            key = (caller.tenant_id, conversation_id)
            async with self._uow.reading(caller.tenant_id) as repository:
                found = await repository.load({key})
            watcher.offer(seen(caller, found.get(key)))
            end = asyncio.get_running_loop().time() + LIFE_SECONDS_MAX
            while (state := await self._next(watcher, end)) is not None:
                yield events.resource(seen(caller, state))
                if state.status == ENDED:
                    return
        finally:
            self._count -= 1
            self._leave(caller.tenant_id, tenant, conversation_id, watcher)

    async def _next(self, watcher: Watcher, end: float) -> Conversation | None:
        """Return the next state; None at the end of the stream's life."""
        while not self._draining.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout_at(end):
                    await watcher.ready.wait()
            watcher.ready.clear()
            if watcher.failed:
                raise Unavailable("DATABASE_UNAVAILABLE", "the database does not answer; try again")
            state, watcher.pending = watcher.pending, None
            if state is not None:
                return state
            if asyncio.get_running_loop().time() >= end:
                break
        return None

    def _join(self, tenant_id: str, conversation_id: str, watcher: Watcher) -> _Tenant:
        tenant = self._tenants.setdefault(tenant_id, _Tenant())
        tenant.watchers.setdefault(conversation_id, set()).add(watcher)
        if tenant.task is None:
            tenant.task = asyncio.create_task(self._poll(tenant_id, tenant))
        return tenant

    def _leave(
        self, tenant_id: str, tenant: _Tenant, conversation_id: str, watcher: Watcher
    ) -> None:
        watchers = tenant.watchers.get(conversation_id, set())
        watchers.discard(watcher)
        if not watchers:
            tenant.watchers.pop(conversation_id, None)
        if self.followers is not None:
            self.followers.unfollow(tenant_id, conversation_id=conversation_id)

    async def _poll(self, tenant_id: str, tenant: _Tenant) -> None:
        """Look for changes until nobody of the tenant watches any more."""
        looked = asyncio.get_running_loop().time()
        try:
            while tenant.watchers and not self._draining.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(looked + POLL_S):
                        await tenant.wake.wait()
                tenant.wake.clear()
                named, tenant.changed = tenant.changed, set()
                if asyncio.get_running_loop().time() >= looked + POLL_S:
                    named = set(tenant.watchers)
                    looked = asyncio.get_running_loop().time()
                await self._look(tenant_id, tenant, named)
        except Exception as error:
            log.warning("watch failed", tenant=tenant_id, error=repr(error))
            for watcher in _all(tenant):
                watcher.failed = True
        finally:
            del self._tenants[tenant_id]
            for watcher in _all(tenant):
                watcher.ready.set()

    async def _look(self, tenant_id: str, tenant: _Tenant, named: set[str]) -> None:
        known = {
            one: min(watcher.version for watcher in tenant.watchers[one])
            for one in sorted(named)
            if one in tenant.watchers
        }
        if not known:
            return
        async with self._uow.reading(tenant_id) as repository:
            states = await repository.newer(tenant_id, known)
        for state in states:
            for watcher in tenant.watchers.get(state.conversation_id, ()):
                watcher.offer(state)


def _all(tenant: _Tenant) -> list[Watcher]:
    return [watcher for watchers in tenant.watchers.values() for watcher in watchers]
