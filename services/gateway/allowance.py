"""How many frames a socket may bring: so many a second in the long run, more for a moment."""


class Allowance:
    """A bucket that fills steadily; a frame takes one out. Time comes in as an argument."""

    __slots__ = ("_full_at", "_period", "_tolerance")

    def __init__(self, per_second: float, burst: int) -> None:
        self._period = 1 / per_second
        # A little more, for sums of fractions are not exact.
        self._tolerance = burst / per_second + 1e-9 * burst
        self._full_at = 0.0
        """When the bucket will be full again (GCRA's theoretical arrival time)."""

    def take(self, now: float) -> bool:
        """Take one; False when there is none."""
        full_at = max(self._full_at, now) + self._period
        if full_at - now > self._tolerance:
            return False
        self._full_at = full_at
        return True

    def full(self, now: float) -> bool:
        """Tell whether the bucket was full before the last one was taken."""
        return self._full_at <= now + self._period
