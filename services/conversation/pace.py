"""How fast one customer may start conversations: each costs a bot, and perhaps a person."""

import time
from collections.abc import Sequence

from services.common.errors import InterchangeError, ResourceExhausted
from services.common.rates import Rates
from services.conversation.commands import Start


class Pace:
    """The paces of all customers of this process."""

    def __init__(self, rate_per_s: float, burst: int) -> None:
        self._rates: Rates[tuple[str, str]] = Rates(rate_per_s, burst)

    def admit(self, start: Start) -> Start | ResourceExhausted:
        """Return the command, or its refusal when it comes too soon."""
        wait_s = self._rates.take((start.caller.tenant_id, start.customer_id), time.monotonic())
        if not wait_s:
            return start
        wait_ms = int(wait_s * 1000) + 1
        return ResourceExhausted(
            "START_RATE",
            f"at most {self._rates.rate_per_s:g} conversations a second; try again in {wait_ms} ms",
            metadata={"retry_after_ms": str(wait_ms)},
        )

    def admit_all(
        self, checked: Sequence[Start | InterchangeError]
    ) -> list[Start | InterchangeError]:
        """Return each command, or why it is refused."""
        return [self.admit(one) if isinstance(one, Start) else one for one in checked]
