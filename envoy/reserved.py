"""Roles that no token may give, whoever signed it.

Between services the caller is what its headers say. So the role by which a
service calls must not come in from outside, not even from an issuer that is
trusted with all others.
"""

from .config import Config, extension
from .jwt import IDENTITY

FILTER = "envoy.filters.http.rbac"
MESSAGE = "envoy.extensions.filters.http.rbac.v3.RBAC"
ROLES = ("mesh",)
"""As in services/common/identity.py."""


def reserved() -> Config:
    """Return the filter: it reads the header that the filter of tokens made of the claim."""
    return extension(
        FILTER,
        MESSAGE,
        rules={
            "action": "DENY",
            "policies": {
                "reserved": {
                    "permissions": [{"or_rules": {"rules": [_gives(role) for role in ROLES]}}],
                    "principals": [{"any": True}],
                }
            },
        },
    )


def _gives(role: str) -> Config:
    """Fit a role among others, parted by whatever a service could take for a blank."""
    header = next(name for name, claim in IDENTITY.items() if claim == "roles")
    regex = rf"(?s)(.*[^a-z0-9_-])?{role}([^a-z0-9_-].*)?"
    return {"header": {"name": header, "string_match": {"safe_regex": {"regex": regex}}}}
