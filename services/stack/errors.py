"""What goes wrong while a stack is started or stopped.

StackError
├── PortTaken       another process listens where a server has to
└── StartFailed     a server died or was not ready in time
"""


class StackError(Exception):
    """A failure that the user can act on: what happened, and what to do next."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class PortTaken(StackError):
    """A port is in use by a process that is not part of this stack."""


class StartFailed(StackError):
    """A server ended or was not ready in time; `log_tail` holds its last lines."""

    def __init__(self, message: str, hint: str = "", log_tail: str = "") -> None:
        super().__init__(message, hint)
        self.log_tail = log_tail
