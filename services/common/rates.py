"""How fast somebody may do something: a token bucket each, in memory.

Kept as the moment at which the bucket will be full again (GCRA), one number for each
who does it. A full bucket says nothing, so those who were silent for as long as a
bucket takes to fill are forgotten: two generations are kept, and the older one is
dropped.
"""

from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Rates(Generic[K]):
    """The buckets of this process: `rate_per_s` in the long run, `burst` at once."""

    def __init__(self, rate_per_s: float, burst: int) -> None:
        self.rate_per_s = rate_per_s
        self._interval_s = 1 / rate_per_s
        self._fill_s = burst / rate_per_s
        self._young: dict[K, float] = {}
        self._old: dict[K, float] = {}
        self._turn_at = 0.0

    def take(self, who: K, now_s: float) -> float:
        """Take a token; return 0, or after how many seconds there is one."""
        if now_s >= self._turn_at:
            self._turn(now_s)
        full_at = self._young.get(who)
        if full_at is None:
            full_at = self._old.get(who, now_s)
        full_at = max(full_at, now_s) + self._interval_s
        wait_s = full_at - now_s - self._fill_s
        if wait_s > 1e-9:
            return wait_s
        self._young[who] = full_at
        return 0.0

    def _turn(self, now_s: float) -> None:
        # Nobody's bucket takes longer to fill than one turn.
        silent = now_s >= self._turn_at + self._fill_s
        self._old = {} if silent else self._young
        self._young = {}
        self._turn_at = now_s + self._fill_s
