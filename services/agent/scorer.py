"""The kernel `match` over the arrays of a pool: who fits best, and why."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from native import match

Int32s: TypeAlias = NDArray[np.int32]
Int64s: TypeAlias = NDArray[np.int64]
UInt8s: TypeAlias = NDArray[np.uint8]

PARTS = ("wished_skills", "load", "response_time", "idle_time", "preference")
# Skills are a filter; then load, of which one of 50 slots outweighs any response time;
# then response time, and idle time among equals. A wish and a preference are given for
# one conversation, so they go before what holds for all.
WEIGHTS = np.array([1000, 500, 9, 1, 1000], np.int32)
PREFERRED = 255
LAST = 128
REASONS = {
    match.ELIGIBLE: "",
    match.OFFLINE: "OFFLINE",
    match.NO_CAPACITY: "NO_CAPACITY",
    match.MISSING_SKILL: "MISSING_SKILL",
    match.EXCLUDED: "EXCLUDED",
}

# Their arguments go as a tuple, which their types can't follow.
_best: Callable[..., tuple[Int32s, Int64s]] = match.best
_explain: Callable[..., tuple[Int64s, UInt8s]] = match.explain


@dataclass(frozen=True, slots=True)
class Explained:
    """How the agent of a column fits."""

    column: int
    values: list[int]
    """Of each part, before its weight."""
    score: int
    reason: str
    """Why he can't take it; empty when he can."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the agents of a pool: agents by column, skills by row."""

    levels: UInt8s
    """Level of each skill, [skills, agents]; the last row is the skill that nobody has."""
    online: UInt8s
    load: Int32s
    limit: Int32s
    response_ms: Int32s
    idle_ms: Int32s
    preference: UInt8s
    required: Mapping[int, int]
    """Levels by row."""
    wished: Mapping[int, int]
    excluded: Sequence[int]
    """Columns."""

    def _columns(self) -> tuple[Any, ...]:
        return (
            self.levels,
            self.online,
            self.load,
            self.limit,
            self.response_ms,
            self.idle_ms,
            self.preference,
            *_asked(self.required),
            *_asked(self.wished),
            np.array(self.excluded, np.int32),
            WEIGHTS,
        )

    def best(self, count: int) -> tuple[list[int], list[int]]:
        """Return the columns of the best eligible agents, best first, and their scores."""
        columns, scores = _best(*self._columns(), count)
        return columns.tolist(), scores.tolist()

    def explain(self, count: int) -> list[Explained]:
        """Return how agents fit, the best first, then those who can't take it."""
        everybody = np.arange(len(self.online), dtype=np.int32)
        values, reasons = _explain(*self._columns(), everybody)
        scores = values @ WEIGHTS.astype(np.int64)
        # The last key is the first: who can, then the score, then the lower column.
        order = np.lexsort((everybody, -scores, reasons != match.ELIGIBLE))[:count]
        return [
            Explained(
                column, values[column].tolist(), int(scores[column]), REASONS[int(reasons[column])]
            )
            for column in order.tolist()
        ]


def _asked(levels: Mapping[int, int]) -> tuple[Int32s, UInt8s]:
    return np.array(list(levels), np.int32), np.array(list(levels.values()), np.uint8)
