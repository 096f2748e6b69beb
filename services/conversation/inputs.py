"""What callers give: names and texts, checked."""

import re

from interchange.conversation.v1.conversation_pb2 import Needs

from services.common.errors import InvalidArgument, PermissionDenied
from services.common.texts import text_violation

CUSTOMER_ID = re.compile(r"[!-~]{1,64}")
AGENT_ID = CUSTOMER_ID

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def customer_id(given: str) -> str:
    """Return the id of a customer; raises InvalidArgument when it is none."""
    if CUSTOMER_ID.fullmatch(given) is None:
        text = "expected 1 to 64 printable ASCII characters without spaces"
        raise InvalidArgument.of("customer_id", "INVALID_CUSTOMER_ID", text)
    return given


def customer_name(given: str) -> str:
    """Return the name of a customer; raises InvalidArgument for control characters."""
    if _CONTROL.search(given):
        text = "expected no control characters"
        raise InvalidArgument.of("customer_name", "INVALID_CUSTOMER_NAME", text)
    return given


def modest(needs: Needs) -> None:
    """Raise PermissionDenied when a customer asks for what only the house may give."""
    for field in ("priority", "preferred_only"):
        if getattr(needs, field):
            raise PermissionDenied(
                "NEEDS_RESERVED",
                f"needs.{field}: a customer does not set it",
                metadata={"field": field},
            )


def first_text(given: str) -> str:
    """Return the first message, empty when there is none; raises InvalidArgument."""
    violation = text_violation(given) if given else None
    if violation is not None:
        raise InvalidArgument.of(violation.field, violation.reason, violation.description)
    return given
