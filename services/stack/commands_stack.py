"""up, down, status, logs."""

import time
from collections import deque
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from services.stack.errors import StackError
from services.stack.progress import Progress
from services.stack.stack import Stack, Status

FOLLOW_PAUSE_S = 0.2


def up(
    only: Annotated[
        str, typer.Option(help="Names of servers, with commas; all when not given.")
    ] = "",
) -> None:
    """Start what does not run, wait until all is ready. Twice is harmless."""
    stack = Stack()
    began = time.monotonic()
    console = Console(highlight=False)
    names = [name.strip() for name in only.split(",") if name.strip()]
    with Progress(console) as progress:
        stack.up(only=names or None, report=progress.report)
    took = time.monotonic() - began
    console.print(f"ready in {took:.1f} s" + ("" if names else f": {stack.edge_url}"))


def down(
    wipe: Annotated[bool, typer.Option(help="Delete all data, logs and secrets too.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before a wipe.")] = False,
) -> None:
    """Stop everything, services first, so that nothing in flight is lost."""
    stack = Stack()
    if wipe and not yes and stack.settings.data_dir.exists():
        typer.confirm(f"Delete all data in {stack.settings.data_dir}?", abort=True)
    with Progress(Console(highlight=False)) as progress:
        stack.down(wipe=wipe, report=progress.report)


def status() -> None:
    """Show every server; the exit code is 0 only if all are ready."""
    stack = Stack()
    if not stack.settings.data_dir.exists():
        raise StackError(f"no stack in {stack.settings.data_dir}", "Run `interchange up`.")
    table = Table(box=None, pad_edge=False)
    for heading in ("name", "pid", "ready", "port", "memory", "uptime"):
        right = heading in ("pid", "port", "memory", "uptime")
        table.add_column(heading, justify="right" if right else "left")
    rows = stack.status()
    for row in rows:
        table.add_row(*_cells(row))
    Console(highlight=False).print(table)
    if any(row.problem for row in rows):
        raise typer.Exit(1)


def logs(
    name: Annotated[str, typer.Argument(help="A server or service; all when not given.")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it grows.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=100_000)] = 40,
) -> None:
    """Print the last lines of a log, or of all."""
    stack = Stack()
    servers = [stack.server(name)] if name else stack.servers
    paths = [server.process.log_path for server in servers]
    positions: dict[Path, int] = {}
    for path in paths:
        if path.exists():
            with path.open(errors="replace") as file:
                _print(path, "".join(deque(file, maxlen=lines)), labelled=len(paths) > 1)
                positions[path] = file.tell()
    while follow:
        time.sleep(FOLLOW_PAUSE_S)
        for path in paths:
            positions[path] = _print_new(path, positions.get(path, 0), labelled=len(paths) > 1)


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (up, down, status, logs):
        app.command()(command)


def _cells(row: Status) -> tuple[str, ...]:
    if row.pid is None:
        return row.name, "", f"[red]{escape(row.problem)}[/]", str(row.port), "", ""
    ready = f"[red]{escape(row.problem)}[/]" if row.problem else "[green]yes[/]"
    minutes, seconds = divmod(int(max(0.0, time.time() - row.created)), 60)
    memory = f"{row.memory_bytes / 2**20:.0f} MiB"
    return row.name, str(row.pid), ready, str(row.port), memory, f"{minutes}m{seconds:02d}s"


def _print(path: Path, text: str, *, labelled: bool) -> None:
    label = f"{path.stem} | " if labelled else ""
    for line in text.splitlines():
        typer.echo(label + line)


def _print_new(path: Path, position: int, *, labelled: bool) -> int:
    if not path.exists():
        return 0
    if path.stat().st_size < position:
        position = 0  # rotated by a start
    with path.open(errors="replace") as file:
        file.seek(position)
        _print(path, file.read(), labelled=labelled)
        return file.tell()
