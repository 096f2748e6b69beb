"""Deadlines: how long the call being served may still take."""

import time
from contextvars import ContextVar

MARGIN_S = 0.05
"""Left of a deadline for what follows a wait: the read itself and its answer."""

_expiry: ContextVar[float | None] = ContextVar("deadline", default=None)


def enter(seconds: float | None) -> None:
    """Give the call being served `seconds` from now; None lifts the limit."""
    _expiry.set(None if seconds is None else time.monotonic() + seconds)


def remaining() -> float | None:
    """Return the seconds left, never negative; None where no deadline is set.

    Background tasks and streams without a deadline of the caller have none.
    """
    expiry = _expiry.get()
    return None if expiry is None else max(0.0, expiry - time.monotonic())


def patience(default_s: float) -> float:
    """Return how long a read may wait and still answer; `default_s` without a deadline."""
    left = remaining()
    return default_s if left is None else max(0.0, left - MARGIN_S)
