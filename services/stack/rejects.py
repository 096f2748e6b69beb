"""The file of what was not booked, and why."""

import csv
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from services.stack.blotter import Reject
from services.stack.errors import StackError


class Rejects:
    """Writes one line for each fault of each refused row. Use as a context manager.

    There is no file when nothing was refused: one of an earlier run is removed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0
        """Rows that were refused."""
        self.reasons: Counter[str] = Counter()
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        """Remove what an earlier run left."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise StackError(f"{self.path}: {error.strerror or error}") from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def add(self, faults: Iterable[Reject]) -> None:
        """Take all the faults of one row."""
        try:
            if self._file is None:
                self._file = self.path.open("w", encoding="utf-8", newline="", buffering=1)
                csv.writer(self._file).writerow(Reject._fields)
            writer = csv.writer(self._file)
            for fault in faults:
                writer.writerow(fault)
                self.reasons[fault.reason] += 1
        except OSError as error:
            raise StackError(f"{self.path}: {error.strerror or error}") from error
        self.rows += 1
