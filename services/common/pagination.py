"""Pages: opaque tokens over a keyset (AIP-158).

A token holds the sort key of the last row and a hash of the filters. It is not
signed: it only says where to go on, and what may be seen is decided by the
policies of the tables.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from uuid import UUID

from services.common.errors import InvalidArgument

Key = str | int

PAGE_SIZE_DEFAULT = 100
PAGE_SIZE_MAX = 1000
TOKEN_LENGTH_MAX = 512
"""The rule of every `page_token` in the protos."""
_REASON = "INVALID_PAGE_TOKEN"


def page_size(requested: int, default: int = PAGE_SIZE_DEFAULT, max: int = PAGE_SIZE_MAX) -> int:
    """Return the rows to fetch; zero is `default`, more than `max` is `max`."""
    if requested < 0:
        raise InvalidArgument.of("page_size", "INVALID_PAGE_SIZE", f"was {requested}, expected ≥ 0")
    return min(requested or default, max)


def page_token(last: Sequence[Key], filters: Mapping[str, object]) -> str:
    """Return the token of the page after the row whose sort key is `last`."""
    content = json.dumps([_hash(filters), *last], separators=(",", ":")).encode()
    token = base64.urlsafe_b64encode(content).rstrip(b"=").decode()
    assert len(token) <= TOKEN_LENGTH_MAX, f"a token of {len(token)} characters"
    return token


def keyset(token: str, filters: Mapping[str, object], *types: type[Key]) -> tuple[Key, ...] | None:
    """Return the sort key after which the page begins; None for the first page.

    `types` are those of the key's columns. Raises InvalidArgument for what is
    not a token, or is one of other filters.
    """
    if not token:
        return None
    hashed, *last = _decoded(token)
    if [type(value) for value in last] != list(types) or not all(map(_storable, last)):
        raise _refused("is not a page token")
    if hashed != _hash(filters):
        raise _refused("belongs to a list with other filters")
    return tuple(last)


def uuid(value: Key) -> str:
    """Return the id in a sort key; raises InvalidArgument for what is none."""
    try:
        return str(UUID(str(value)))
    except ValueError:
        raise _refused("is not a page token") from None


def _decoded(token: str) -> list[Key]:
    if len(token) > TOKEN_LENGTH_MAX:
        raise _refused(f"was {len(token)} characters, expected at most {TOKEN_LENGTH_MAX}")
    try:
        padded = token.encode("ascii") + b"=" * (-len(token) % 4)
        content = json.loads(base64.b64decode(padded, b"-_", validate=True))
    except (ValueError, RecursionError):
        raise _refused("is not a page token") from None
    if not isinstance(content, list) or not content:
        raise _refused("is not a page token")
    return content


def _storable(value: Key) -> bool:
    """Tell whether Postgres could hold the value: garbage must not reach a query."""
    if isinstance(value, int):
        return -(1 << 63) <= value < 1 << 63
    return "\x00" not in value and value.isprintable()


def _hash(filters: Mapping[str, object]) -> str:
    content = json.dumps(filters, default=str, sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()[:12]


def _refused(description: str) -> InvalidArgument:
    return InvalidArgument.of("page_token", _REASON, description)
