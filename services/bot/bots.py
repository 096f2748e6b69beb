"""Bots in memory: what a worker decides by, never older than the database says."""

from collections import OrderedDict
from collections.abc import Collection, Mapping

from interchange.bot.v1 import bot_pb2

from services.bot.domain import Bot
from services.bot.repository import Bots
from services.common.work import WorkUnits

CACHED_MAX = 1_000


class BotCache:
    """The bots of all tenants that were used lately.

    Each look asks for their versions; only what changed is read and parsed.
    """

    def __init__(self, uow: WorkUnits[Bots]) -> None:
        self._uow = uow
        self._cache: OrderedDict[tuple[str, str], tuple[int, Bot]] = OrderedDict()

    async def of(self, tenant_id: str, bot_ids: Collection[str]) -> Mapping[str, Bot]:
        """Return those bots of a tenant that exist, as they are now."""
        known = {
            bot_id: self._cache[tenant_id, bot_id][0] if (tenant_id, bot_id) in self._cache else 0
            for bot_id in sorted(bot_ids)
        }
        async with self._uow.reading(tenant_id) as repository:
            newer = await repository.newer(tenant_id, known)
        found = {}
        for bot_id, (version, body) in newer.items():
            key = (tenant_id, bot_id)
            if body is not None:
                self._cache[key] = (version, Bot.of(bot_pb2.Bot.FromString(body)))
            self._cache.move_to_end(key)
            found[bot_id] = self._cache[key][1]
        while len(self._cache) > CACHED_MAX:
            self._cache.popitem(last=False)
        return found
