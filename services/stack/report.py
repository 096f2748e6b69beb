"""How a run looks: progress bars while it goes, tables at its end."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from services.stack.checks import Check

MARKS = {True: "[green]✓[/]", False: "[red]✗[/]"}


class _Rate(ProgressColumn):
    """Rows a second, over the whole task."""

    def render(self, task: Task) -> Text:
        elapsed = task.finished_time or task.elapsed or 0.0
        return Text(f"{task.completed / elapsed:,.0f}/s" if elapsed else "")


class _Rejected(ProgressColumn):
    """Rows that were refused."""

    def render(self, task: Task) -> Text:
        count = task.fields.get("rejected", 0)
        return Text(f"{count:,} rejected" if count else "", style="yellow")


class Bars:
    """Progress bars of the stages of a run. Use as a context manager."""

    def __init__(self, console: Console) -> None:
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            _Rate(),
            _Rejected(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            refresh_per_second=5,
        )

    def stage(self, name: str, total: int) -> "Stage":
        """Add a bar."""
        return Stage(self.progress, self.progress.add_task(name, total=total, rejected=0))


class Stage:
    """One bar."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def advance(self) -> None:
        """Move on by one."""
        self._progress.update(self._task, advance=1)

    def end(self) -> None:
        """Tell that there will be no more than there were."""
        self._progress.update(self._task, total=self._progress.tasks[self._task].completed)

    def reach(self, done: int, rejected: int = 0) -> None:
        """Tell how many are done, and how many of them were refused."""
        self._progress.update(self._task, completed=done, rejected=rejected)


def counts_table(title: str, rows: Iterable[tuple[str, str]]) -> Table:
    """Return names and figures."""
    table = _table(title)
    table.show_header = False
    table.add_column("")
    table.add_column("", justify="right")
    for row in rows:
        table.add_row(*row)
    return table


def grid(
    title: str, headings: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1
) -> Table:
    """Return a table of text; the columns after the first `left` are figures."""
    table = _table(title)
    for at, heading in enumerate(headings):
        table.add_column(heading, justify="left" if at < left else "right")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def checks_table(
    title: str, checks: Sequence[Check], headings: Sequence[str] = ("check", "recounted", "stored")
) -> Table:
    """Return the checks, both figures and a mark each."""
    table = _table(title)
    for at, heading in enumerate(headings):
        table.add_column(heading, justify="left" if at == 0 else "right")
    table.add_column("")
    for check in checks:
        figures = Text(check.recounted), Text(check.stored)
        table.add_row(Text(check.name), *figures, MARKS[check.passed])
        for difference in check.differences:
            table.add_row(Text(f"  {difference}", style="red"))
    return table


def _table(title: str) -> Table:
    # As wide as its title at least: Rich would wrap that instead.
    width = max((len(line) for line in title.splitlines()), default=0)
    return Table(
        title=title or None,
        title_justify="left",
        title_style="bold",
        min_width=width,
        box=None,
        pad_edge=False,
    )
