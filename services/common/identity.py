"""Who calls: what the edge verified, and what it allows."""

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass

from services.common.errors import Unauthenticated

TENANT_HEADER = "x-interchange-tenant"
SUBJECT_HEADER = "x-interchange-subject"
ROLES_HEADER = "x-interchange-roles"

_READS_BOOKS = frozenset(
    {"instrument.read", "account.read", "trade.read", "position.read", "ledger.read"}
)
_READS_TALK = frozenset(
    {"conversation.read", "message.read", "agent.read", "bot.read", "nlu.read", "session.use"}
)
_TALKS = frozenset({"conversation.read", "message.read", "message.send", "session.use"})

CUSTOMER = "customer"
AGENT = "agent"
MESH = "mesh"

ROLES: Mapping[str, frozenset[str]] = {
    "trader": _READS_BOOKS | {"trade.create"},
    "operations": _READS_BOOKS
    | {"instrument.write", "account.write", "account.transfer", "trade.create"},
    "auditor": _READS_BOOKS | _READS_TALK,
    CUSTOMER: _TALKS | {"conversation.start", "conversation.handoff", "conversation.end"},
    AGENT: _TALKS | {"conversation.transfer", "conversation.end", "agent.work"},
    "supervisor": _READS_TALK
    | {
        "conversation.start",
        "conversation.handoff",
        "conversation.transfer",
        "conversation.end",
        "agent.work",
        "agent.write",
        "bot.write",
        "nlu.detect",
        "nlu.train",
    },
    "widget": frozenset({"identity.visit"}),
    MESH: frozenset({"mesh.call", "nlu.detect"}),
}
"""Permissions of each role; `admin` is not among them: nobody does everything.

A `customer` has his own conversations, an `agent` those that he answers, a role of WIDE
those of the tenant. `widget` is what a web page holds. `mesh` is a service by itself,
between two calls of anybody; no token has it.
"""

WIDE = frozenset({"supervisor", "auditor", MESH})
"""Roles that see all conversations of the tenant; whoever has none of them sees his own."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A verified caller: its tenant, its name there and its roles."""

    tenant_id: str
    subject: str
    roles: tuple[str, ...]

    def may(self, permission: str) -> bool:
        """Tell whether one of the caller's roles holds the permission."""
        return any(permission in ROLES.get(role, frozenset()) for role in self.roles)

    @property
    def narrow(self) -> bool:
        """True for one who sees his own conversations only."""
        return WIDE.isdisjoint(self.roles)


def service(tenant_id: str, name: str) -> Caller:
    """Return the caller that a service is when it calls by itself."""
    return Caller(tenant_id, name, (MESH,))


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
