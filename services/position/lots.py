"""Open lots: what accounts hold that close first in, first out."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Int64s: TypeAlias = NDArray[np.int64]
UInt8s: TypeAlias = NDArray[np.uint8]
Flags: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Lots:
    """Open lots of m positions, oldest first: position p owns offsets[p] to offsets[p + 1]."""

    offsets: Int64s
    quantity: Int64s
    cost: Int64s
    opened: Int64s
    """Number of the change that opened the lot."""

    @classmethod
    def none(cls, positions: int) -> "Lots":
        """Return no lots at all."""
        empty = np.empty(0, np.int64)
        return cls(np.zeros(positions + 1, np.int64), empty, empty, empty)

    @property
    def owner(self) -> Int64s:
        """Index of the position of each lot."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def difference(self, before: "Lots", sequence: Int64s) -> tuple[Int64s, Int64s]:
        """Return (indexes of lots of `before` that are gone, of own lots to be written).

        `sequence` is the number of the account's last change before, for each
        position: older lots are what is left of `before`, a part of its end,
        since lots are used from the front.
        """
        owner, owner_before = self.owner, before.owner
        old = self.opened <= sequence[owner]
        left = np.bincount(owner[old], minlength=len(sequence))
        place = np.arange(len(owner_before)) - before.offsets[owner_before]
        stays = place >= (np.diff(before.offsets) - left)[owner_before]
        written = ~old
        written[old] = (self.quantity[old] != before.quantity[stays]) | (
            self.cost[old] != before.cost[stays]
        )
        return np.flatnonzero(~stays), np.flatnonzero(written)
