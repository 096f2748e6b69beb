"""An operator who looks after parked keys: waits, releases, skips."""

from collections.abc import Callable

import asyncpg

from tests.sim.chance import Chance
from tests.sim.follower import Follower
from tests.sim.house import House
from tests.sim.wire import EventId

_PARKED = """
SELECT k.tenant_id, k.topic, k.key, k.state, k.reason,
    coalesce(s.sequence, 0) + 1 AS following
FROM {service}.parked_keys AS k
LEFT JOIN {service}.inbox_sequences AS s USING (tenant_id, topic, key)
ORDER BY k.tenant_id, k.topic, k.key
"""
_DECIDE = """
UPDATE {service}.parked_keys SET state = $4 WHERE (tenant_id, topic, key) = ($1, $2, $3)
"""


class Operator:
    """Decides about poisoned keys.

    `skip` is told of events that a service was told to leave out, `problems` is where
    keys go that are poisoned without reason.
    """

    def __init__(
        self,
        house: House,
        chance: Chance,
        problems: list[str],
        skip: Callable[[str, EventId], None],
    ) -> None:
        self._house, self._chance = house, chance
        self._problems, self._skip = problems, skip

    async def parked(self, follower: Follower) -> list[asyncpg.Record]:
        """Return the keys that wait in a service."""
        return await self._house.owner.fetch(_PARKED.format(service=follower.service))

    async def work(self, follower: Follower, *, finish: bool = False) -> None:
        """Release what was corrected, skip what never can be applied; at the end, all of it."""
        for row in await self.parked(follower):
            if row["state"] != "POISONED":
                continue
            event = row["tenant_id"], row["topic"], row["key"], row["following"]
            if event in follower.refused:
                if finish or self._chance.happens(0.7):
                    follower.refused.discard(event)
                # Else it is released in vain, and parked again.
                await self._decide(follower, row, "RELEASED")
            elif event in follower.blamed:
                await self._decide(follower, row, "RELEASED")
            elif event in follower.subscription.mangled:
                if finish or self._chance.happens(0.7):
                    self._skip(follower.service, event)
                    await self._decide(follower, row, "SKIP")
                else:
                    await self._decide(follower, row, "RELEASED")
            else:
                why = f"{follower.service} {event} is poisoned without reason: {row['reason']}"
                self._problems.append(why)
                await self._decide(follower, row, "RELEASED")

    async def _decide(self, follower: Follower, row: asyncpg.Record, state: str) -> None:
        self._chance.note("operator:", follower.service, row["topic"], row["key"], state)
        key = row["tenant_id"], row["topic"], row["key"]
        await self._house.owner.execute(_DECIDE.format(service=follower.service), *key, state)
