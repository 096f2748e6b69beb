"""Who calls: what the edge verified, and what it allows."""

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass

from services.common.errors import Unauthenticated

TENANT_HEADER = "x-interchange-tenant"
SUBJECT_HEADER = "x-interchange-subject"
ROLES_HEADER = "x-interchange-roles"

ROLES: Mapping[str, frozenset[str]] = {
    "trader": frozenset(
        {
            "instrument.read",
            "account.read",
            "trade.create",
            "trade.read",
            "position.read",
            "ledger.read",
        }
    ),
    "operations": frozenset(
        {
            "instrument.read",
            "instrument.write",
            "account.read",
            "account.write",
            "account.transfer",
            "trade.create",
            "trade.read",
            "position.read",
            "ledger.read",
        }
    ),
    "auditor": frozenset(
        {"instrument.read", "account.read", "trade.read", "position.read", "ledger.read"}
    ),
}
"""Permissions of each role; `admin` is not among them: nobody does everything."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A verified caller: its tenant, its name there and its roles."""

    tenant_id: str
    subject: str
    roles: tuple[str, ...]

    def may(self, permission: str) -> bool:
        """Tell whether one of the caller's roles holds the permission."""
        return any(permission in ROLES.get(role, frozenset()) for role in self.roles)


_caller: ContextVar[Caller | None] = ContextVar("caller", default=None)


def current() -> Caller:
    """Return the caller of the call being served."""
    caller = _caller.get()
    if caller is None:
        raise Unauthenticated("CALLER_MISSING", "the call names no caller")
    return caller


def enter(caller: Caller) -> None:
    """Make `caller` the caller of the call being served."""
    _caller.set(caller)
