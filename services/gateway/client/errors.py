"""What can go wrong for a client.

ClientError
├── Refused      a frame, or the client itself, was refused: it has a reason
└── Closed       the client was closed while something was under way
"""


class ClientError(Exception):
    """Base of what a client raises."""


class Refused(ClientError):
    """The gateway, or a service behind it, refused something."""

    def __init__(self, code: str, reason: str, message: str = "", field: str = "") -> None:
        super().__init__(f"{reason}: {message}" if message else reason)
        self.code = code
        self.reason = reason
        self.message = message
        self.field = field

    @property
    def passing(self) -> bool:
        """True when the same may succeed later."""
        return self.code in PASSING


class Closed(ClientError):
    """The client was closed."""


PASSING = frozenset({"UNAVAILABLE", "ABORTED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"})
"""Codes of failures that pass."""
