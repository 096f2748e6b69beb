"""trace."""

import time
from typing import Annotated

import typer
from rich.console import Console
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
        console.print(_tree(list(file.read()), trace_id), soft_wrap=True)
    else:
        console.print(_list(list(file.read()), limit), soft_wrap=True)


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(trace)


def _tree(spans: list[Span], trace_id: str) -> Text:
    rows = list(tree(spans, trace_id.lower()))
    if not rows:
        raise StackError(
            f"no trace {trace_id}",
            "Only a share of the traces is kept: see INTERCHANGE_TRACE_RATIO. Spans arrive a few "
            "seconds late. `interchange trace` lists what is there.",
        )
    origin_ns = min(int(span["start_ns"]) for _, span in rows)
    lines = [Text(f"{'at ms':>9} {'took ms':>9}  span", style="bold")]
    for depth, span in rows:
        at_ms = (span["start_ns"] - origin_ns) / 1e6
        took_ms = (span["end_ns"] - span["start_ns"]) / 1e6
        name = f"{'  ' * depth}{span['service']}: {span['name']}"
        style = "red" if span["error"] else ""
        lines.append(Text(f"{at_ms:9.2f} {took_ms:9.2f}  {name}", style=style))
    return Text("\n").join(lines)


def _list(spans: list[Span], limit: int) -> Text:
    lines = [Text(f"{'started':8} {'took ms':>9} {'spans':>5}  {'trace':32}  began with")]
    lines[0].stylize("bold")
    for item in summaries(spans)[:limit]:
        started = time.strftime("%H:%M:%S", time.localtime(item.start_ns / 1e9))
        line = f"{started} {item.duration_ms:9.2f} {item.spans:5}  {item.trace_id}  {item.name}"
        lines.append(Text(line, style="red" if item.error else ""))
    return Text("\n").join(lines)
