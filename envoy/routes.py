"""Where a call goes: routes of the edge and of the egress, from the descriptors."""

from collections import defaultdict
from collections.abc import Iterable

from . import lua, query_token, transcoder
from .config import Config, typed
from .descriptors import Binding, Descriptors, Rpc
from .jwt import HEALTH_PATH, OPEN_PREFIXES, WEBSOCKET_PATH
from .rest import path_match, specificity

MESH = "mesh"
"""Cluster of all processes, for reflection and health."""
GATEWAY = "gateway"
"""Cluster of the WebSocket gateway."""

BODY_BYTES_MAX = 1024 * 1024
BUFFER = "envoy.filters.http.buffer"
BUFFER_PER_ROUTE = "envoy.extensions.filters.http.buffer.v3.BufferPerRoute"

DEADLINE_S = 15
"""Deadline of a unary call that brings none, as in the services."""
DEADLINE_MAX_S = 60
"""Longest deadline that a caller may bring."""
STREAM_MAX_S = 24 * 3600
STREAM_IDLE_MAX_S = 3600


def edge_routes(descriptors: Descriptors, *, websocket: bool) -> Config:
    """Return the routes of the edge: gRPC, REST, health, and 404 for all else.

    Internal rpcs are among all else: here they look as if they were not there.
    """
    routes = [_health()]
    routes += [_grpc(rpc) for rpc in descriptors.public]
    routes += [_open(prefix) for prefix in OPEN_PREFIXES]
    if websocket:
        routes.append(_websocket())
    routes += _rest_routes(descriptors.public)
    routes.append(_nothing())
    return _virtual_host("edge", routes)


def egress_routes(descriptors: Descriptors) -> Config:
    """Return the routes between services: gRPC only, internal rpcs too."""
    routes = [_grpc(rpc) for rpc in descriptors.rpcs]
    return _virtual_host("egress", [*routes, _nothing()])


def _virtual_host(name: str, routes: list[Config]) -> Config:
    host = {"name": name, "domains": ["*"], "routes": routes}
    return {"name": name, "virtual_hosts": [host], "validate_clusters": True}


def _health() -> Config:
    """Answer that the edge lives: one dead service must not take all edges out."""
    return {
        "match": {"path": HEALTH_PATH},
        "direct_response": {"status": 200, "body": {"inline_string": '{"status":"SERVING"}'}},
        "response_headers_to_add": [_header("content-type", "application/json")],
    }


def _grpc(rpc: Rpc) -> Config:
    """Route one method: by its exact path, because retries and deadlines differ by method."""
    return {
        "name": rpc.path[1:],
        "match": {"path": rpc.path, "headers": [_grpc_content()]},
        "route": _action(rpc),
        **_deadline_header(rpc),
    }


def _open(prefix: str) -> Config:
    """Route reflection and health to any process: each knows the whole mesh (trap 8)."""
    return {
        "match": {"prefix": prefix, "headers": [_grpc_content()]},
        "route": {"cluster": MESH, **_duration(streaming="Reflection" in prefix)},
    }


def _websocket() -> Config:
    return {
        "name": "websocket",
        "match": {"path": WEBSOCKET_PATH},
        "route": {
            "cluster": GATEWAY,
            # A socket lives as long as both sides like: the gateway pings, and closes
            # it when its token runs out.
            "timeout": "0s",
            "idle_timeout": f"{STREAM_IDLE_MAX_S}s",
            "upgrade_configs": [{"upgrade_type": "websocket"}],
            "retry_policy": _retries(safe=False),
        },
        "request_headers_to_remove": [query_token.HEADER],
        "typed_per_filter_config": {
            query_token.FILTER: typed("envoy.config.route.v3.FilterConfig", config={}),
        },
    }


def _rest_routes(rpcs: Iterable[Rpc]) -> list[Config]:
    """Return the routes of each path: one a verb, then 405 for the other verbs (trap 7)."""
    by_template: dict[str, list[tuple[Rpc, Binding]]] = defaultdict(list)
    for rpc in rpcs:
        for binding in rpc.bindings:
            by_template[_shape(binding.template)].append((rpc, binding))
    routes = []
    for shape in sorted(by_template, key=specificity):
        faces = by_template[shape]
        routes += [_rest(rpc, binding) for rpc, binding in faces]
        routes.append(_wrong_verb(faces[0][1].template, [binding.verb for _, binding in faces]))
    return routes


def _shape(template: str) -> str:
    """Return the template without its variables' names, so that verbs of one path meet."""
    match = path_match(template)
    return str(match.get("path") or match["safe_regex"]["regex"])


def _rest(rpc: Rpc, binding: Binding) -> Config:
    method = {"name": ":method", "string_match": {"exact": binding.verb}}
    buffer = {"max_request_bytes": BODY_BYTES_MAX}
    return {
        "name": f"{binding.verb} {binding.template}",
        "match": {**path_match(binding.template), "headers": [method]},
        "route": _action(rpc),
        **_deadline_header(rpc),
        "typed_per_filter_config": {
            BUFFER: typed(BUFFER_PER_ROUTE, buffer=buffer),
            lua.FILTER: lua.checked(rpc, binding),
            transcoder.FILTER: typed("envoy.config.route.v3.FilterConfig", config={}),
        },
    }


def _wrong_verb(template: str, verbs: list[str]) -> Config:
    allowed = ", ".join(sorted(set(verbs)))
    text = f"{template} takes {allowed}"
    return {
        "match": path_match(template),
        "direct_response": {"status": 405, "body": {"inline_string": text}},
        "response_headers_to_add": [_header("allow", allowed)],
    }


def _nothing() -> Config:
    """Refuse the rest here: a call without a route must not reach a filter that reroutes it."""
    body = {"inline_string": "there is nothing at this path"}
    return {"match": {"prefix": "/"}, "direct_response": {"status": 404, "body": body}}


def _action(rpc: Rpc) -> Config:
    return {
        "cluster": rpc.cluster,
        "retry_policy": _retries(safe=rpc.safe),
        **_duration(streaming=rpc.streaming),
    }


def _retries(*, safe: bool) -> Config:
    """Repeat what never reached a service; safe calls also after a failure there."""
    reasons = "connect-failure,refused-stream"
    return {
        "retry_on": reasons + ",reset,unavailable" if safe else reasons,
        "num_retries": 3,
        "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.25s"},
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": typed(
                    "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                ),
            }
        ],
        "host_selection_retry_max_attempts": 3,
    }


def _duration(*, streaming: bool) -> Config:
    """Bound a call. A plain `timeout` would be UNAVAILABLE and is off beside this (trap 4)."""
    if streaming:
        longest = f"{STREAM_MAX_S}s"
        return {
            "idle_timeout": f"{STREAM_IDLE_MAX_S}s",
            "max_stream_duration": {
                "max_stream_duration": longest,
                "grpc_timeout_header_max": longest,
            },
        }
    return {
        "max_stream_duration": {
            "max_stream_duration": f"{DEADLINE_S}s",
            "grpc_timeout_header_max": f"{DEADLINE_MAX_S}s",
        }
    }


def _deadline_header(rpc: Rpc) -> Config:
    """Tell the service the deadline of a caller who brought none: it stops working in time."""
    if rpc.streaming:
        return {}
    header = _header("grpc-timeout", f"{DEADLINE_S}S", action="ADD_IF_ABSENT")
    return {"request_headers_to_add": [header]}


def _header(name: str, value: str, *, action: str = "OVERWRITE_IF_EXISTS_OR_ADD") -> Config:
    return {"header": {"key": name, "value": value}, "append_action": action}


def _grpc_content() -> Config:
    """Fit gRPC and gRPC-Web, which is still in its own clothes when the route is chosen."""
    return {"name": "content-type", "string_match": {"prefix": "application/grpc"}}
