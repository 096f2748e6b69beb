"""Upstream clusters: how a service is reached, watched and spared."""

from collections.abc import Sequence

from .config import Config, socket_address, typed

Endpoint = tuple[str, int]
"""Address and port of a process."""

BUFFER_BYTES = 1024 * 1024
SOCKET_BUFFER_BYTES = 32 * 1024
SOCKETS_MAX = 20_000
"""Connections from outside, and sockets of the gateways behind this Envoy."""
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def cluster(name: str, endpoints: Sequence[Endpoint]) -> Config:
    """Return the cluster of a gRPC service; without endpoints its calls are UNAVAILABLE."""
    return {
        **_base(name, endpoints),
        "health_checks": [_health_check()],
        "outlier_detection": _outlier_detection(),
        "typed_extension_protocol_options": {
            HTTP_OPTIONS: typed(
                HTTP_OPTIONS, explicit_http_config={"http2_protocol_options": _http2()}
            )
        },
    }


def socket_cluster(name: str, endpoints: Sequence[Endpoint]) -> Config:
    """Return the cluster of a WebSocket server: HTTP/1.1, one connection a socket.

    All sockets come back at once when an instance goes, so connections, what waits
    for one and what was refused one have the same bound: only a refused connection
    is tried again, and that costs nothing. A socket carries small frames: little may
    gather between a server and a client that does not read.
    """
    return {
        **_base(name, endpoints),
        # After a restart all clients come at once: a busy gateway is not a dead one.
        "connect_timeout": "5s",
        "per_connection_buffer_limit_bytes": SOCKET_BUFFER_BYTES,
        "circuit_breakers": _circuit_breakers(SOCKETS_MAX, SOCKETS_MAX, SOCKETS_MAX, 100),
        "outlier_detection": _outlier_detection(),
    }


def collector_cluster(name: str, endpoint: Endpoint) -> Config:
    """Return the cluster of the trace collector, which may be absent for a while."""
    host, port = endpoint
    return {
        "name": name,
        "type": "STRICT_DNS",
        "connect_timeout": "1s",
        "load_assignment": _assignment(name, [(host, port)]),
        "typed_extension_protocol_options": {
            HTTP_OPTIONS: typed(HTTP_OPTIONS, explicit_http_config={"http2_protocol_options": {}})
        },
    }


def _base(name: str, endpoints: Sequence[Endpoint]) -> Config:
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "lb_policy": "LEAST_REQUEST",
        # Without this, a cluster whose hosts are all ill gets calls all the same,
        # and callers wait for a connection instead of reading UNAVAILABLE.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "per_connection_buffer_limit_bytes": BUFFER_BYTES,
        "circuit_breakers": _circuit_breakers(256, 1024, 4096, 20),
        "load_assignment": _assignment(name, endpoints),
    }


def _assignment(name: str, endpoints: Sequence[Endpoint]) -> Config:
    hosts = [{"endpoint": {"address": socket_address(*endpoint)}} for endpoint in endpoints]
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": hosts}] if hosts else []}


def _health_check() -> Config:
    """Two misses half a second apart: sooner than a draining server stops taking calls."""
    return {
        "timeout": "1s",
        "interval": "0.5s",
        # The default is a minute while nobody calls.
        "no_traffic_interval": "1s",
        "unhealthy_threshold": 2,
        "healthy_threshold": 1,
        "grpc_health_check": {},
    }


def _outlier_detection() -> Config:
    """Eject hosts that break connections; a service's own UNAVAILABLE (trap 13) counts less."""
    return {
        "split_external_local_origin_errors": True,
        "consecutive_local_origin_failure": 5,
        "enforcing_consecutive_local_origin_failure": 100,
        "consecutive_gateway_failure": 20,
        "enforcing_consecutive_gateway_failure": 100,
        "enforcing_consecutive_5xx": 0,
        "enforcing_success_rate": 0,
        "enforcing_local_origin_success_rate": 0,
        "interval": "1s",
        "base_ejection_time": "5s",
        "max_ejection_percent": 50,
    }


def _circuit_breakers(
    connections: int, pending: int, requests: int, retries_percent: int
) -> Config:
    return {
        "thresholds": [
            {
                "max_connections": connections,
                "max_pending_requests": pending,
                "max_requests": requests,
                # Few calls at a time leave a percentage at zero retries (trap 13).
                "retry_budget": {
                    "budget_percent": {"value": retries_percent},
                    "min_retry_concurrency": 10,
                },
            }
        ]
    }


def _http2() -> Config:
    return {
        "initial_stream_window_size": BUFFER_BYTES,
        "initial_connection_window_size": 8 * BUFFER_BYTES,
        # Servers refuse pings that come more often than every 10 seconds.
        "connection_keepalive": {"interval": "30s", "timeout": "5s"},
    }
