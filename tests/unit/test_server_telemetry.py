import contextvars

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased
from opentelemetry.trace import SpanKind

from services.common import clients, telemetry

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SAMPLED = f"00-{TRACE_ID}-b7ad6b7169203331-01"
UNSAMPLED = f"00-{TRACE_ID}-b7ad6b7169203331-00"


@pytest.fixture(autouse=True)
def own_context():
    """Leave no trace to the next test: a call's context ends with its task."""
    before = contextvars.copy_context()
    yield
    for variable in contextvars.copy_context():
        if variable not in before:
            variable.set(None)


@pytest.fixture
def spans(monkeypatch):
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=ParentBased(telemetry._Roots(1.0)))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(telemetry, "_tracer", provider.get_tracer("test"))
    return exporter.get_finished_spans


def in_a_call(act):
    return contextvars.copy_context().run(act)


def test_without_tracing_the_header_is_passed_on_as_it_came():
    def call():
        assert telemetry.begin(UNSAMPLED, "rpc") is None
        return telemetry.trace_id(), telemetry.inject(), dict(clients.headers())["traceparent"]

    assert in_a_call(call) == (TRACE_ID, None, UNSAMPLED)


@pytest.mark.parametrize("garbage", ["", "x" * 55, SAMPLED + "\n", SAMPLED.upper()])
def test_malformed_header_is_not_passed_on(garbage):
    def call():
        telemetry.begin(garbage, "rpc")
        return telemetry.traceparent()

    assert in_a_call(call) is None


def test_sampled_call_gets_a_span_of_the_trace(spans):
    def call():
        span = telemetry.begin(SAMPLED, "trade/CreateTrade")
        stored = telemetry.inject()
        telemetry.end(span, "NOT_FOUND")
        return stored

    stored = in_a_call(call)

    (span,) = spans()
    assert span.name == "trade/CreateTrade"
    assert f"{span.parent.span_id:016x}" == SAMPLED[36:52]
    assert stored == f"00-{TRACE_ID}-{span.context.span_id:016x}-01"
    assert not span.status.is_ok


def test_unsampled_call_opens_no_span(spans):
    assert in_a_call(lambda: telemetry.begin(UNSAMPLED, "rpc")) is None
    assert spans() == ()


def test_call_without_trace_starts_one(spans):
    def call():
        telemetry.end(telemetry.begin(None, "rpc"), "OK")

    in_a_call(call)

    assert spans()[0].parent is None


def test_event_joins_the_trace_that_caused_it(spans):
    with telemetry.span_from(SAMPLED, "on_trade_booked", events=3):
        inner = telemetry.inject()
    with telemetry.span_from(None, "on_trade_booked"):
        pass

    (span,) = spans()
    assert span.kind is SpanKind.CONSUMER
    assert span.attributes["events"] == 3
    assert inner[3:35] == TRACE_ID


def test_query_of_a_background_task_starts_no_trace(spans):
    with telemetry._tracer.start_as_current_span("SELECT", kind=SpanKind.CLIENT) as span:
        assert not span.is_recording()

    assert spans() == ()
