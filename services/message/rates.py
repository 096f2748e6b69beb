"""How fast one sender may send: a token bucket each, in memory.

Kept as the moment at which the bucket will be full again (GCRA), one number a
sender. A full bucket says nothing, so senders that were silent for as long as a
bucket takes to fill are forgotten: two generations of them are kept, and the older
one is dropped.
"""

from services.common.errors import ResourceExhausted
from services.message.domain import Sender


class SenderRates:
    """The buckets of all senders of this process."""

    def __init__(self, rate_per_s: float, burst: int) -> None:
        self._rate = rate_per_s
        self._interval_s = 1 / rate_per_s
        self._fill_s = burst / rate_per_s
        self._young: dict[tuple[str, Sender], float] = {}
        self._old: dict[tuple[str, Sender], float] = {}
        self._turn_at = 0.0

    def take(self, tenant_id: str, sender: Sender, now_s: float) -> ResourceExhausted | None:
        """Take a token; return the refusal when the bucket is empty."""
        if now_s >= self._turn_at:
            self._turn(now_s)
        key = tenant_id, sender
        full_at = self._young.get(key)
        if full_at is None:
            full_at = self._old.get(key, now_s)
        full_at = max(full_at, now_s) + self._interval_s
        wait_s = full_at - now_s - self._fill_s
        if wait_s > 1e-9:
            return _refusal(self._rate, wait_s)
        self._young[key] = full_at
        return None

    def _turn(self, now_s: float) -> None:
        # Nobody's bucket takes longer to fill than one turn.
        silent = now_s >= self._turn_at + self._fill_s
        self._old = {} if silent else self._young
        self._young = {}
        self._turn_at = now_s + self._fill_s


def _refusal(rate: float, wait_s: float) -> ResourceExhausted:
    wait_ms = int(wait_s * 1000) + 1
    return ResourceExhausted(
        "MESSAGE_RATE",
        f"at most {rate:g} messages a second; send it again in {wait_ms} ms, with the same id",
        metadata={"retry_after_ms": str(wait_ms)},
    )
