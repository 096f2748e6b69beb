"""Tokens: who calls, verified at the edge."""

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
    too, and no route can be forgotten (trap 1).
    """
    # Named, because by default Envoy also takes a token from the query, on any path.
    header = {"name": "authorization", "value_prefix": "Bearer "}
    providers = {"bearer": _provider(jwks, issuer, audience) | {"from_headers": [header]}}
    rules: list[Config] = [{"match": {"path": HEALTH_PATH}}]
    rules += [{"match": {"prefix": prefix}} for prefix in OPEN_PREFIXES]
    if websocket:
        # A browser can't set headers on a WebSocket; forward=false takes the
        # token out of the query before anything logs it.
        providers["query"] = _provider(jwks, issuer, audience) | {"from_params": ["access_token"]}
        either = {"requirements": [{"provider_name": name} for name in ("bearer", "query")]}
        rules.append({"match": {"path": WEBSOCKET_PATH}, "requires": {"requires_any": either}})
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
        "claim_to_headers": [
            {"header_name": header, "claim_name": claim} for header, claim in IDENTITY.items()
        ],
    }
