"""Tokens: what is issued is verified, and nothing else is."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from services.common import tokens
from services.common.errors import InvalidArgument, Unauthenticated
from services.common.identity import MESH, ROLES

NOW = 1_700_000_000.0
KEY = tokens.private_key(tokens.new_key())
KEYS = tokens.public_keys(tokens.key_set(KEY))


def issued(**changes: Any) -> str:
    values = {"tenant_id": "acme", "roles": ["customer"], "subject": "ann", "ttl_s": 60}
    return tokens.issue(KEY, **{**values, **changes}, now_s=NOW)


def signed(key: Any = KEY, header: dict[str, str] | None = None, **changes: Any) -> str:
    claims = {
        "iss": "interchange",
        "aud": "interchange",
        "sub": "ann",
        "tenant_id": "acme",
        "roles": "customer",
        "exp": NOW + 60,
        **changes,
    }
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(header or {"alg": "ES256", "kid": KEY.kid or ""}, claims, key)


def refused(token: str, now_s: float = NOW) -> str:
    with pytest.raises(Unauthenticated) as caught:
        tokens.verify(token, KEYS, now_s)
    return caught.value.reason


def test_what_was_issued_tells_who_calls() -> None:
    claims = tokens.verify(issued(roles=["agent", "supervisor"]), KEYS, NOW)

    assert claims.caller.tenant_id == "acme"
    assert claims.caller.subject == "ann"
    assert claims.caller.roles == ("agent", "supervisor")
    assert claims.expire_s == NOW + 60


@pytest.mark.parametrize(
    ("late_s", "reason"),
    [(64, ""), (66, "TOKEN_EXPIRED")],
    ids=["within the skew", "expired"],
)
def test_a_token_runs_out(late_s: float, reason: str) -> None:
    token = issued()

    if reason:
        assert refused(token, NOW + late_s) == reason
    else:
        assert tokens.verify(token, KEYS, NOW + late_s).expire_s == NOW + 60


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "somebody"},
        {"aud": "somebody"},
        {"aud": ["somebody"]},
        {"aud": None},
        {"exp": None},
        {"exp": "tomorrow"},
        {"exp": True},
        {"exp": -1},
        {"nbf": NOW + 60},
        {"sub": None},
        {"sub": "a b"},
        {"sub": "a" * 129},
        {"sub": 7},
        {"tenant_id": "Acme"},
        {"tenant_id": None},
        {"roles": None},
        {"roles": ""},
        {"roles": ["customer"]},
        {"roles": "customer\tagent"},
        {"roles": MESH},
        {"roles": f"customer {MESH}"},
        {"roles": f"{MESH} customer"},
        {"roles": f"customer {MESH} agent"},
    ],
    ids=str,
)
def test_claims_that_are_not_for_us_are_refused(changes: dict[str, Any]) -> None:
    assert refused(signed(**changes)) == "TOKEN_INVALID"


def test_an_audience_of_several_holds_us() -> None:
    assert tokens.verify(signed(aud=["other", "interchange"]), KEYS, NOW).caller.subject == "ann"


def test_a_foreign_key_is_refused() -> None:
    foreign = ECKey.generate_key("P-256")

    assert refused(signed(foreign)) == "TOKEN_INVALID"
    assert refused(signed(foreign, {"alg": "ES256", "kid": "other"})) == "TOKEN_INVALID"


def test_the_public_key_as_a_shared_secret_is_refused() -> None:
    confused = OctKey.import_key(tokens.key_set(KEY))

    assert refused(signed(confused, {"alg": "HS256", "kid": KEY.kid or ""})) == "TOKEN_INVALID"


def test_a_token_without_a_signature_is_refused() -> None:
    _, payload, _ = issued().split(".")
    header = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")

    assert refused(f"{header}.{payload}.") == "TOKEN_INVALID"


def test_changed_claims_break_the_signature() -> None:
    header, payload, signature = issued().split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    forged = base64.urlsafe_b64encode(json.dumps({**claims, "sub": "bob"}).encode())

    assert refused(f"{header}.{forged.decode().rstrip('=')}.{signature}") == "TOKEN_INVALID"


def test_no_token_is_a_missing_one() -> None:
    assert refused("") == "TOKEN_MISSING"


@pytest.mark.parametrize(
    "token", ["a", "a.b.c", "..", "a.b.c.d.e", "x" * 5000, "é.é.é", "\0.\0.\0"]
)
def test_garbage_is_refused(token: str) -> None:
    assert refused(token) == "TOKEN_INVALID"


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=60), min_size=3, max_size=3))
def test_any_three_parts_are_refused(parts: list[bytes]) -> None:
    token = ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)

    assert refused(token) in ("TOKEN_INVALID", "TOKEN_MISSING")


@settings(max_examples=300, deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.text(max_size=5), st.lists, max_leaves=5))
def test_any_json_in_the_header_is_refused(content: Any) -> None:
    _, payload, signature = issued().split(".")
    for header in (content, {"alg": content}, {"alg": "ES256", "kid": content, "crit": content}):
        encoded = base64.urlsafe_b64encode(json.dumps(header).encode()).decode().rstrip("=")
        assert refused(f"{encoded}.{payload}.{signature}") == "TOKEN_INVALID"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"tenant_id": "Acme"}, "tenant"),
        ({"roles": []}, "roles"),
        ({"roles": ["king"]}, "roles"),
        ({"roles": ["customer", MESH]}, "roles"),
        ({"subject": ""}, "subject"),
        ({"subject": "a b"}, "subject"),
        ({"subject": "a" * 65}, "subject"),
        ({"ttl_s": 0}, "ttl"),
        ({"ttl_s": 24 * 3600 + 1}, "ttl"),
    ],
    ids=str,
)
def test_what_would_be_refused_is_not_issued(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        issued(**changes)

    assert [violation.field for violation in caught.value.violations] == [field]


def test_every_role_but_one_is_for_tokens() -> None:
    assert set(ROLES) - set(tokens.ISSUED_ROLES) == {MESH}
