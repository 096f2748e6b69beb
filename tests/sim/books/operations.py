"""An operator who looks after parked keys: waits, releases, skips."""

import asyncpg

from tests.sim.books.desk import TENANT
from tests.sim.books.sent import Sent, Skip
from tests.sim.chance import Chance
from tests.sim.follower import Follower
from tests.sim.house import House

_PARKED = """
SELECT k.topic, k.key, k.state, k.reason, coalesce(s.sequence, 0) + 1 AS following
FROM {service}.parked_keys AS k
LEFT JOIN {service}.inbox_sequences AS s USING (tenant_id, topic, key)
WHERE k.tenant_id = $1 ORDER BY k.topic, k.key
"""
_DECIDE = """
UPDATE {service}.parked_keys SET state = $4 WHERE (tenant_id, topic, key) = ($1, $2, $3)
"""


class Operator:
    """Decides about poisoned keys."""

    def __init__(self, house: House, chance: Chance, sent: Sent) -> None:
        self._house, self._chance, self._sent = house, chance, sent

    async def parked(self, follower: Follower) -> list[asyncpg.Record]:
        """Return the keys that wait in a service."""
        return await self._house.owner.fetch(_PARKED.format(service=follower.service), TENANT)

    async def work(self, follower: Follower, *, finish: bool = False) -> None:
        """Release what was corrected, skip what never can be applied; at the end, all of it."""
        for row in await self.parked(follower):
            if row["state"] != "POISONED":
                continue
            event = TENANT, row["topic"], row["key"], row["following"]
            skip = Skip(follower.service, *event[1:])
            if event in follower.refused:
                if finish or self._chance.happens(0.7):
                    follower.refused.discard(event)
                # Else it is released in vain, and parked again.
                await self._decide(follower, row, "RELEASED")
            elif event in follower.blamed:
                await self._decide(follower, row, "RELEASED")
            elif event in follower.subscription.mangled:
                if finish or self._chance.happens(0.7):
                    self._sent.skipped.add(skip)
                    await self._decide(follower, row, "SKIP")
                else:
                    await self._decide(follower, row, "RELEASED")
            else:
                self._sent.problems.append(f"{skip} is poisoned without reason: {row['reason']}")
                await self._decide(follower, row, "RELEASED")

    async def _decide(self, follower: Follower, row: asyncpg.Record, state: str) -> None:
        self._chance.note("operator:", follower.service, row["topic"], row["key"], state)
        key = TENANT, row["topic"], row["key"]
        await self._house.owner.execute(_DECIDE.format(service=follower.service), *key, state)
