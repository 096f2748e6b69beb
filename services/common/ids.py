"""Ids that grow with time: UUID version 7 (RFC 9562)."""

import os
import struct
import threading
from collections.abc import Callable
from itertools import accumulate

_TICKS = 4096
"""Steps of a millisecond in rand_a: method 3 of RFC 9562, section 6.2."""
_TAIL_END = 1 << 62
_BACK_MAX = 10 * 1000 * _TICKS
"""A clock that goes back further, 10 s, was set right or is another one: ids follow it."""

RandomBytes = Callable[[int], bytes]


class Uuid7:
    """Makes UUIDv7 texts, each greater than the ones before.

    The twelve bits after the milliseconds hold the fraction of the millisecond,
    so ids of different microseconds sort across processes too. Within a batch,
    and while the clock stands still or steps back, the last 62 bits count up in
    random steps from a random start (method 2). A simulation has an instance of
    its own.
    """

    def __init__(self) -> None:
        self._tick = 0
        self._tail = 0
        self._lock = threading.Lock()

    def batch(self, count: int, now_us: int, random: RandomBytes = os.urandom) -> list[str]:
        """Return `count` ids of the moment `now_us`, microseconds since 1970 UTC.

        `random` is asked once; a seeded `Random().randbytes` makes ids repeatable.
        """
        start, *steps = struct.unpack(f"<Q{count}I", random(8 + 4 * count))
        with self._lock:
            tick = _tick(now_us)
            if self._tick - _BACK_MAX < tick <= self._tick:
                tick, tail = self._tick, self._tail
                if tail + (count << 32) >= _TAIL_END:
                    tick, tail = tick + 1, start >> 3
            else:
                tail = start >> 3
            # Steps of zero are no steps: each counts one more than it says.
            tails = list(accumulate(steps, lambda last, step: last + step + 1, initial=tail))
            self._tick, self._tail = tick, tails[-1]
        prefix = _prefix(tick)
        return [
            f"{prefix}{0x8000 | value >> 48:04x}-{value & 0xFFFFFFFFFFFF:012x}"
            for value in tails[1:]
        ]


_process = Uuid7()


def uuid7_batch(count: int, now_us: int, random: RandomBytes = os.urandom) -> list[str]:
    """Return `count` ids of the moment `now_us`, greater than all earlier ones of the process."""
    return _process.batch(count, now_us, random)


def uuid7_bounds(start_us: int) -> str:
    """Return the lowest id of a moment: the inclusive lower bound of a partition."""
    return f"{_prefix(_tick(start_us))}8000-000000000000"


def _tick(now_us: int) -> int:
    milliseconds, microseconds = divmod(now_us, 1000)
    return milliseconds * _TICKS + microseconds * _TICKS // 1000


def _prefix(tick: int) -> str:
    milliseconds, fraction = divmod(tick, _TICKS)
    return f"{milliseconds >> 16:08x}-{milliseconds & 0xFFFF:04x}-7{fraction:03x}-"
