"""Bots in memory: what a worker decides by, never older than the database says."""

from collections import OrderedDict
from collections.abc import Collection, Mapping

from interchange.bot.v1 import bot_pb2

from services.bot.domain import Bot
from services.bot.repository import Bots
from services.common.work import WorkUnits

CACHED_MAX = 1_000


NEVER: tuple[int, Bot | None] = (0, None)
"""Version and bot of one that was never read."""


class BotCache:
    """The bots of all tenants that were used lately.

    Each look asks for their versions; only what changed is read and parsed.
    """

    def __init__(self, uow: WorkUnits[Bots]) -> None:
        self._uow = uow
        self._cache: OrderedDict[tuple[str, str], tuple[int, Bot | None]] = OrderedDict()

    async def of(self, tenant_id: str, bot_ids: Collection[str]) -> Mapping[str, Bot]:
        """Return those bots of a tenant that exist, as they are now."""
        # Held here: another look may evict them while this one waits.
        cached = {one: self._cache.get((tenant_id, one), NEVER) for one in sorted(bot_ids)}
        known = {bot_id: version for bot_id, (version, _) in cached.items()}
        async with self._uow.reading(tenant_id) as repository:
            newer = await repository.newer(tenant_id, known)
        found = {}
        for bot_id, (version, body) in newer.items():
            bot = cached[bot_id][1]
            if body is not None:
                bot = Bot.of(bot_pb2.Bot.FromString(body))
            assert bot is not None, f"bot {bot_id} is as new as one that was never read"
            found[bot_id] = bot
            self._cache[tenant_id, bot_id] = (version, bot)
            self._cache.move_to_end((tenant_id, bot_id))
        while len(self._cache) > CACHED_MAX:
            self._cache.popitem(last=False)
        return found
