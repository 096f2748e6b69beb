"""The Envoy of one machine: the door for callers, and the egress for the services."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import cluster, jwt, listener, query_token, reserved, routes, tracing
from .access_log import access_log
from .cluster import Endpoint
from .config import Config, socket_address
from .descriptors import Descriptors
from .lua import lua
from .transcoder import transcoder


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeSettings:
    """What the configuration depends on besides the descriptors."""

    descriptors: Path
    """The descriptor set, `gen/interchange/descriptors.binpb`."""
    jwks: Path | str
    """The issuer's public keys: a file, or the JSON itself."""
    endpoints: Mapping[str, Sequence[Endpoint]] = field(default_factory=dict)
    """Where the processes of each service listen, by its short name. Calls of a
    service without endpoints are UNAVAILABLE. `gateway` opens the WebSocket."""
    edge_address: str = "127.0.0.1"
    """Address of the door."""
    edge_port: int = 8080
    """Port of the door: REST, gRPC, gRPC-Web."""
    egress_address: str = "127.0.0.1"
    """Address where services dial each other; loopback, for it asks for no token."""
    egress_port: int = 8081
    """Port where services dial each other."""
    admin_address: str = "127.0.0.1"
    """Address of Envoy's own pages; loopback, for they can stop it."""
    admin_port: int = 9901
    """Port of Envoy's own pages."""
    issuer: str = "interchange"
    """Who signs the tokens."""
    audience: str = "interchange"
    """Whom the tokens are for."""
    collector: Endpoint | None = None
    """OTLP gRPC collector of traces; none are made without it."""
    trace_ratio: float = 0.01
    """Share of the traces started here that are kept; a caller's decision wins."""
    access_log: Path | None = None
    """File of the access log; standard output when none."""
    node_id: str = "edge"
    """Name of this Envoy."""


def bootstrap(settings: EdgeSettings) -> Config:
    """Return the whole configuration, to be written as JSON for `envoy -c`.

    Raises ValueError when an endpoint belongs to no service.
    """
    descriptors = Descriptors.read(settings.descriptors)
    unknown = set(settings.endpoints) - set(descriptors.clusters) - {routes.GATEWAY}
    if unknown:
        raise ValueError(f"endpoints were given for no service: {', '.join(sorted(unknown))}")
    return {
        "node": {"id": settings.node_id, "cluster": "edge"},
        "admin": {"address": socket_address(settings.admin_address, settings.admin_port)},
        "static_resources": {
            "listeners": [_edge(settings, descriptors), _egress(settings, descriptors)],
            "clusters": _clusters(settings, descriptors),
        },
        "overload_manager": _overload(),
    }


def _edge(settings: EdgeSettings, descriptors: Descriptors) -> Config:
    websocket = routes.GATEWAY in settings.endpoints
    # grpc_web comes before jwt, else its refusals lack a grpc-status; jwt before
    # buffer, so that strangers can't make us hold their megabyte.
    filters = [
        listener.grpc_web(),
        query_token.query_token(),
        jwt.jwt(_jwks(settings.jwks), settings.issuer, settings.audience, websocket=websocket),
        reserved.reserved(),
        listener.buffer(),
        lua(descriptors),
        transcoder(descriptors),
        listener.router(),
    ]
    return listener.edge_listener(
        (settings.edge_address, settings.edge_port),
        filters,
        routes.edge_routes(descriptors, websocket=websocket),
        access_log("edge", _path(settings.access_log)),
        _tracing(settings, "edge"),
    )


def _egress(settings: EdgeSettings, descriptors: Descriptors) -> Config:
    return listener.egress_listener(
        (settings.egress_address, settings.egress_port),
        [listener.router()],
        routes.egress_routes(descriptors),
        access_log("egress", _path(settings.access_log), failures_only=True),
        _tracing(settings, "egress"),
    )


def _clusters(settings: EdgeSettings, descriptors: Descriptors) -> list[Config]:
    endpoints = settings.endpoints
    services = [cluster.cluster(name, endpoints.get(name, ())) for name in descriptors.clusters]
    # One process may host several services: name it once.
    mesh = {each: None for name in descriptors.clusters for each in endpoints.get(name, ())}
    services.append(cluster.cluster(routes.MESH, list(mesh)))
    if routes.GATEWAY in endpoints:
        services.append(cluster.socket_cluster(routes.GATEWAY, endpoints[routes.GATEWAY]))
    if settings.collector is not None:
        services.append(cluster.collector_cluster(tracing.COLLECTOR, settings.collector))
    return services


def _overload() -> Config:
    """Bound the connections from outside; Envoy's own default is no bound."""
    monitor = "envoy.resource_monitors.global_downstream_max_connections"
    message = (
        "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"
    )
    url = f"type.googleapis.com/{message}"
    limit = {"@type": url, "max_active_downstream_connections": cluster.SOCKETS_MAX}
    return {"resource_monitors": [{"name": monitor, "typed_config": limit}]}


def _jwks(jwks: Path | str) -> str:
    return jwks.read_text() if isinstance(jwks, Path) else jwks


def _path(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _tracing(settings: EdgeSettings, service: str) -> Config | None:
    if settings.collector is None:
        return None
    return tracing.tracing(service, settings.trace_ratio)
