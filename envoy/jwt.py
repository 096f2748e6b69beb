"""Tokens: who calls, verified at the edge."""

from collections.abc import Mapping

from . import query_token
from .config import Config, extension

FILTER = "envoy.filters.http.jwt_authn"
MESSAGE = "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"

IDENTITY = {
    "x-interchange-tenant": "tenant_id",
    "x-interchange-subject": "sub",
    "x-interchange-roles": "roles",
}
"""Headers that tell a service its caller, and the claims they come from.

Roles are one string with spaces: an array would arrive as base64 of its JSON (trap 9).
"""

EXPIRES = {"x-interchange-expires": "exp"}
"""Tells the gateway when to close a socket whose token it has not seen."""

HEALTH_PATH = "/health"
OPEN_PREFIXES = (
    "/grpc.health.v1.Health/",
    "/grpc.reflection.v1.ServerReflection/",
    "/grpc.reflection.v1alpha.ServerReflection/",
)
"""What answers without a token: probes, and the shape of the api, which is public."""

WEBSOCKET_PATH = "/v1/ws"


def jwt(jwks: str, issuer: str, audience: str, *, websocket: bool) -> Config:
    """Return the filter: every path needs a token, except health and reflection.

    The rules do not depend on the routes, so a path without a route needs a token
    too, and no route can be forgotten (trap 1). A WebSocket may bring its token
    later, in a sub-protocol or a frame, to the gateway, which then verifies it;
    one that it brings here must be good.
    """
    # Named, because by default Envoy also takes a token from the query, on any path.
    header = {"name": "authorization", "value_prefix": "Bearer "}
    provider = _provider(jwks, issuer, audience)
    providers = {"bearer": provider | {"from_headers": [header]}}
    rules: list[Config] = [{"match": {"path": HEALTH_PATH}}]
    rules += [{"match": {"prefix": prefix}} for prefix in OPEN_PREFIXES]
    if websocket:
        claims = [*provider["claim_to_headers"], *_claim_headers(EXPIRES)]
        socket = provider | {"claim_to_headers": claims}
        providers["socket_bearer"] = socket | {"from_headers": [header]}
        # A browser can't set headers on a WebSocket.
        providers["socket_query"] = socket | {"from_headers": [{"name": query_token.HEADER}]}
        either = [{"provider_name": name} for name in ("socket_bearer", "socket_query")]
        requires = {"requires_any": {"requirements": [*either, {"allow_missing": {}}]}}
        rules.append({"match": {"path": WEBSOCKET_PATH}, "requires": requires})
    rules.append({"match": {"prefix": "/"}, "requires": {"provider_name": "bearer"}})
    return extension(FILTER, MESSAGE, providers=providers, rules=rules)


def _provider(jwks: str, issuer: str, audience: str) -> Config:
    return {
        "issuer": issuer,
        "audiences": [audience],
        "local_jwks": {"inline_string": jwks},
        "require_expiration": True,
        "clock_skew_seconds": 5,
        # A token is verified once, not at each call: a signature takes longer than
        # everything else here. Expiry is checked all the same.
        "jwt_cache_config": {"jwt_cache_size": 1000},
        "forward": False,
        "claim_to_headers": _claim_headers(IDENTITY),
    }


def _claim_headers(headers: Mapping[str, str]) -> list[Config]:
    return [{"header_name": header, "claim_name": claim} for header, claim in headers.items()]
