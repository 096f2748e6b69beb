"""Traces: spans of Envoy, sent to the collector."""

from typing import Any

from .config import Config, extension

COLLECTOR = "collector"


def tracing(service: str, ratio: float) -> Config:
    """Return tracing that keeps `ratio` of the traces that start here.

    A caller's decision, in its traceparent, wins: hence the samplers, for
    `random_sampling` would overrule it. Without tracing Envoy passes the
    traceparent on as it came.
    """
    percentage = {"numerator": round(ratio * 1_000_000), "denominator": "MILLION"}
    by_ratio = _sampler(
        "trace_id_ratio_based", "TraceIdRatioBasedSamplerConfig", sampling_percentage=percentage
    )
    return {
        "random_sampling": {"value": 100},
        "provider": extension(
            "envoy.tracers.opentelemetry",
            "envoy.config.trace.v3.OpenTelemetryConfig",
            grpc_service={"envoy_grpc": {"cluster_name": COLLECTOR}, "timeout": "1s"},
            service_name=service,
            sampler=_sampler("parent_based", "ParentBasedSamplerConfig", wrapped_sampler=by_ratio),
        ),
    }


def _sampler(name: str, message: str, **fields: Any) -> Config:
    package = "envoy.extensions.tracers.opentelemetry.samplers.v3"
    return extension(
        f"envoy.tracers.opentelemetry.samplers.{name}", f"{package}.{message}", **fields
    )
