"""Traces: W3C trace context in and out, spans where a trace is sampled.

The server and client interceptors of opentelemetry-instrumentation-grpc are
not used: they cost a quarter of the unary throughput for calls that nobody
samples, and the one for streams breaks on `context.write()`. Here an unsampled
call keeps the header that it came with, as text, and opens no span.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from opentelemetry import context as otel
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, TraceState
from opentelemetry.util.types import Attributes, AttributeValue

from services.common.config import Settings

TRACEPARENT = "traceparent"
__all__ = ["TRACEPARENT", "Span", "begin", "configure", "end", "flush", "inject", "span_from"]

_FORMAT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_tracer: trace.Tracer | None = None
_provider: TracerProvider | None = None
_brought: ContextVar[str | None] = ContextVar("traceparent", default=None)


class _Roots(Sampler):
    """Starts traces at calls and events only.

    A relay polls its outbox all day: its queries would each be a trace.
    """

    def __init__(self, ratio: float) -> None:
        self._ratio = TraceIdRatioBased(ratio)

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        starts = kind in (SpanKind.SERVER, SpanKind.CONSUMER)
        chosen: Sampler = self._ratio if starts else ALWAYS_OFF
        return chosen.should_sample(parent_context, trace_id, name, kind, attributes, links)

    def get_description(self) -> str:
        return f"Roots({self._ratio.get_description()})"


def configure(settings: Settings, service: str) -> None:
    """Send spans to `settings.trace_endpoint`; without one, only pass headers on."""
    global _provider, _tracer
    if not settings.trace_endpoint:
        return
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    from services.common.database_spans import SampledStatements

    _provider = TracerProvider(
        sampler=ParentBased(_Roots(settings.trace_ratio)),
        resource=Resource.create({"service.name": service}),
    )
    exporter = OTLPSpanExporter(endpoint=settings.trace_endpoint, insecure=True)
    _provider.add_span_processor(BatchSpanProcessor(exporter))
    _tracer = _provider.get_tracer("interchange")
    instrumentor = SampledStatements()  # type: ignore[no-untyped-call]
    instrumentor.instrument(tracer_provider=_provider)


def flush() -> None:
    """Send what is left; called once, at the end of the process."""
    if _provider is not None:
        _provider.shutdown()


def begin(brought: str | None, name: str) -> Span | None:
    """Join the trace that a call brought, or start one; return a span if it is sampled.

    The span stays current until the task of the call ends.
    """
    found = _FORMAT.fullmatch(brought) if brought is not None else None
    _brought.set(brought if found else None)
    if _tracer is None or (found is not None and not _sampled(found)):
        return None
    parent = _parent(found) if found is not None else Context()
    span = _tracer.start_span(name, parent, SpanKind.SERVER, {"rpc.system": "grpc"})
    otel.attach(trace.set_span_in_context(span, parent))
    return span if span.is_recording() else None


def end(span: Span, code: str) -> None:
    """End the span of a call with the code of its answer."""
    span.set_attribute("rpc.grpc.status", code)
    if code != "OK":
        span.set_status(trace.StatusCode.ERROR, code)
    span.end()


def traceparent() -> str | None:
    """Return the trace context to pass on, sampled or not."""
    current = trace.get_current_span().get_span_context()
    if not current.is_valid:
        return _brought.get()
    return f"00-{current.trace_id:032x}-{current.span_id:016x}-{int(current.trace_flags):02x}"


def inject() -> str | None:
    """Return the trace context to store with an event; None when it is not sampled."""
    current = traceparent()
    return current if current is not None and int(current[-2:], 16) & 1 else None


def trace_id() -> str:
    """Return the id of the current trace, sampled or not; empty without one."""
    current = traceparent()
    return current[3:35] if current is not None else ""


@contextmanager
def span_from(brought: str | None, name: str, **attributes: AttributeValue) -> Iterator[None]:
    """Do the work of the block in a span of the trace that an event brought.

    Without a sampled trace the block costs next to nothing.
    """
    found = _FORMAT.fullmatch(brought) if brought is not None else None
    if _tracer is None or found is None or not _sampled(found):
        yield
        return
    with _tracer.start_as_current_span(name, _parent(found), SpanKind.CONSUMER, attributes):
        yield


def _sampled(found: re.Match[str]) -> bool:
    return bool(int(found[3], 16) & 1)


def _parent(found: re.Match[str]) -> Context:
    remote = SpanContext(
        int(found[1], 16), int(found[2], 16), is_remote=True, trace_flags=trace.TraceFlags(1)
    )
    return trace.set_span_in_context(NonRecordingSpan(remote), Context())
