"""What callers give: names and texts, checked."""

import re

from services.common.errors import InvalidArgument

TEXT_LENGTH_MAX = 8_000
CUSTOMER_ID = re.compile(r"[!-~]{1,64}")
AGENT_ID = CUSTOMER_ID

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_CONTROL_IN_TEXT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


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


def first_text(given: str) -> str:
    """Return the first message, empty when there is none; raises InvalidArgument."""
    if len(given) > TEXT_LENGTH_MAX:
        text = f"was {len(given)} characters, expected at most {TEXT_LENGTH_MAX}"
        raise InvalidArgument.of("text", "TEXT_TOO_LONG", text)
    if _CONTROL_IN_TEXT.search(given):
        text = "expected no control characters but newline and tab"
        raise InvalidArgument.of("text", "TEXT_BINARY", text)
    if given and not given.strip():
        raise InvalidArgument.of("text", "TEXT_EMPTY", "expected more than white space")
    return given
