"""Business time: trading days, cut-offs, ageing.

A simulation moves it. Wall time (tokens, leases, time-outs) is `time` and the
event loop, and never comes from here.
"""

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class BusinessClock(Protocol):
    """Tells the business time."""

    def now(self) -> datetime:
        """Return the time, in UTC."""

    def now_us(self) -> int:
        """Return the time in microseconds since 1970-01-01 UTC."""


class SystemClock:
    """Business time that is the time."""

    def now(self) -> datetime:
        """Return the time, in UTC."""
        return datetime.now(UTC)

    def now_us(self) -> int:
        """Return the time in microseconds since 1970-01-01 UTC."""
        return time.time_ns() // 1000


class ManualClock:
    """Business time that stands still until it is moved; it never goes back."""

    def __init__(self, start: datetime) -> None:
        self._now_us = _to_us(start)

    def now(self) -> datetime:
        """Return the time, in UTC."""
        return _EPOCH + timedelta(microseconds=self._now_us)

    def now_us(self) -> int:
        """Return the time in microseconds since 1970-01-01 UTC."""
        return self._now_us

    def advance(self, by: timedelta) -> None:
        """Move the time on; raises ValueError for a negative step."""
        self.set(self.now() + by)

    def set(self, to: datetime) -> None:
        """Move the time on to `to`; raises ValueError when that is in the past."""
        moved = _to_us(to)
        if moved < self._now_us:
            raise ValueError(f"time was moved back, from {self.now()} to {to}")
        self._now_us = moved


def _to_us(moment: datetime) -> int:
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone")
    return (moment - _EPOCH) // timedelta(microseconds=1)
