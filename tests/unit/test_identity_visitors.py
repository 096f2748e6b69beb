"""Visitors: who they are, and for how long."""

from uuid import UUID, uuid4

import pytest

from services.common import tokens
from services.common.errors import Unauthenticated
from services.identity.visitors import create_visitor

NOW = 1_700_000_000
DAY = 24 * 3600
KEY = tokens.private_key(tokens.new_key())
KEYS = tokens.public_keys(tokens.key_set(KEY))
SOMEBODY = UUID("0195c0de-0000-4000-8000-000000000001")


def test_a_visitor_is_a_customer_of_the_tenant_for_a_day() -> None:
    visitor = create_visitor("acme", SOMEBODY, KEY, NOW)

    claims = tokens.verify(visitor.token, KEYS, NOW + DAY)
    assert visitor.customer_id == f"visitor-{SOMEBODY}"
    assert claims.caller.subject == visitor.customer_id
    assert (claims.caller.tenant_id, claims.caller.roles) == ("acme", ("customer",))
    assert claims.caller.narrow
    assert visitor.expire_s == claims.expire_s == NOW + DAY
    with pytest.raises(Unauthenticated, match="expired"):
        tokens.verify(visitor.token, KEYS, NOW + DAY + 6)


def test_no_two_visitors_are_the_same() -> None:
    made = [create_visitor("acme", uuid4(), KEY, NOW) for _ in range(50)]

    assert len({visitor.customer_id for visitor in made}) == 50
    assert len({visitor.token for visitor in made}) == 50
