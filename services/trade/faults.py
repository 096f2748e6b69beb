"""What is wrong with which command of a batch."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from native import money
from services.common.errors import InterchangeError, InvalidArgument, Violation

Bools: TypeAlias = NDArray[np.bool_]

DECIMAL_REASONS: Mapping[int, tuple[str, str]] = {
    money.NOT_A_NUMBER: ("NOT_A_NUMBER", "is not a decimal number"),
    money.TOO_MANY_DECIMALS: ("TOO_MANY_DECIMALS", "has more decimals than are kept"),
    money.OUT_OF_RANGE: ("OUT_OF_RANGE", "is out of range"),
}
"""Reason and description of each status of the kernel that parses numbers."""


class Faults:
    """What is wrong with which command of a batch."""

    def __init__(self, count: int) -> None:
        self._found: dict[int, list[tuple[type[InterchangeError], Violation]]] = {}
        self.bad: Bools = np.zeros(count, np.bool_)

    def add(
        self,
        rows: Bools | Sequence[int],
        field: str,
        reason: str,
        description: str,
        kind: type[InterchangeError] = InvalidArgument,
    ) -> None:
        """Note a fault for the rows of a mask or a list of row numbers."""
        if isinstance(rows, np.ndarray):
            rows = np.flatnonzero(rows).tolist()
        for row in rows:
            found = self._found.setdefault(row, [])
            # One fault a field: the first check that fails says it best.
            if all(violation.field != field for _, violation in found):
                found.append((kind, Violation(field, description, reason)))
            self.bad[row] = True

    def errors(self) -> dict[int, InterchangeError]:
        """Return the error of each bad command, naming all its wrong fields."""
        errors = {}
        for row, found in self._found.items():
            kinds = {kind for kind, _ in found}
            kind = InvalidArgument if InvalidArgument in kinds else found[0][0]
            violations = [violation for _, violation in found]
            first = next(violation for its, violation in found if its is kind)
            message = "; ".join(f"{v.field}: {v.description}" for v in violations)
            errors[row] = kind(first.reason, message, violations=violations)
        return errors
