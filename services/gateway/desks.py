"""Desks of the agents whose sockets are here: offers, and conversations they answer."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable

import structlog
from interchange.agent.v1 import agent_pb2
from interchange.agent.v1.agent_service_pb2 import DeskVersion
from interchange.gateway.v1 import gateway_pb2

from services.common.config import Settings
from services.common.identity import Caller
from services.gateway import translation
from services.gateway.codec import encode
from services.gateway.feeds import Follows
from services.gateway.refusals import refusal
from services.gateway.subscription import Reader
from services.gateway.upstream import Upstream

CHUNK = 2_000
log = structlog.get_logger()


class _DeskOf:
    """An agent's desk as this instance knows it, and the sockets that watch it."""

    __slots__ = ("agent_id", "conversation_ids", "data", "readers", "tenant_id", "version")

    def __init__(self, tenant_id: str, agent_id: str) -> None:
        self.tenant_id = tenant_id
        self.agent_id = agent_id
        self.version = 0
        self.data = b""
        self.conversation_ids: frozenset[str] = frozenset()
        self.readers: list[Reader] = []


class Desks:
    """Tells agents of their desks: by pushes, and by a look at all versions for what they miss."""

    def __init__(self, upstream: Upstream, followers: Follows, settings: Settings) -> None:
        self._upstream = upstream
        self._followers = followers
        self._period_s = settings.gateway_tails_ms / 1000
        self._desks: dict[tuple[str, str], _DeskOf] = {}
        self._new: set[_DeskOf] = set()
        self._wake = asyncio.Event()
        self._follows: dict[_DeskOf, asyncio.Task[None]] = {}

    def join(self, reader: Reader) -> None:
        """Show an agent his desk from now on."""
        key = reader.caller.tenant_id, reader.caller.subject
        desk = self._desks.get(key)
        if desk is None:
            desk = self._desks[key] = _DeskOf(*key)
            self._follows[desk] = asyncio.create_task(self._follow(desk))
        desk.readers.append(reader)
        if desk.data:
            reader.send(desk.data)

    def leave(self, reader: Reader) -> None:
        """Show him no more."""
        key = reader.caller.tenant_id, reader.caller.subject
        desk = self._desks.get(key)
        if desk is None or reader not in desk.readers:
            return
        desk.readers.remove(reader)
        if not desk.readers:
            del self._desks[key]
            self._new.discard(desk)
            self._follows.pop(desk).add_done_callback(
                lambda _: self._followers.unfollow(desk.tenant_id, subject=desk.agent_id)
            )

    def receive(self, push: gateway_pb2.Push) -> None:
        """Take a desk that was pushed."""
        if push.WhichOneof("content") == "desk":
            self.learn(push.tenant_id, push.desk)

    def learn(self, tenant_id: str, desk: agent_pb2.Desk) -> None:
        """Take a desk; tell its agent when it is newer."""
        known = self._desks.get((tenant_id, desk.agent_id))
        if known is not None and desk.version > known.version:
            known.version = desk.version
            known.conversation_ids = frozenset(desk.conversation_ids)
            known.data = encode(translation.desk(desk))
            for reader in tuple(known.readers):
                reader.send(known.data)

    def has(self, caller: Caller, conversation_id: str) -> bool:
        """Tell whether a conversation is on the desk of a caller."""
        desk = self._desks.get((caller.tenant_id, caller.subject))
        return desk is not None and conversation_id in desk.conversation_ids

    async def run(self) -> None:
        """Look for what pushes did not tell, until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time() + self._period_s
        while True:
            try:
                async with asyncio.timeout_at(due):
                    await self._wake.wait()
                self._wake.clear()
                new, self._new = self._new, set()
                await self._look(new)
            except TimeoutError:
                await self._look(tuple(self._desks.values()))
                due = loop.time() + self._period_s

    async def _follow(self, desk: _DeskOf) -> None:
        """Follow first, then look: what changes in between is pushed."""
        await self._followers.follow(desk.tenant_id, subject=desk.agent_id)
        if desk.readers:
            self._new.add(desk)
            self._wake.set()

    async def _look(self, desks: Iterable[_DeskOf]) -> None:
        by_tenant: defaultdict[str, list[DeskVersion]] = defaultdict(list)
        for desk in desks:
            known = DeskVersion(agent_id=desk.agent_id, version=desk.version)
            by_tenant[desk.tenant_id].append(known)
        for tenant_id, versions in by_tenant.items():
            for start in range(0, len(versions), CHUNK):
                try:
                    newer = await self._upstream.desks(tenant_id, versions[start : start + CHUNK])
                except Exception as error:
                    log.warning("desks were not read", reason=refusal(error).reason)
                    return
                for each in newer:
                    self.learn(tenant_id, each)
