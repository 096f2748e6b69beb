"""migrate."""

import os

import typer

from services.common import migrate as common
from services.stack.stack import Stack


def migrate() -> None:
    """Apply the migrations: to INTERCHANGE_DATABASE_ADMIN_URL, else to the local Postgres."""
    if os.environ.get("INTERCHANGE_DATABASE_ADMIN_URL"):
        common.main([])
    else:
        typer.echo(Stack().migrate())


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(migrate)
