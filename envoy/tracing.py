"""Traces: spans of Envoy, sent to the collector."""

from .config import Config, extension

COLLECTOR = "collector"


def tracing(service: str, ratio: float) -> Config:
    """Return tracing that keeps `ratio` of the traces that start here.

    A caller's decision, in its traceparent, wins. Without tracing Envoy passes
    the traceparent on as it came.
    """
    return {
        "random_sampling": {"value": 100 * ratio},
        "provider": extension(
            "envoy.tracers.opentelemetry",
            "envoy.config.trace.v3.OpenTelemetryConfig",
            grpc_service={"envoy_grpc": {"cluster_name": COLLECTOR}, "timeout": "1s"},
            service_name=service,
        ),
    }
