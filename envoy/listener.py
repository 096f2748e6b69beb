"""Listeners: the edge, which trusts nobody, and the egress, which trusts its own."""

from collections.abc import Sequence

from .config import Config, extension, socket_address, typed
from .local_reply import local_reply
from .routes import BODY_BYTES_MAX, BUFFER

MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
BUFFER_BYTES = 1024 * 1024
OWN_PREFIXES = ("x-interchange-", "x-envoy-")
"""Headers that only Envoy sets: identity, and orders to Envoy such as retries."""


def edge_listener(
    address: tuple[str, int],
    filters: Sequence[Config],
    routes: Config,
    log: Config,
    tracing: Config | None,
) -> Config:
    """Return the listener for the outside: HTTP/1.1 and HTTP/2 on one port."""
    manager = {
        **_manager("edge", filters, routes, log, tracing),
        "codec_type": "AUTO",
        "use_remote_address": True,
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "early_header_mutation_extensions": [_strip()],
        "always_set_request_id_in_response": True,
        "local_reply_config": local_reply(),
        "request_headers_timeout": "10s",
        "common_http_protocol_options": {
            "idle_timeout": "3600s",
            # `x_interchange_tenant` and `x-interchange-tenant` are one name to some.
            "headers_with_underscores_action": "REJECT_REQUEST",
        },
    }
    return _listener("edge", address, manager)


def egress_listener(
    address: tuple[str, int],
    filters: Sequence[Config],
    routes: Config,
    log: Config,
    tracing: Config | None,
) -> Config:
    """Return the listener for the services: gRPC, the caller's identity passes through."""
    manager = {
        **_manager("egress", filters, routes, log, tracing),
        "codec_type": "HTTP2",
        # The edge's request id stays: one id names the call in all logs.
        "preserve_external_request_id": True,
        "common_http_protocol_options": {"idle_timeout": "3600s"},
    }
    # However many come from outside, the services still reach each other.
    return {**_listener("egress", address, manager), "ignore_global_conn_limit": True}


def buffer() -> Config:
    """Return the filter that bounds REST bodies; routes turn it on."""
    message = "envoy.extensions.filters.http.buffer.v3.Buffer"
    return {**extension(BUFFER, message, max_request_bytes=BODY_BYTES_MAX), "disabled": True}


def grpc_web() -> Config:
    """Return the filter that lets browsers speak gRPC."""
    return extension(
        "envoy.filters.http.grpc_web", "envoy.extensions.filters.http.grpc_web.v3.GrpcWeb"
    )


def router() -> Config:
    """Return the filter that ends every chain."""
    return extension("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router")


def _listener(name: str, address: tuple[str, int], manager: Config) -> Config:
    chain = {
        "filters": [
            {
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": typed(MANAGER, **manager),
            }
        ]
    }
    return {
        "name": name,
        "address": socket_address(*address),
        "per_connection_buffer_limit_bytes": BUFFER_BYTES,
        "filter_chains": [chain],
    }


def _manager(
    name: str, filters: Sequence[Config], routes: Config, log: Config, tracing: Config | None
) -> Config:
    manager: Config = {
        "stat_prefix": name,
        "http_filters": list(filters),
        "route_config": routes,
        "access_log": [log],
        "server_name": "interchange",
        "stream_idle_timeout": "300s",
        "http2_protocol_options": {
            "max_concurrent_streams": 1024,
            "initial_stream_window_size": BUFFER_BYTES,
            "initial_connection_window_size": 8 * BUFFER_BYTES,
        },
    }
    if tracing is not None:
        manager["tracing"] = tracing
    return manager


def _strip() -> Config:
    """Drop what a caller must not say, before any filter reads it (traps 5 and 9)."""
    return extension(
        "envoy.http.early_header_mutation.header_mutation",
        "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
        mutations=[
            {"remove_on_match": {"key_matcher": {"prefix": prefix, "ignore_case": True}}}
            for prefix in OWN_PREFIXES
        ],
    )
