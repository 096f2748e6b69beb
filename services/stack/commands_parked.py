"""parked list, parked release."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import asyncpg
import typer
from rich.console import Console
from rich.table import Table

from services.common import parked
from services.common.migrate import known_services
from services.common.parked import NotParked, ParkedKey
from services.stack.errors import StackError
from services.stack.stack import Stack

app = typer.Typer(help="Keys whose events wait.", no_args_is_help=True)


@app.callback()
def parked_keys() -> None:
    """Show the keys whose events wait, and let them go on."""


@app.command("list")
def list_keys(
    service: Annotated[str, typer.Option(help="Only of this service.")] = "",
) -> None:
    """Show what waits, where and why."""
    stack = Stack()
    services = [_checked(service)] if service else sorted(stack.settings.services)
    keys = asyncio.run(_list(stack, services))
    console = Console(highlight=False)
    if not keys:
        console.print("nothing is parked")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("service", "tenant", "topic", "key", "state", "since", "waiting", "next"):
        right = heading in ("waiting", "next")
        table.add_column(heading, justify="right" if right else "left", no_wrap=True)
    table.add_column("reason", overflow="fold")
    for key in keys:
        since = f"{key.parked_at:%Y-%m-%d %H:%M:%S}"
        cells = (key.service, key.tenant_id, key.topic, key.key, key.state, since)
        table.add_row(*cells, str(key.waiting), str(key.next_sequence), key.reason)
    # A pipe has no width that the cells should be cut to.
    width = None if console.is_terminal else 400
    Console(highlight=False, markup=False, width=width).print(table)


@app.command()
def release(
    service: Annotated[str, typer.Argument(help="Where it waits.")],
    tenant: Annotated[str, typer.Argument()],
    topic: Annotated[str, typer.Argument(help="Such as trade-events.")],
    key: Annotated[str, typer.Argument(help="Account, instrument or conversation.")],
    skip: Annotated[
        bool, typer.Option("--skip", help="Leave out the event that can't be applied.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before a skip.")] = False,
) -> None:
    """Let a key go on; the running service takes it up within a second."""
    stack = Stack()
    _checked(service)
    found = asyncio.run(_find(stack, service, tenant, topic, key))
    if skip and not yes:
        typer.confirm(f"Drop {found.skipped} of {tenant} {topic} {key} for ever?", abort=True)
    asyncio.run(_release(stack, found, skip))
    done = f"{found.skipped} will be left out" if skip else "it will be tried again"
    typer.echo(f"{service} {tenant} {topic} {key}: {done}")


def add_to(parent: typer.Typer) -> None:
    """Add the commands."""
    parent.add_typer(app, name="parked")


def _checked(service: str) -> str:
    known = known_services()
    if service not in known:
        raise StackError(f"no such service: {service}; there are {', '.join(known)}")
    return service


@asynccontextmanager
async def _connected(
    stack: Stack, service: str
) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    try:
        connection = await asyncpg.connect(stack.database_url(f"{service}_pipeline"), timeout=10)
        try:
            yield connection
        finally:
            await connection.close()
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise StackError(
            f"the database of {service} did not answer: {error or type(error).__name__}",
            "Run `interchange status`, and `interchange up` when Postgres is down.",
        ) from error


async def _list(stack: Stack, services: list[str]) -> list[ParkedKey]:
    keys = []
    for service in services:
        async with _connected(stack, service) as connection:
            keys += await parked.listed(connection, service)
    return keys


async def _find(stack: Stack, service: str, tenant: str, topic: str, key: str) -> ParkedKey:
    async with _connected(stack, service) as connection:
        keys = await parked.listed(connection, service, (tenant, topic, key))
    if not keys:
        raise StackError(
            f"{service} has no parked key {key} of tenant {tenant} on {topic}",
            f"`interchange parked list --service {service}` shows what waits.",
        )
    return keys[0]


async def _release(stack: Stack, found: ParkedKey, skip: bool) -> None:
    async with _connected(stack, found.service) as connection:
        try:
            await parked.release(connection, found, skip=skip)
        except NotParked as error:
            raise StackError(str(error), "Look again with `interchange parked list`.") from error
