"""One line a server while a stack starts or stops."""

import threading
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

SYMBOLS = {"ready": "[green]✓[/]", "stopped": "[green]✓[/]", "failed": "[red]✗[/]"}


class Progress:
    """Shows steps as they go: live on a terminal, a line per finished step elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began: dict[str, float] = {}
        self._rows: dict[str, tuple[str, float, str]] = {}
        self._spinner = Spinner("dots")
        self._lock = threading.Lock()
        self._live = Live(
            get_renderable=self._table, console=console, refresh_per_second=8, transient=False
        )

    def __enter__(self) -> Self:
        """Begin to show."""
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the last state on the screen."""
        if self._console.is_terminal:
            self._live.stop()

    def report(self, name: str, state: str, seconds: float, note: str) -> None:
        """Take news of a step; steps report from threads."""
        with self._lock:
            self._began.setdefault(name, time.monotonic())
            self._rows[name] = (state, seconds, note)
            if not self._console.is_terminal and state in SYMBOLS:
                self._console.print(f"{name:<20} {state:<8} {seconds:5.1f} s  {note}", markup=False)

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        with self._lock:
            rows = list(self._rows.items())
        for name, (state, seconds, note) in rows:
            done = state in SYMBOLS
            took = seconds if done else time.monotonic() - self._began[name]
            symbol = Text.from_markup(SYMBOLS[state]) if done else self._spinner
            first = note.splitlines()[0] if note else ""
            table.add_row(symbol, name, f"{took:5.1f} s", Text(first if done else state))
        return table
