"""Whose conversations a caller sees: only roles that are named widen the view."""

import pytest

from services.common.access import may_see
from services.common.identity import Caller


@pytest.mark.parametrize(
    "roles",
    [("customer",), ("customer", "widget"), ("customer", "offline_access"), ("trader",), ()],
    ids=" ".join,
)
def test_an_unknown_or_additional_role_widens_nothing(roles: tuple[str, ...]) -> None:
    assert not may_see(Caller("acme", "ann", roles), "bob", "ana")


@pytest.mark.parametrize("role", ["supervisor", "auditor"])
def test_who_oversees_sees_all(role: str) -> None:
    assert may_see(Caller("acme", "sue", (role, "customer")), "bob", "ana")


def test_customer_and_agent_see_their_own() -> None:
    assert may_see(Caller("acme", "bob", ("customer",)), "bob", "")
    assert may_see(Caller("acme", "ana", ("agent",)), "bob", "ana")
    # Of the same name, but not the same: an agent is no customer.
    assert not may_see(Caller("acme", "bob", ("agent",)), "bob", "ana")
    assert not may_see(Caller("acme", "", ("agent",)), "bob", "")
