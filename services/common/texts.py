"""What may be said: the one rule for texts of messages, wherever they come in."""

import re

from services.common.errors import Violation

LENGTH_MAX = 8_000
# Line feed, tab and carriage return are text; the other control characters are not.
_BINARY = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def text_violation(text: str, field: str = "text") -> Violation | None:
    """Return what is wrong with a text: 1 to 8,000 characters, more than white space."""
    if len(text) > LENGTH_MAX:
        was = f"was {len(text)} characters, expected at most {LENGTH_MAX}"
        return Violation(field, was, "TEXT_TOO_LONG")
    if not text or text.isspace():
        return Violation(field, "expected more than white space", "TEXT_EMPTY")
    if _BINARY.search(text):
        expected = "expected no control characters but tab and ends of lines"
        return Violation(field, expected, "TEXT_BINARY")
    return None
