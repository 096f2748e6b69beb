"""Agents and questions that the tests of native.match share."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from native import match

INT32_MAX = 2**31 - 1


def i32(values: Iterable[int]) -> NDArray[np.int32]:
    """Return an int32 array that nobody may write to."""
    array = np.array(list(values), np.int32)
    array.setflags(write=False)
    return array


class Question(NamedTuple):
    """What `best` and `explain` are asked, as lists; the names are theirs."""

    levels: list[list[int]]
    online: list[int]
    load: list[int]
    limit: list[int]
    response_ms: list[int]
    idle_ms: list[int]
    preference: list[int]
    required: list[int]
    required_levels: list[int]
    wished: list[int]
    wished_levels: list[int]
    excluded: list[int]
    weights: list[int]

    def arrays(self) -> tuple[NDArray[Any], ...]:
        """Return the columns as the kernel takes them."""
        types = match_types()
        columns = [np.array(c, t) for c, t in zip(self, types, strict=True)]
        columns[0] = columns[0].reshape(len(self.levels), len(self.online))
        for column in columns:
            column.setflags(write=False)
        return tuple(columns)

    def best(self, count: int) -> tuple[list[int], list[int]]:
        """Ask the kernel."""
        columns, scores = match.best(*self.arrays(), count)
        return columns.tolist(), scores.tolist()

    def explain(self, agents: Iterable[int]) -> tuple[list[list[int]], list[int]]:
        """Ask the kernel."""
        values, reasons = match.explain(*self.arrays(), i32(agents))
        return values.tolist(), reasons.tolist()


def match_types() -> tuple[type, ...]:
    """Return the element types of a question's columns."""
    wide, narrow = np.int32, np.uint8
    pairs = (wide, narrow)
    return (narrow, narrow, *(wide,) * 4, narrow, *pairs, *pairs, wide, wide)


def question(agents: int = 1, **given: Any) -> Question:
    """Return a question about agents who are all the same, but for what is given."""
    plain: dict[str, Any] = {
        "levels": [[5] * agents],
        "online": [1] * agents,
        "load": [0] * agents,
        "limit": [4] * agents,
        "response_ms": [0] * agents,
        "idle_ms": [0] * agents,
        "preference": [0] * agents,
        "required": [],
        "required_levels": [],
        "wished": [],
        "wished_levels": [],
        "excluded": [],
        "weights": [100] * 5,
    }
    return Question(**plain | given)


# Some ties, some of everything, and the rim of the type.
numbers = st.one_of(
    st.integers(0, 3), st.integers(0, 900_000), st.integers(0, INT32_MAX), st.just(INT32_MAX)
)
# In and out of one block and one lane of the kernel, and much smaller.
sizes = st.one_of(st.integers(0, 8), st.sampled_from([31, 32, 33, 511, 512, 513, 1_030]))


@st.composite
def questions(draw: st.DrawFn) -> Question:
    """Draw agents, of whom many are alike, and a question about them."""
    n, rows = draw(sizes), draw(st.integers(0, 4))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def spread(strategy: st.SearchStrategy[int], size: int = n) -> list[int]:
        """Spread a few drawn values over all agents: drawing each one is slow."""
        some = draw(st.lists(strategy, min_size=1, max_size=8))
        return [some[at] for at in random.integers(0, len(some), size).tolist()]

    skill = st.tuples(st.integers(0, max(rows - 1, 0)), st.integers(1, 255))
    skills = st.lists(skill, max_size=4 if rows else 0)
    required, wished = draw(skills), draw(skills)
    return Question(
        levels=[spread(st.integers(0, 255)) for _ in range(rows)],
        online=spread(st.sampled_from([0, 1, 1, 255])),
        load=spread(numbers),
        limit=spread(numbers),
        response_ms=spread(numbers),
        idle_ms=spread(numbers),
        preference=spread(st.integers(0, 255)),
        required=[row for row, _ in required],
        required_levels=[min(level, 20) for _, level in required],
        wished=[row for row, _ in wished],
        wished_levels=[level for _, level in wished],
        excluded=draw(st.lists(st.integers(0, n - 1), max_size=5)) if n else [],
        weights=draw(st.lists(st.integers(0, match.WEIGHT_MAX), min_size=5, max_size=5)),
    )


counts = st.integers(1, match.COUNT_MAX)
