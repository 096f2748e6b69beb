"""position rebuild."""

import asyncio
from typing import Annotated

import typer
from pydantic import SecretStr
from rich.console import Console

from services.common.config import Settings
from services.position.comparison import Report
from services.position.rebuild import rebuild
from services.stack.stack import Stack

app = typer.Typer(help="Positions.", no_args_is_help=True)


@app.callback()
def position() -> None:
    """Positions."""


@app.command("rebuild")
def rebuild_positions(
    tenant: Annotated[str, typer.Option(help="Only this tenant.")] = "",
    apply: Annotated[
        bool, typer.Option("--apply", help="Replace what differs; consumers wait meanwhile.")
    ] = False,
) -> None:
    """Rebuild positions from the events and compare them byte for byte; exit 1 if they differ."""
    console = Console(highlight=False)
    done: dict[str, int] = {}

    def progress(stage: str, count: int) -> None:
        done[stage] = done.get(stage, 0) + count
        status.update(", ".join(f"{number:,} {name}" for name, number in done.items()))

    with console.status("reading events") as status:
        report = asyncio.run(rebuild(_settings(), tenant, apply=apply, progress=progress))
    _print(console, report)
    raise typer.Exit(0 if report.equal else 1)


def add_to(parent: typer.Typer) -> None:
    """Add the commands."""
    parent.add_typer(app, name="position")


def _settings() -> Settings:
    stack = Stack()
    return Settings(
        database_url=stack.database_url("position_pipeline"),
        database_password=SecretStr(stack.database_password()),
        archive_dir=stack.settings.archive_dir,
    )


def _print(console: Console, report: Report) -> None:
    rows = ", ".join(f"{count:,} {name}" for name, count in report.rows.items())
    console.print(f"{report.events:,} events, {report.accounts:,} accounts: {rows}")
    if report.unreadable:
        console.print(f"{report.unreadable:,} events that no position can take")
    for name, (kept, rebuilt) in report.digests.items():
        console.print(f"{name:<10} kept {kept[:16]}  rebuilt {rebuilt[:16]}")
    for difference in report.differences:
        console.print(difference, markup=False, style="red", soft_wrap=True)
    if report.equal:
        console.print("equal, byte for byte")
    else:
        console.print(f"{report.differing:,} differences; {report.replaced:,} accounts replaced")
