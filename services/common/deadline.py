"""Deadlines: how long the call being served may still take."""

import time
from contextvars import ContextVar

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
