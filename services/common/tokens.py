"""Tokens of callers: ES256, signed by one key, verified by its public half.

The edge verifies those that come in a header. What verifies others, as the
gateway does in a first frame, follows the same rules by `verify`.
"""

import json
import re
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet

from services.common.db import TENANT_ID
from services.common.errors import InvalidArgument, Unauthenticated
from services.common.identity import MESH, ROLES, Caller

ISSUER = "interchange"
AUDIENCE = "interchange"
ALGORITHM = "ES256"
TTL_S_MAX = 24 * 3600
CLOCK_SKEW_S = 5
"""How far the clocks of who signs and who verifies may lie apart, as at the edge."""
TOKEN_LENGTH_MAX = 4096

ISSUED_ROLES = tuple(role for role in ROLES if role != MESH)
"""Roles that a token may give: `mesh` is a service's own, and only services say it."""

_SUBJECT = re.compile(r"[!-~]{1,64}")
# What the services take from the edge, whoever signed it.
_SUBJECT_TAKEN = re.compile(r"[!-~]{1,128}")
_ROLES_TAKEN = re.compile(r"[a-z][a-z0-9_ -]{0,255}")


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says."""

    caller: Caller
    """Who calls."""
    expire_s: int
    """When it runs out, seconds since 1970-01-01 UTC."""


def new_key() -> str:
    """Return a new private key as JSON."""
    key = ECKey.generate_key("P-256", auto_kid=True)
    return json.dumps(key.as_dict(private=True))


def private_key(text: str) -> ECKey:
    """Read the key that signs, as `new_key` made it."""
    return ECKey.import_key(json.loads(text))


def public_keys(text: str) -> KeySet:
    """Read a JSON Web Key Set: the keys that verify."""
    return KeySet.import_key_set(json.loads(text))


def key_set(key: ECKey) -> str:
    """Return the public half of a key as a JSON Web Key Set."""
    return json.dumps({"keys": [key.as_dict(private=False) | {"alg": ALGORITHM, "use": "sig"}]})


def issue(
    key: ECKey,
    tenant_id: str,
    roles: Sequence[str],
    subject: str,
    ttl_s: int,
    now_s: float | None = None,
) -> str:
    """Return a signed token that is valid for `ttl_s` seconds.

    Raises InvalidArgument for a tenant, role, subject or lifetime that no token
    may have.
    """
    _check(tenant_id, roles, subject, ttl_s)
    now = int(time.time() if now_s is None else now_s)
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": subject,
        "tenant_id": tenant_id,
        # One string: Envoy forwards an array as base64 of its JSON.
        "roles": " ".join(roles),
        "iat": now,
        "exp": now + ttl_s,
        "jti": uuid.uuid4().hex,
    }
    return jwt.encode({"alg": ALGORITHM, "kid": key.kid}, claims, key, algorithms=[ALGORITHM])


def verify(token: str, keys: KeySet, now_s: float | None = None) -> Claims:
    """Return what a token says, once everything about it is right.

    Raises Unauthenticated with the reasons that the edge gives: TOKEN_MISSING,
    TOKEN_EXPIRED, TOKEN_INVALID.
    """
    if not token:
        raise Unauthenticated("TOKEN_MISSING", "the call brings no token")
    claims = _signed(token, keys)
    now = time.time() if now_s is None else now_s
    expire_s, begin_s = claims.get("exp"), claims.get("nbf", 0)
    if claims.get("iss") != ISSUER or not _is_for_us(claims.get("aud")):
        raise _invalid("the token is not for this api")
    if not _is_time(expire_s) or not _is_time(begin_s) or begin_s > now + CLOCK_SKEW_S:
        raise _invalid("the token is not valid at this time")
    if expire_s + CLOCK_SKEW_S < now:
        raise Unauthenticated("TOKEN_EXPIRED", "the token has expired")
    return Claims(_caller(claims), int(expire_s))


def _signed(token: str, keys: KeySet) -> dict[str, Any]:
    """Return the claims of a token whose signature is right."""
    # Three parts: with five it would be read as an encrypted one.
    if len(token) > TOKEN_LENGTH_MAX or not token.isascii() or token.count(".") != 2:
        raise _invalid("the token is malformed")
    try:
        claims: Any = jwt.decode(token, keys, algorithms=[ALGORITHM]).claims
    except (JoseError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        raise _invalid("the token is malformed or not signed by a known key") from None
    if not isinstance(claims, dict):
        raise _invalid("the token has no claims")
    return claims


def _is_for_us(audience: object) -> bool:
    return audience == AUDIENCE or (isinstance(audience, list) and AUDIENCE in audience)


def _is_time(value: object) -> TypeGuard[float]:
    # A bool is an int, and no time; the bounds keep NaN out, which equals nothing.
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1 << 53


def _caller(claims: dict[str, Any]) -> Caller:
    tenant_id, subject = claims.get("tenant_id"), claims.get("sub")
    if not isinstance(tenant_id, str) or not isinstance(subject, str):
        raise _invalid("the token names no caller")
    if not TENANT_ID.fullmatch(tenant_id) or not _SUBJECT_TAKEN.fullmatch(subject):
        raise _invalid("the token's tenant or subject is malformed")
    roles = claims.get("roles")
    if not isinstance(roles, str) or not _ROLES_TAKEN.fullmatch(roles):
        raise _invalid("the token's roles are malformed")
    names = tuple(roles.split())
    if MESH in names:
        raise _invalid(f"the role {MESH} is not for tokens")
    return Caller(tenant_id, subject, names)


def _invalid(text: str) -> Unauthenticated:
    return Unauthenticated("TOKEN_INVALID", text)


def _check(tenant_id: str, roles: Sequence[str], subject: str, ttl_s: int) -> None:
    if not TENANT_ID.fullmatch(tenant_id):
        text = f"was {tenant_id!r}, expected {TENANT_ID.pattern}"
        raise InvalidArgument.of("tenant", "INVALID_TENANT", text)
    if not roles or not set(roles) <= set(ISSUED_ROLES):
        text = f"were {', '.join(roles) or 'none'}, expected some of {', '.join(ISSUED_ROLES)}"
        raise InvalidArgument.of("roles", "INVALID_ROLES", text)
    if not _SUBJECT.fullmatch(subject):
        text = f"was {subject!r}, expected 1 to 64 printable characters without spaces"
        raise InvalidArgument.of("subject", "INVALID_SUBJECT", text)
    if not 1 <= ttl_s <= TTL_S_MAX:
        raise InvalidArgument.of("ttl", "INVALID_TTL", f"was {ttl_s} s, expected 1 to {TTL_S_MAX}")
