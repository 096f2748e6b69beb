"""Who opens a socket: told by the edge in headers, or by a token that is verified here."""

import time
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

from joserfc.jwk import KeySet

from services.common.db import TENANT_ID
from services.common.errors import Unauthenticated, Unavailable
from services.common.identity import (
    MESH,
    ROLES_HEADER,
    SUBJECT_HEADER,
    TENANT_HEADER,
    Caller,
)
from services.common.tokens import CLOCK_SKEW_S, Claims, public_keys, verify

EXPIRES_HEADER = "x-interchange-expires"
PROTOCOL = "interchange.v1"
BEARER = "bearer."
CACHE_MAX = 4096
LOOK_EVERY_S = 1.0
"""How often the file of keys is looked at, at most."""


def from_headers(headers: Mapping[str, str]) -> Claims | None:
    """Return the caller that the edge verified, or None where it was given no token.

    Raises Unauthenticated for what the edge would not say.
    """
    tenant_id, subject = headers.get(TENANT_HEADER, ""), headers.get(SUBJECT_HEADER, "")
    if not tenant_id and not subject:
        return None
    roles = tuple(headers.get(ROLES_HEADER, "").split())
    expires = headers.get(EXPIRES_HEADER, "")
    if not TENANT_ID.fullmatch(tenant_id) or not subject or not roles or MESH in roles:
        raise Unauthenticated(
            "CALLER_MALFORMED", "the caller's tenant, name or roles are malformed"
        )
    if not expires.isdecimal():
        raise Unauthenticated("TOKEN_INVALID", "the token does not say when it runs out")
    return Claims(Caller(tenant_id, subject, roles), int(expires))


def protocols(headers: Mapping[str, str]) -> tuple[bool, str]:
    """Return whether our protocol is offered, and the token among the sub-protocols or ''."""
    offered = [each.strip() for each in headers.get("sec-websocket-protocol", "").split(",")]
    token = next((each for each in offered if each.startswith(BEARER)), "")
    return PROTOCOL in offered, token.removeprefix(BEARER)


class Verifier:
    """Verifies tokens by the keys of a file, which may change while we run."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._keys: KeySet | None = None
        self._modified_ns = 0
        self._looked_at = -LOOK_EVERY_S
        self._known: OrderedDict[str, Claims] = OrderedDict()

    def verify(self, token: str) -> Claims:
        """Return what a token says.

        Raises Unauthenticated with the reason, Unavailable while there are no keys.
        """
        keys = self._current_keys()
        known = self._known.get(token)
        if known is not None and known.expire_s + CLOCK_SKEW_S >= time.time():
            self._known.move_to_end(token)
            return known
        claims = verify(token, keys)
        self._known[token] = claims
        if len(self._known) > CACHE_MAX:
            self._known.popitem(last=False)
        return claims

    def _current_keys(self) -> KeySet:
        now = time.monotonic()
        if now - self._looked_at >= LOOK_EVERY_S:
            self._looked_at = now
            self._look()
        if self._keys is None:
            raise Unavailable("KEYS_UNAVAILABLE", "tokens can't be verified now; try again")
        return self._keys

    def _look(self) -> None:
        """Read the file again if it changed; what it held before is good until it is readable."""
        try:
            modified_ns = self._file.stat().st_mtime_ns
            if modified_ns == self._modified_ns:
                return
            self._keys = public_keys(self._file.read_text())
        except (OSError, ValueError, LookupError):
            return
        self._modified_ns = modified_ns
        # A token of a key that was taken away must not live on here.
        self._known.clear()
