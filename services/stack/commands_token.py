"""token."""

from typing import Annotated

import typer

from services.stack.stack import Stack


def token(
    tenant: Annotated[str, typer.Option(help="Tenant of the caller.")],
    role: Annotated[list[str], typer.Option(help="Role; may be given several times.")],
    subject: Annotated[str, typer.Option(help="Name of the caller.")] = "demo",
    ttl_minutes: Annotated[int, typer.Option(help="How long it is valid.")] = 60,
) -> None:
    """Print a token for the edge, and nothing else: $(interchange token …) works."""
    typer.echo(Stack().token(tenant, role, subject, ttl_minutes))


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(token)
