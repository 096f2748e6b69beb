"""How fast one sender may send."""

from services.common.errors import ResourceExhausted
from services.common.rates import Rates
from services.message.domain import Sender


class SenderRates:
    """The paces of all senders of this process."""

    def __init__(self, rate_per_s: float, burst: int) -> None:
        self._rates: Rates[tuple[str, Sender]] = Rates(rate_per_s, burst)

    def take(self, tenant_id: str, sender: Sender, now_s: float) -> ResourceExhausted | None:
        """Let a message pass; return the refusal when it comes too soon."""
        wait_s = self._rates.take((tenant_id, sender), now_s)
        return _refusal(self._rates.rate_per_s, wait_s) if wait_s else None


def _refusal(rate: float, wait_s: float) -> ResourceExhausted:
    wait_ms = int(wait_s * 1000) + 1
    return ResourceExhausted(
        "MESSAGE_RATE",
        f"at most {rate:g} messages a second; send it again in {wait_ms} ms, with the same id",
        metadata={"retry_after_ms": str(wait_ms)},
    )
