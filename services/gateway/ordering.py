"""Puts what is pushed into order: each number once, none before the one below it.

Pushes may be lost, come twice or in another order. What is missing shows by the
numbers that came after it, or by a watermark; it is then fetched, and comes in here
like any push.
"""

from typing import Generic, TypeVar

T = TypeVar("T")

EARLY_MAX = 1_000
"""Items kept that came too early; more are fetched again."""


class Sequencer(Generic[T]):
    """One conversation's numbers as this instance knows them.

    Until it is anchored it knows no beginning, and keeps what comes.
    """

    __slots__ = ("_early", "highest", "last")

    def __init__(self) -> None:
        self.last: int | None = None
        """Everything up to here was given out; None until anchored."""
        self.highest = 0
        """Highest number ever heard of."""
        self._early: dict[int, T] = {}

    @property
    def behind(self) -> bool:
        """True when something is missing."""
        return self.last is not None and self.highest > self.last

    def anchor(self, last: int) -> list[tuple[int, T]]:
        """Begin after `last`; return what came early and follows it. Later calls do nothing."""
        if self.last is not None:
            self.heard_of(last)
            return []
        self.last = last
        for sequence in [each for each in self._early if each <= last]:
            del self._early[sequence]
        return self._following()

    def heard_of(self, sequence: int) -> None:
        """Take note that there is such a number."""
        self.highest = max(self.highest, sequence)

    def take(self, sequence: int, item: T) -> list[tuple[int, T]]:
        """Take an item; return what can be given out now, in order."""
        self.heard_of(sequence)
        if self.last is not None and sequence == self.last + 1:
            self.last = sequence
            return [(sequence, item), *self._following()]
        if (self.last is None or sequence > self.last) and len(self._early) < EARLY_MAX:
            self._early[sequence] = item
        return []

    def _following(self) -> list[tuple[int, T]]:
        assert self.last is not None
        found = []
        while (item := self._early.pop(self.last + 1, None)) is not None:
            self.last += 1
            found.append((self.last, item))
        return found
