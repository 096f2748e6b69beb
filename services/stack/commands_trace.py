"""trace."""

import time
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.stack.collector import Span, SpanFile
from services.stack.errors import StackError
from services.stack.settings import StackSettings
from services.stack.traces import summaries, tree


def trace(
    trace_id: Annotated[str, typer.Argument(help="Id of a trace; the latest when not given.")] = "",
    limit: Annotated[int, typer.Option(help="How many of the latest.", min=1)] = 20,
) -> None:
    """Print a trace as a tree with durations, or list the latest."""
    settings = StackSettings()
    file = SpanFile(settings.traces_path, settings.trace_file_bytes_max)
    console = Console(highlight=False)
    if trace_id:
        console.print(_tree(list(file.read()), trace_id))
    else:
        console.print(_list(list(file.read()), limit))


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(trace)


def _tree(spans: list[Span], trace_id: str) -> Table:
    rows = list(tree(spans, trace_id.lower()))
    if not rows:
        raise StackError(
            f"no trace {trace_id}",
            "Only a share of the traces is kept: see INTERCHANGE_TRACE_RATIO. Spans arrive a few "
            "seconds late. `interchange trace` lists what is there.",
        )
    origin_ns = min(int(span["start_ns"]) for _, span in rows)
    table = Table(box=None, pad_edge=False)
    for heading in ("at ms", "took ms"):
        table.add_column(heading, justify="right")
    table.add_column("span")
    for depth, span in rows:
        at_ms = (span["start_ns"] - origin_ns) / 1e6
        took_ms = (span["end_ns"] - span["start_ns"]) / 1e6
        name = f"{'  ' * depth}{span['service']}: {span['name']}"
        style = "red" if span["error"] else ""
        table.add_row(f"{at_ms:.2f}", f"{took_ms:.2f}", Text(name, style=style))
    return table


def _list(spans: list[Span], limit: int) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("started")
    table.add_column("took ms", justify="right")
    table.add_column("spans", justify="right")
    table.add_column("trace", no_wrap=True)
    table.add_column("began with")
    for item in summaries(spans)[:limit]:
        started = time.strftime("%H:%M:%S", time.localtime(item.start_ns / 1e9))
        name = Text(item.name, style="red" if item.error else "")
        table.add_row(started, f"{item.duration_ms:.2f}", str(item.spans), item.trace_id, name)
    return table
