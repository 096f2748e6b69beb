"""events archive, events verify."""

import asyncio
import re
from pathlib import Path
from typing import Annotated

import asyncpg
import typer
from rich.console import Console
from rich.markup import escape

from services.common.archive import ArchiveError, Manifest, verify
from services.stack.errors import StackError
from services.stack.stack import Stack

MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])")

app = typer.Typer(help="The event store and its archive.", no_args_is_help=True)


@app.callback()
def events() -> None:
    """Archive the event store, and check the archive."""


@app.command()
def archive(
    before: Annotated[str, typer.Option(help="Only months before this one, YYYY-MM.")] = "",
    service: Annotated[
        list[str] | None, typer.Option(help="Only of this service; may be given several times.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the partitions in place.")] = False,
) -> None:
    """Write closed months to Parquet, compare, then drop them. Again is harmless."""
    if before and MONTH.fullmatch(before) is None:
        raise StackError(f"--before was {before!r}, expected a month such as 2026-10")
    stack = Stack()
    admin_url = stack.database_url()
    if not admin_url:
        raise StackError(
            "no INTERCHANGE_DATABASE_ADMIN_URL", "Only the owner of a partition may drop it."
        )
    work = _archive(admin_url, stack.settings.archive_dir, service or [], before, keep)
    try:
        asyncio.run(work)
    except (ArchiveError, asyncpg.PostgresError, OSError) as error:
        raise StackError(
            f"archive: {error}", "What is not archived is still in Postgres; run it again."
        ) from error


@app.command("verify")
def verify_archive() -> None:
    """Hash the archive again; exit 1 at the first file that is not what was written."""
    folder = Stack().settings.archive_dir
    console = Console(highlight=False)
    files = count = 0
    try:
        for manifest in verify(folder):
            files += 1
            count += manifest.summary.events
            console.print(f"{manifest.service} {_described(manifest)}", soft_wrap=True)
    except ArchiveError as error:
        console.print(f"[red]wrong:[/] {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(1) from None
    console.print(f"{files} files with {count:,} events are as they were written")


def add_to(parent: typer.Typer) -> None:
    """Add the commands."""
    parent.add_typer(app, name="events")


async def _archive(
    admin_url: str, folder: Path, services: list[str], before: str, keep: bool
) -> None:
    # Imported here: Arrow is large, and no other command needs it.
    from services.common import archiver

    console = Console(highlight=False)
    connection = await asyncpg.connect(admin_url)
    try:
        none = True
        async for outcome in archiver.archive(
            connection, folder, services, before or archiver.ANY_MONTH, keep=keep
        ):
            none = False
            name = f"{outcome.partition.service} {outcome.partition.month}"
            if outcome.manifest is None:
                console.print(f"{name} stays: {outcome.refused}", soft_wrap=True)
            else:
                end = "dropped" if outcome.dropped else "kept"
                described = _described(outcome.manifest)
                console.print(f"{name} {end}: {described}", soft_wrap=True)
        if none:
            console.print("no closed month is left to archive")
    finally:
        await connection.close()


def _described(manifest: Manifest) -> str:
    size = manifest.path.stat().st_size / 2**20
    return f"{manifest.path.name}, {manifest.summary.events:,} events, {size:.1f} MiB"
