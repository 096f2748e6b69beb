"""Finds what pushes did not tell: one query a tenant looks at all that is followed here."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Iterable

import structlog

from services.common.config import Settings
from services.gateway.feed import Feed
from services.gateway.feeds import Feeds
from services.gateway.refusals import refusal
from services.gateway.upstream import Upstream

CHUNK = 5_000
"""Conversations in one query, at most."""
log = structlog.get_logger()


class Tails:
    """Asks how far conversations are: all of them every second or two, doubtful ones at once."""

    def __init__(self, feeds: Feeds, upstream: Upstream, settings: Settings) -> None:
        self._feeds = feeds
        self._upstream = upstream
        self._period_s = settings.gateway_tails_ms / 1000

    async def run(self) -> None:
        """Look until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time() + self._pause()
        while True:
            try:
                async with asyncio.timeout_at(due):
                    await self._feeds.doubt.wait()
                self._feeds.doubt.clear()
                doubtful, self._feeds.doubtful = self._feeds.doubtful, set()
                await self.look(doubtful)
            except TimeoutError:
                self._feeds.doubtful.clear()
                await self.look(self._feeds)
                due = loop.time() + self._pause()

    async def look(self, feeds: Iterable[Feed]) -> None:
        """Compare what is known of conversations with what is so."""
        by_tenant: defaultdict[str, list[Feed]] = defaultdict(list)
        for feed in feeds:
            by_tenant[feed.tenant_id].append(feed)
        for tenant_id, known in by_tenant.items():
            for start in range(0, len(known), CHUNK):
                await self._look(tenant_id, known[start : start + CHUNK])

    async def _look(self, tenant_id: str, known: list[Feed]) -> None:
        asked = {each.conversation_id: (each, each.doubts) for each in known}
        asked_at = asyncio.get_running_loop().time()
        try:
            tails = await self._upstream.tails(tenant_id, [each.conversation_id for each in known])
        except Exception as error:
            log.warning("watermarks were not read", tenant=tenant_id, reason=refusal(error).reason)
            return
        for tail in tails:
            feed, doubts = asked[tail.conversation_id]
            if self._feeds.get(tenant_id, tail.conversation_id) is feed:
                self._feeds.apply_tail(feed, tail, doubts, asked_at)

    def _pause(self) -> float:
        # Instances that started together must not ask together for ever.
        return self._period_s * random.uniform(0.75, 1.25)
