"""Envoy's own refusals in the shape of the services': google.rpc.Status as JSON."""

from .config import TYPE_URL, Config, extension

ERROR_INFO = TYPE_URL + "google.rpc.ErrorInfo"

TOKEN_ERRORS = (
    ("Jwt_is_missing", "TOKEN_MISSING", "the call brings no token"),
    ("Jwt_is_expired", "TOKEN_EXPIRED", "the token has expired"),
)
"""Detail of the refusal, reason and message; all other tokens are invalid."""

RESERVED = ("rbac_access_denied", "ROLE_RESERVED", "the token gives a role that no token may give")
"""Detail of the refusal, reason and message."""

REFUSED = "jwt_authn_access_denied"
INVALID = "TOKEN_INVALID"

STATUS_ERRORS = (
    (400, 3, "BAD_REQUEST"),
    (403, 7, "FORBIDDEN"),
    (404, 5, "ROUTE_NOT_FOUND"),
    (405, 12, "METHOD_NOT_ALLOWED"),
    (408, 4, "DEADLINE_EXCEEDED"),
    (413, 3, "BODY_TOO_LARGE"),
    (415, 3, "BAD_REQUEST"),
    (426, 9, "UPGRADE_REQUIRED"),
    (429, 8, "RATE_LIMITED"),
    (431, 3, "HEADERS_TOO_LARGE"),
    (500, 13, "INTERNAL"),
    (502, 14, "UPSTREAM_BROKEN"),
    (503, 14, "UPSTREAM_UNAVAILABLE"),
    (504, 4, "DEADLINE_EXCEEDED"),
)
"""HTTP status, gRPC code and reason."""


def local_reply() -> Config:
    """Return the mapping; the first mapper that fits rewrites the body."""
    mappers = [{"filter": _all(_details("lua_response")), **_as_it_is()}]
    mappers += [
        {"filter": _all(_rest(), _details(detail)), **_body(16, reason, text)}
        for detail, reason, text in TOKEN_ERRORS
    ]
    # Envoy says 403 to a token for somebody else; it is a bad token like any other.
    mappers += [
        {"filter": _all(_rest(), _details(REFUSED)), "status_code": 401, **_body(16, INVALID)},
        {"filter": _details(REFUSED), "status_code": 401},
    ]
    detail, reason, text = RESERVED
    mappers.append({"filter": _all(_rest(), _details(detail)), **_body(7, reason, text)})
    mappers += [
        {"filter": _all(_rest(), _status(status)), **_body(code, reason)}
        for status, code, reason in STATUS_ERRORS
    ]
    return {"mappers": mappers}


def _all(*filters: Config) -> Config:
    return filters[0] if len(filters) == 1 else {"and_filter": {"filters": list(filters)}}


def _rest() -> Config:
    """Fit calls that did not come as gRPC: there the body would be the grpc-message (trap 5)."""
    plain = {
        "header_filter": {
            "header": {
                "name": "content-type",
                "string_match": {"prefix": "application/grpc"},
                "invert_match": True,
                "treat_missing_header_as_empty": True,
            }
        }
    }
    transcoded = {
        "header_filter": {"header": {"name": "x-envoy-original-path", "present_match": True}}
    }
    return {"or_filter": {"filters": [plain, transcoded]}}


def _details(part: str) -> Config:
    return {
        "extension_filter": extension(
            "envoy.access_loggers.extension_filters.cel",
            "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
            expression=f"response.code_details.contains('{part}')",
        )
    }


def _status(status: int) -> Config:
    value = {"default_value": status, "runtime_key": f"interchange.status_{status}"}
    return {"status_code_filter": {"comparison": {"op": "EQ", "value": value}}}


def _as_it_is() -> Config:
    text = {"inline_string": "%LOCAL_REPLY_BODY%"}
    return {
        "body_format_override": {"text_format_source": text, "content_type": "application/json"}
    }


def _body(code: int, reason: str, message: str = "%LOCAL_REPLY_BODY%") -> Config:
    info = {"@type": ERROR_INFO, "reason": reason, "domain": "interchange", "metadata": {}}
    status = {"code": code, "message": message, "details": [info]}
    return {"body_format_override": {"json_format": status}}
