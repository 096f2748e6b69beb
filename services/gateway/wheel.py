"""One timer for all sockets: each names the moment at which it wants to be looked at."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Generic, TypeVar

import structlog

T = TypeVar("T")

TICK_S = 0.1
log = structlog.get_logger()


class Wheel(Generic[T]):
    """Looks at things when they are due: `look(thing, now)` says when again, or None.

    A thing is in one slot at a time. What happens to it meanwhile need not be told:
    it is looked at as planned, and says then that it is not due yet.
    """

    def __init__(self, look: Callable[[T, float], float | None]) -> None:
        self._look = look
        self._slots: defaultdict[int, set[T]] = defaultdict(set)
        self._of: dict[T, int] = {}
        self._done = int(time.monotonic() / TICK_S)

    def plan(self, thing: T, at: float) -> None:
        """Look at `thing` at the monotonic time `at`, in place of what was planned."""
        slot = max(int(at / TICK_S) + 1, self._done + 1)
        before = self._of.get(thing)
        if before is not None:
            self._slots[before].discard(thing)
        self._of[thing] = slot
        self._slots[slot].add(thing)

    def drop(self, thing: T) -> None:
        """Look at `thing` no more."""
        slot = self._of.pop(thing, None)
        if slot is not None:
            self._slots[slot].discard(thing)

    def turn(self, now: float) -> None:
        """Look at everything that is due at `now`."""
        reached = int(now / TICK_S)
        while self._done < reached:
            self._done += 1
            for thing in self._slots.pop(self._done, ()):
                del self._of[thing]
                self._look_at(thing, now)

    def _look_at(self, thing: T, now: float) -> None:
        try:
            again = self._look(thing, now)
        except Exception:
            log.exception("timer failed")
            return
        if again is not None:
            self.plan(thing, again)

    async def run(self) -> None:
        """Turn until cancelled."""
        while True:
            await asyncio.sleep(TICK_S)
            self.turn(time.monotonic())
