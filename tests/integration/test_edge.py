"""The door of the mesh, before doubles of the services: who gets in, and as whom."""

import json
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from interchange.trade.v1 import trade_service_pb2, trade_service_pb2_grpc
from interchange_envoy.descriptors import Descriptors

from tests.integration.test_edge_scene import (
    DESCRIPTORS,
    FOREIGN_KEY,
    Edge,
    bearer,
    edge,
    eventually,
)

FACES = [
    (binding.verb, re.sub(r"{[^}]*}", "x", binding.template))
    for rpc in Descriptors.read(DESCRIPTORS).rpcs
    for binding in rpc.bindings
]
SPOOFED = {
    "x-interchange-tenant": "evil",
    "X-Interchange-Subject": "mallory",
    "x-interchange-roles": "operations",
    "x-envoy-original-path": "/elsewhere",
    "x-envoy-retry-on": "5xx",
    "x-envoy-max-retries": "9",
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def door(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    async with edge(tmp_path_factory.mktemp("edge")) as running:
        yield running


@pytest.fixture(autouse=True)
def _nothing_seen(door: Edge) -> None:
    door.seen.calls.clear()


def reason(problem: Any) -> str:
    return str(problem["details"][0]["reason"])


async def test_health_needs_no_token(door: Edge) -> None:
    assert await door.call("GET", "/health", headers={}) == (200, {"status": "SERVING"})


@pytest.mark.parametrize(("verb", "path"), FACES)
async def test_every_rest_route_needs_a_token(door: Edge, verb: str, path: str) -> None:
    status, problem = await door.call(verb, path, headers={})

    assert (status, problem["code"], reason(problem)) == (401, 16, "TOKEN_MISSING")


@pytest.mark.parametrize("path", [rpc.path for rpc in Descriptors.read(DESCRIPTORS).rpcs])
async def test_every_grpc_method_needs_a_token(door: Edge, path: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await door.channel.unary_unary(path)(b"")

    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert caught.value.details() == "Jwt is missing"


@pytest.mark.parametrize("path", ["/nowhere", "/v1/trades/1/2/3", "/v1", "/", "/v1//trades/"])
async def test_paths_without_a_route_need_a_token_too(door: Edge, path: str) -> None:
    status, _ = await door.call("GET", path, headers={})
    assert status == 401

    status, problem = await door.call("GET", path)
    assert (status, reason(problem)) == (404, "ROUTE_NOT_FOUND")


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"exp": int(time.time()) - 60}, "TOKEN_EXPIRED"),
        ({"exp": None}, "TOKEN_INVALID"),
        ({"nbf": int(time.time()) + 600}, "TOKEN_INVALID"),
        ({"iss": "somebody"}, "TOKEN_INVALID"),
        ({"aud": "somebody"}, "TOKEN_INVALID"),
        ({"key": FOREIGN_KEY}, "TOKEN_INVALID"),
    ],
    ids=["expired", "endless", "future", "issuer", "audience", "key"],
)
async def test_a_bad_token_is_refused(door: Edge, claims: dict[str, Any], expected: str) -> None:
    status, problem = await door.call("GET", "/v1/trades", headers=bearer(**claims))

    assert (status, problem["code"], reason(problem)) == (401, 16, expected)
    assert door.seen.calls == []


async def test_a_token_without_a_signature_is_refused(door: Edge) -> None:
    _, payload, _ = bearer()["authorization"].removeprefix("Bearer ").split(".")
    unsigned = f"eyJhbGciOiJub25lIn0.{payload}."

    status, _ = await door.call(
        "GET", "/v1/trades", headers={"authorization": f"Bearer {unsigned}"}
    )

    assert status == 401


async def test_the_service_learns_who_calls(door: Edge) -> None:
    await door.call("GET", "/v1/trades")

    assert door.seen.metadata["x-interchange-tenant"] == "acme"
    assert door.seen.metadata["x-interchange-subject"] == "alice"
    assert door.seen.metadata["x-interchange-roles"] == "trader auditor"
    assert "authorization" not in door.seen.metadata


@pytest.mark.parametrize("claims", [{}, {"roles": None}], ids=["all claims", "no roles"])
async def test_identity_claimed_in_headers_is_dropped(door: Edge, claims: dict[str, Any]) -> None:
    await door.call("GET", "/v1/trades", headers={**SPOOFED, **bearer(**claims)})

    seen = door.seen.metadata
    assert not {"evil", "mallory", "operations"} & set(seen.values())
    assert seen["x-envoy-original-path"] == "/v1/trades"
    assert "x-envoy-retry-on" not in seen


async def test_identity_spelled_with_underscores_is_refused(door: Edge) -> None:
    headers = {**bearer(), "x_interchange_tenant": "evil"}

    async with door.http.get("/v1/trades", headers=headers) as answer:
        assert answer.status == 400


async def test_identity_claimed_in_grpc_metadata_is_dropped(door: Edge) -> None:
    stub = trade_service_pb2_grpc.TradeServiceStub(door.channel)
    metadata = [(name.lower(), value) for name, value in {**SPOOFED, **bearer()}.items()]

    await stub.ListTrades(trade_service_pb2.ListTradesRequest(), metadata=metadata)

    assert door.seen.metadata["x-interchange-tenant"] == "acme"
    assert door.seen.metadata["x-interchange-roles"] == "trader auditor"


async def test_reflection_and_health_answer_without_a_token(door: Edge) -> None:
    ask = reflection_pb2.ServerReflectionRequest(list_services="")
    shape = reflection_pb2_grpc.ServerReflectionStub(door.channel)
    answers = [each async for each in shape.ServerReflectionInfo(iter([ask]))]
    health = await health_pb2_grpc.HealthStub(door.channel).Check(health_pb2.HealthCheckRequest())

    names = [each.name for each in answers[0].list_services_response.service]
    assert "interchange.trade.v1.TradeService" in names
    assert health.status == health_pb2.HealthCheckResponse.SERVING


async def test_the_access_log_tells_what_was_called_and_by_whom(door: Edge) -> None:
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = {**bearer(), "traceparent": traceparent}
    await door.call("GET", "/v1/trades?account_id=LOGGED", headers=headers)

    line = await eventually(lambda: _logged(door, traceparent))

    assert door.seen.metadata["traceparent"] == traceparent
    assert line["path"] == "/v1/trades"
    assert line["method"] == "GET"
    assert line["tenant"] == "acme"
    assert line["upstream_cluster"] == "trade"
    assert line["status"] == 200


def _logged(door: Edge, traceparent: str) -> Any:
    lines = [json.loads(line) for line in door.log.read_text().splitlines()]
    return next((line for line in lines if line.get("traceparent") == traceparent), None)
