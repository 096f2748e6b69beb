"""Arrays and strategies that the kernels' tests share."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from numpy.typing import NDArray

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1

quick = settings(max_examples=120, deadline=None)
few = settings(max_examples=4, deadline=None)

small = st.integers(-20, 20)
edges = st.sampled_from(
    [INT64_MIN, INT64_MIN + 1, INT64_MIN // 2, -1, 0, 1, INT64_MAX // 2, INT64_MAX]
)
# One of each: plain cases, the rim of the type, and everything between.
int64s = st.one_of(small, edges, st.integers(INT64_MIN, INT64_MAX))
seeds = st.integers(0, 2**32 - 1)
flags = st.integers(0, 1)


def i64(values: Iterable[int]) -> NDArray[np.int64]:
    """Return an int64 array that nobody may write to."""
    array = np.array(list(values), np.int64)
    array.setflags(write=False)
    return array


def u8(values: Iterable[int]) -> NDArray[np.uint8]:
    """Return a uint8 array that nobody may write to."""
    array = np.array(list(values), np.uint8)
    array.setflags(write=False)
    return array


def lists(columns: Iterable[NDArray[Any]]) -> tuple[list[Any], ...]:
    """Turn a kernel's columns into what its twin returns."""
    return tuple(column.tolist() for column in columns)


class Fills(NamedTuple):
    """Columns of fills, as lists."""

    position: list[int]
    quantity: list[int]
    amount: list[int]
    transfer: list[int]

    def arrays(self) -> tuple[NDArray[Any], ...]:
        """Return the columns as the kernels take them."""
        return i64(self.position), i64(self.quantity), i64(self.amount), u8(self.transfer)


def fills(
    positions: int,
    numbers: st.SearchStrategy[int] = int64s,
    transfers: st.SearchStrategy[int] = flags,
) -> st.SearchStrategy[Fills]:
    """Draw up to 30 fills over so many positions."""
    row = st.tuples(st.integers(0, positions - 1), numbers, numbers, transfers)
    return st.lists(row, max_size=30).map(
        lambda rows: Fills(*([row[i] for row in rows] for i in range(4)))
    )


class Lots(NamedTuple):
    """Open lots in CSR form and realized amounts, as lists."""

    offsets: list[int]
    quantity: list[int]
    cost: list[int]
    opened: list[int]
    realized: list[int]


@st.composite
def lots(draw: st.DrawFn, positions: int) -> Lots:
    """Draw up to 4 lots of one sign for each position."""
    book = Lots([0], [], [], [], [])
    unit = st.one_of(st.integers(1, 20), st.integers(1, 2**60))
    for _ in range(positions):
        sign = draw(st.sampled_from([-1, 1]))
        for quantity, cost in draw(st.lists(st.tuples(unit, unit), max_size=4)):
            book.quantity.append(sign * quantity)
            book.cost.append(sign * cost)
            book.opened.append(-len(book.opened))
        book.offsets.append(len(book.quantity))
        book.realized.append(draw(int64s))
    return book
