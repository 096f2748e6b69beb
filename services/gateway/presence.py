"""Who is there, of those who have conversations with each other.

One who begins to follow is announced at once. For certain the session service is
asked, now and then for all: one who vanished announces nothing.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from typing import Protocol

import structlog
from interchange.gateway.v1 import gateway_pb2

from services.common.config import Settings
from services.gateway import frames_out
from services.gateway.codec import encode
from services.gateway.feed import Feed
from services.gateway.frames_in import AskPresence
from services.gateway.refusals import refusal
from services.gateway.subscription import Reader, Subscription
from services.gateway.upstream import Upstream

CHUNK = 1_000
GATHER_S = 0.05
log = structlog.get_logger()


class Pushes(Protocol):
    """Tells instances of news (common/push.Pusher)."""

    def push(self, pushes: Iterable[gateway_pb2.Push]) -> None:
        """Push, and return at once."""


class Presences:
    """Tells the followers of conversations who of the others is there."""

    def __init__(self, upstream: Upstream, pusher: Pushes, settings: Settings) -> None:
        self._upstream = upstream
        self._pusher = pusher
        self._period_s = settings.gateway_presence_ms / 1000
        self._new: set[Feed] = set()
        self._wake = asyncio.Event()

    def joined(self, subscription: Subscription) -> None:
        """Announce one who began to follow, and look for the other one."""
        feed, subject = subscription.feed, subscription.reader.caller.subject
        if subject in feed.participants:
            presence = gateway_pb2.Presence(subject=subject, online=True)
            self._pusher.push(
                [
                    gateway_pb2.Push(
                        tenant_id=feed.tenant_id,
                        conversation_id=feed.conversation_id,
                        presence=presence,
                    )
                ]
            )
        if not feed.online.issuperset(feed.participants):
            self._new.add(feed)
            self._wake.set()

    async def answer(self, reader: Reader, frame: AskPresence) -> None:
        """Tell who is there: a narrow caller only of those he has conversations with."""
        caller = reader.caller
        feeds = [each.feed for each in reader.subscriptions.values() if each.told]
        known = {subject for feed in feeds for subject in feed.participants}
        asked = set(frame.subjects) or known
        asked = (asked & known if caller.narrow else asked) - {caller.subject}
        try:
            online = await self._upstream.present(caller.tenant_id, sorted(asked)[:CHUNK])
        except Exception as error:
            reader.send(encode(refusal(error, frame.ref)))
            return
        answer = frames_out.Presence(
            tuple(sorted(asked & online)), tuple(sorted(asked - online)), ref=frame.ref
        )
        reader.send(encode(answer))

    async def run(self, feeds: Iterable[Feed]) -> None:
        """Look until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time() + self._period_s
        while True:
            try:
                async with asyncio.timeout_at(due):
                    await self._wake.wait()
                    await asyncio.sleep(GATHER_S)
                self._wake.clear()
                new, self._new = self._new, set()
                await self._look(new)
            except TimeoutError:
                await self._look(feeds)
                due = loop.time() + self._period_s

    async def _look(self, feeds: Iterable[Feed]) -> None:
        by_tenant: defaultdict[str, list[Feed]] = defaultdict(list)
        for feed in feeds:
            by_tenant[feed.tenant_id].append(feed)
        for tenant_id, known in by_tenant.items():
            subjects = sorted({subject for feed in known for subject in feed.participants})
            try:
                online = await self._present(tenant_id, subjects)
            except Exception as error:
                log.warning("presence was not read", reason=refusal(error).reason)
                return
            for feed in known:
                for subject in feed.participants:
                    feed.saw(subject, online=subject in online)

    async def _present(self, tenant_id: str, subjects: list[str]) -> set[str]:
        online: set[str] = set()
        for start in range(0, len(subjects), CHUNK):
            online |= await self._upstream.present(tenant_id, subjects[start : start + CHUNK])
        return online
