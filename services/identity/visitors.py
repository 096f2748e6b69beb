"""Visitors: customers without an account, who are whoever their token says."""

from dataclasses import dataclass
from uuid import UUID

from joserfc.jwk import ECKey

from services.common import tokens
from services.common.identity import CUSTOMER

PREFIX = "visitor-"
TTL_S = 24 * 3600


@dataclass(frozen=True, slots=True)
class Visitor:
    """A visitor of a tenant and the token by which he calls."""

    customer_id: str
    token: str
    expire_s: int
    """When the token runs out, seconds since 1970-01-01 UTC."""


def create_visitor(tenant_id: str, visitor_id: UUID, key: ECKey, now_s: int) -> Visitor:
    """Return a new visitor of a tenant; nothing is stored, his token is all there is."""
    customer_id = f"{PREFIX}{visitor_id}"
    token = tokens.issue(key, tenant_id, [CUSTOMER], customer_id, TTL_S, now_s)
    return Visitor(customer_id, token, now_s + TTL_S)
