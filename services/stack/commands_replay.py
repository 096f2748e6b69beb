"""replay."""

import asyncio
import socket
from pathlib import Path
from typing import Annotated

import grpc
import typer
from rich.console import Console

from services.stack.blotter import Blotter
from services.stack.booking import describe
from services.stack.edge import Edge
from services.stack.errors import StackError
from services.stack.rejects import Rejects
from services.stack.replay import Replay, Summary
from services.stack.report import Bars, checks_table, counts_table
from services.stack.stack import Stack

REJECTED = 1
FAILED = 2
INTERRUPTED = 130
SOURCE = "blotter"
REASONS_MAX = 10


def replay(
    file: Annotated[Path, typer.Argument(help="A CSV file of trades, .csv or .csv.gz.")],
    tenant: Annotated[str, typer.Option(help="Tenant whose trades they are.")] = "demo",
    source: Annotated[
        str,
        typer.Option(help="System that the external ids belong to: a trade is booked once in it."),
    ] = SOURCE,
    rejects: Annotated[
        Path | None,
        typer.Option(help="Where refused lines go; <name>.rejects.csv here when not given."),
    ] = None,
    create: Annotated[
        bool,
        typer.Option(
            "--create-accounts/--no-create-accounts",
            help="Create accounts that the file names and the tenant lacks, "
            "and instruments where they are among twenty built-in equities.",
        ),
    ] = True,
    verify: Annotated[
        bool, typer.Option(help="Recount positions and cash afterwards, and compare.")
    ] = True,
    patience: Annotated[
        float, typer.Option(min=1, help="Seconds without any answer before it gives up.")
    ] = 120.0,
) -> None:
    """Book a blotter through Envoy, once, however often it is started.

    Columns: external_id, trade_time (UTC), account, symbol, venue, side (BUY or
    SELL), quantity, price, currency, and perhaps fees. Exit code 0 when every
    row is booked, 1 when some were refused, 2 on failure.
    """
    console = Console(highlight=False)
    path = rejects or Path(_stem(file) + ".rejects.csv")
    try:
        if not 1 <= len(source) <= 32 or not (source.isascii() and source.isprintable()):
            raise StackError("--source must be 1 to 32 printable ASCII characters")
        if path.exists() and path.samefile(file):
            raise StackError(f"{path} is the blotter itself: the rejects need another file")
        stack = Stack()
        check_edge(stack)
        edge = Edge(stack, tenant, "replay", patience)
        with Rejects(path) as refused:
            summary = asyncio.run(
                _run(edge, Blotter(file), source, refused, console, create, verify)
            )
    except (StackError, OSError, grpc.aio.AioRpcError) as error:
        failed(error)
        raise typer.Exit(FAILED) from None
    except KeyboardInterrupt:
        console.print("interrupted; start it again: what is booked stays booked once")
        raise typer.Exit(INTERRUPTED) from None
    _show(console, summary, refused)
    if not summary.passed:
        raise typer.Exit(FAILED)
    if summary.rejected:
        raise typer.Exit(REJECTED)


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(replay)


def check_edge(stack: Stack) -> None:
    """Raise `StackError` when nobody listens at the edge."""
    try:
        socket.create_connection(("127.0.0.1", stack.settings.edge_port), timeout=3).close()
    except OSError as error:
        text = f"nothing answers at {stack.edge_url}: {error.strerror or error}"
        raise StackError(text, "Run `interchange up`.") from error


def failed(error: StackError | OSError | grpc.aio.AioRpcError) -> None:
    """Say what happened and what to do next, on standard error."""
    console = Console(stderr=True, highlight=False)
    message = error.message if isinstance(error, StackError) else str(error)
    if isinstance(error, grpc.aio.AioRpcError):
        message = f"a call was refused: {describe(error)}"
    console.print("[red]error:[/] ", end="")
    console.print(message, markup=False, soft_wrap=True)
    if isinstance(error, StackError) and error.hint:
        console.print(error.hint, markup=False, soft_wrap=True)


async def _run(
    edge: Edge,
    blotter: Blotter,
    source: str,
    rejects: Rejects,
    console: Console,
    create: bool,
    verify: bool,
) -> Summary:
    bars = Bars(console)
    async with edge:
        with bars.progress:
            run = Replay(edge, blotter, source, rejects, bars)
            return await run.run(create=create, verify=verify)


def _show(console: Console, summary: Summary, rejects: Rejects) -> None:
    rows = [
        ("rows", f"{summary.rows:,}"),
        ("booked", f"{summary.booked:,}"),
        ("already booked", f"{summary.repeated:,}"),
        ("rejected", f"{summary.rejected:,}"),
        ("accounts", f"{summary.accounts:,}, {summary.created:,} of them created"),
        ("booking", _rate(summary.rows, summary.booking_s)),
        ("until position and ledger held it", _rate(summary.rows, summary.posting_s)),
    ]
    if summary.instruments:
        rows.insert(5, ("instruments created", ", ".join(summary.instruments)))
    if summary.reconnects:
        rows.insert(2, ("booked, confirmed after a break", f"{summary.confirmed:,}"))
        rows.append(("connections that broke", str(summary.reconnects)))
    console.print(counts_table("", rows))
    if summary.checks:
        console.print(checks_table("\nRecounted from the file, and over REST", summary.checks))
    if summary.trial:
        console.print(checks_table("\nTrial balance", summary.trial, ("asset", "debit", "credit")))
    if summary.rejected:
        reasons = rejects.reasons.most_common(REASONS_MAX)
        console.print(counts_table("\nRejected", [(name, f"{n:,}") for name, n in reasons]))
        console.print(f"each with line, field and reason in {rejects.path}", soft_wrap=True)


def _rate(rows: int, seconds: float) -> str:
    return f"{seconds:.1f} s, {rows / seconds:,.0f} rows/s" if seconds else "0 s"


def _stem(file: Path) -> str:
    return file.name.removesuffix(".gz").removesuffix(".csv") or "blotter"
