"""The `interchange` command: its commands come from the modules that hold them.

A module commands_<noun>.py holds its commands and an `add_to(app)`; a new one is
named here twice and nowhere else.
"""

import sys

import typer
from rich.console import Console
from rich.markup import escape

from services.stack import (
    commands_chat,
    commands_demo,
    commands_events,
    commands_migrate,
    commands_parked,
    commands_position,
    commands_replay,
    commands_stack,
    commands_token,
    commands_trace,
)
from services.stack.errors import StackError, StartFailed

app = typer.Typer(
    help="Interchange on one machine: real servers, all services, one command.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for module in (
    commands_stack,
    commands_token,
    commands_migrate,
    commands_trace,
    commands_events,
    commands_parked,
    commands_position,
    commands_demo,
    commands_chat,
    commands_replay,
):
    module.add_to(app)


def main() -> None:
    """Run the command; a failure says what happened and what to do next."""
    console = Console(stderr=True, highlight=False)
    try:
        app()
    except StackError as error:
        console.print("[red]error:[/]", escape(error.message), soft_wrap=True)
        if isinstance(error, StartFailed) and error.log_tail:
            console.print(error.log_tail, markup=False, style="dim", soft_wrap=True)
        if error.hint:
            console.print(error.hint, markup=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("interrupted; `interchange up` goes on where it stopped")
        sys.exit(130)


if __name__ == "__main__":
    main()
