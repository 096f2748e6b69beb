"""When to come back."""

import random
from dataclasses import dataclass, field


@dataclass(slots=True)
class Backoff:
    """Pauses that double up to a limit, each a random part of it, so that crowds spread.

    "Full jitter" of https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """

    first_s: float = 0.25
    most_s: float = 15.0
    attempts: int = field(default=0, init=False)

    def pause(self) -> float:
        """Return how long to wait before the next attempt."""
        limit = min(self.most_s, self.first_s * 2.0 ** min(self.attempts, 20))
        self.attempts += 1
        return random.uniform(limit / 10, limit)

    def reset(self) -> None:
        """Begin anew after a success."""
        self.attempts = 0
