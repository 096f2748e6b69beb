"""Tokens, traces and the order of a start: what needs no server."""

import json
import threading
import time
from pathlib import Path

import grpc
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.resource.v1 import resource_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from services.stack.collector import Collector, SpanFile
from services.stack.errors import StackError
from services.stack.order import Step, perform
from services.stack.settings import StackSettings
from services.stack.stack import Stack, ignore
from services.stack.tokens import Issuer
from services.stack.traces import summaries, tree


def test_token_is_verified_by_the_public_keys_alone(tmp_path: Path) -> None:
    settings = StackSettings(data_dir=tmp_path)
    Issuer(settings).ensure_keys()
    token = Stack(settings).token("acme", ["trader", "auditor"], "alice", 5)
    keys = KeySet.import_key_set(json.loads(settings.jwks_path.read_text()))
    assert all("d" not in key.as_dict(private=False) for key in keys)
    assert '"d"' not in settings.jwks_path.read_text()
    claims = jwt.decode(token, keys, algorithms=["ES256"]).claims
    assert claims["roles"] == "trader auditor"
    assert (claims["iss"], claims["aud"], claims["sub"]) == ("interchange", "interchange", "alice")
    assert claims["tenant_id"] == "acme"
    assert claims["exp"] - claims["iat"] == 300


@pytest.mark.parametrize(
    ("tenant", "roles", "subject", "ttl_minutes"),
    [
        ("Acme", ["trader"], "alice", 5),
        ("a" * 33, ["trader"], "alice", 5),
        ("acme", [], "alice", 5),
        ("acme", ["king"], "alice", 5),
        ("acme", ["trader"], "", 5),
        ("acme", ["trader"], "alice", 0),
    ],
)
def test_token_that_would_be_refused_is_not_issued(
    tmp_path: Path, tenant: str, roles: list[str], subject: str, ttl_minutes: int
) -> None:
    with pytest.raises(StackError, match="expected"):
        Stack(StackSettings(data_dir=tmp_path)).token(tenant, roles, subject, ttl_minutes)


def test_ports_shift_together_but_for_those_that_are_set() -> None:
    settings = StackSettings(port_offset=1000, redis_port=7)
    assert (settings.edge_port, settings.kafka_port, settings.redis_port) == (9080, 20092, 7)
    assert settings.service_ports["trade"] == 10101
    assert settings.service_ports["instrument"] == settings.service_ports["account"] == 10100


def test_hosts_that_name_a_service_twice_are_refused() -> None:
    with pytest.raises(ValueError, match="each service once"):
        StackSettings(hosts="trade;ledger,trade")


def span(name: str, span_id: int, parent_id: int, start_ns: int, end_ns: int) -> trace_pb2.Span:
    return trace_pb2.Span(
        trace_id=bytes(15) + b"\x01",
        span_id=span_id.to_bytes(8, "big"),
        parent_span_id=parent_id.to_bytes(8, "big") if parent_id else b"",
        name=name,
        start_time_unix_nano=start_ns,
        end_time_unix_nano=end_ns,
    )


def request(service: str, *spans: trace_pb2.Span) -> trace_service_pb2.ExportTraceServiceRequest:
    name = common_pb2.KeyValue(key="service.name", value=common_pb2.AnyValue(string_value=service))
    return trace_service_pb2.ExportTraceServiceRequest(
        resource_spans=[
            trace_pb2.ResourceSpans(
                resource=resource_pb2.Resource(attributes=[name]),
                scope_spans=[trace_pb2.ScopeSpans(spans=spans)],
            )
        ]
    )


async def test_spans_of_two_services_become_one_tree(tmp_path: Path) -> None:
    file = SpanFile(tmp_path / "traces.jsonl", 1_000_000)
    server = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Collector(file), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = trace_service_pb2_grpc.TraceServiceStub(channel)
        inner = span("INSERT", 3, 2, 2_000_000, 3_000_000)
        await stub.Export(request("trade", span("CreateTrade", 2, 1, 1_000_000, 4_000_000), inner))
        # A parent ends, and is sent, after its children.
        await stub.Export(request("edge", span("ingress", 1, 9, 0, 5_000_000)))
    await server.stop(None)

    rows = list(tree(file.read(), "0" * 31 + "1"))
    assert [(depth, row["name"]) for depth, row in rows] == [
        (0, "ingress"),
        (1, "CreateTrade"),
        (2, "INSERT"),
    ]
    (trace,) = summaries(file.read())
    assert (trace.name, trace.spans, trace.duration_ms) == ("edge: ingress", 3, 5.0)


def test_file_of_spans_is_bounded(tmp_path: Path) -> None:
    file = SpanFile(tmp_path / "traces.jsonl", 1000)
    for number in range(200):
        file.append([{"trace_id": str(number), "filler": "x" * 50}])
    kept = [row["trace_id"] for row in file.read()]
    assert kept[-1] == "199"
    assert file.path.stat().st_size + file.older.stat().st_size < 3000


def test_steps_run_after_what_they_need_and_stop_at_a_failure() -> None:
    done: list[str] = []

    def step(name: str, *after: str, fails: bool = False) -> Step:
        def run(cancelled: threading.Event) -> str:
            time.sleep(0.01)
            if fails:
                raise StackError(f"{name} failed")
            done.append(name)
            return ""

        return Step(name, run, frozenset(after))

    perform([step("c", "a", "b"), step("a"), step("b", "a"), step("d", "absent")], ignore)
    assert done.index("a") < done.index("b") < done.index("c")
    assert "d" in done

    done.clear()
    with pytest.raises(StackError, match="a failed"):
        perform([step("a", fails=True), step("b", "a")], ignore)
    assert done == []
