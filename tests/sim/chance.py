"""Chance from a seed: whatever a run decides is drawn here, and noted."""

from collections.abc import Sequence
from hashlib import blake2b
from random import Random
from typing import TypeVar

T = TypeVar("T")

SHOWN = 40
"""Decisions that a failure shows: the last ones."""


class Chance:
    """The decisions of one run. The same seed makes the same decisions."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.trace: list[str] = []
        self._random = Random(seed)

    def happens(self, probability: float) -> bool:
        """Tell whether something of this probability happens."""
        return self._random.random() < probability

    def pick(self, options: Sequence[T]) -> T:
        """Return one of the options."""
        return options[self._random.randrange(len(options))]

    def weighted(self, options: dict[T, float]) -> T:
        """Return one of the options, each as likely as its weight."""
        return self._random.choices(list(options), list(options.values()))[0]

    def between(self, least: int, most: int) -> int:
        """Return a number, both ends included."""
        return self._random.randint(least, most)

    def share(self, most: float) -> float:
        """Return a probability up to `most`, often none at all."""
        return self._random.choice((0.0, most / 4, most))

    def note(self, *words: object) -> None:
        """Add what was decided, or what came of it, to the trace."""
        self.trace.append(" ".join(map(str, words)))

    def digest(self) -> str:
        """Return a hash of the trace and of every draw so far."""
        text = "\n".join([*self.trace, str(self._random.getstate())])
        return blake2b(text.encode(), digest_size=16).hexdigest()

    def last_words(self) -> str:
        """Return the end of the trace."""
        return "\n".join(self.trace[-SHOWN:])
