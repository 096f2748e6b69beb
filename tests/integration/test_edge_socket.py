"""The way of a WebSocket through the door: by which token, told what, and how many."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
import pytest_asyncio
from aiohttp import web
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc

from services.stack.collector import Collector, SpanFile
from tests.integration.test_edge_scene import (
    FOREIGN_KEY,
    Edge,
    bearer,
    edge,
    eventually,
    free_ports,
    token,
)

SPOOFED = {
    "x-interchange-tenant": "evil",
    "x-interchange-subject": "mallory",
    "x-interchange-roles": "supervisor",
    "x-interchange-expires": "9999999999",
    "x-interchange-token": "spoofed",
}
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def echo(request: web.Request) -> web.WebSocketResponse:
    """Tell what the gateway was told, then repeat what is said."""
    protocols = request.headers.get("sec-websocket-protocol", "").split(", ")
    socket = web.WebSocketResponse(protocols=protocols[:1])
    await socket.prepare(request)
    known = {k: v for k, v in request.headers.items() if k.startswith("x-interchange-")}
    await socket.send_json({"path": request.path_qs, **known})
    async for message in socket:
        await socket.send_str(message.data)
    return socket


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gateway() -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_get("/v1/ws", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    (port,) = free_ports(1)
    await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
    yield port
    await runner.cleanup()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def door(gateway: int, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    # One of the two never answers: whoever is sent there must not notice.
    endpoints = [("127.0.0.1", gateway), ("127.0.0.1", free_ports(1)[0])]
    async with edge(tmp_path_factory.mktemp("edge"), gateway=endpoints) as running:
        yield running


async def told(door: Edge, path: str = "/v1/ws", **options: Any) -> Any:
    async with door.http.ws_connect(path, **options) as socket:
        return await socket.receive_json()


async def refused(door: Edge, path: str = "/v1/ws", **options: Any) -> int:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await door.http.ws_connect(path, **options)
    return caught.value.status


async def test_a_client_speaks_to_the_gateway(door: Edge) -> None:
    async with door.http.ws_connect("/v1/ws", headers=bearer()) as socket:
        await socket.receive_json()

        await socket.send_str("hello")
        assert await socket.receive_str() == "hello"


async def test_the_gateway_learns_who_calls_and_until_when(door: Edge) -> None:
    expiry = int(time.time()) + 77
    expected = {
        "path": "/v1/ws",
        "x-interchange-tenant": "acme",
        "x-interchange-subject": "alice",
        "x-interchange-roles": "trader auditor",
        "x-interchange-expires": str(expiry),
    }

    assert await told(door, headers=bearer(exp=expiry)) == expected
    assert await told(door, f"/v1/ws?access_token={token(exp=expiry)}") == expected


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("access_token={}&topic=1", "?topic=1"),
        ("topic=1&access_token={}", "?topic=1"),
        ("a=1&access_token={}&b=%20", "?a=1&b=%20"),
        ("access_token=old&access_token={}", ""),
    ],
)
async def test_the_token_leaves_the_query_and_the_rest_stays(
    door: Edge, query: str, left: str
) -> None:
    seen = await told(door, "/v1/ws?" + query.format(token()))

    assert (seen["path"], seen["x-interchange-subject"]) == (f"/v1/ws{left}", "alice")


async def test_a_token_that_comes_later_is_the_gateways_to_verify(door: Edge) -> None:
    in_protocol = await told(door, protocols=("interchange.v1", token()))
    in_frame = await told(door)
    empty = await told(door, "/v1/ws?access_token=&topic=1")

    assert in_protocol == in_frame == {"path": "/v1/ws"}
    assert empty == {"path": "/v1/ws?topic=1"}


async def test_identity_claimed_in_headers_is_dropped(door: Edge) -> None:
    assert await told(door, headers=SPOOFED) == {"path": "/v1/ws"}

    seen = await told(door, headers={**SPOOFED, **bearer()})
    assert not set(SPOOFED.values()) & set(seen.values())
    assert "x-interchange-token" not in seen


async def test_a_second_token_goes_no_further(door: Edge) -> None:
    seen = await told(door, f"/v1/ws?access_token={token(sub='bob')}", headers=bearer())

    assert (seen["path"], seen["x-interchange-subject"]) == ("/v1/ws", "alice")
    assert "x-interchange-token" not in seen


@pytest.mark.parametrize(
    "claims",
    [{"exp": 1}, {"aud": "me"}, {"key": FOREIGN_KEY}, {"exp": None}],
    ids=["expired", "audience", "key", "endless"],
)
async def test_a_bad_token_is_refused_where_a_missing_one_passes(
    door: Edge, claims: dict[str, Any]
) -> None:
    assert await refused(door, headers=bearer(**claims)) == 401
    assert await refused(door, f"/v1/ws?access_token={token(**claims)}") == 401


async def test_garbage_and_the_role_of_services_are_refused(door: Edge) -> None:
    assert await refused(door, "/v1/ws?access_token=bad") == 401
    assert await refused(door, headers={"authorization": "Bearer bad"}) == 401
    assert await refused(door, headers=bearer(roles="customer mesh")) == 403


@pytest.mark.parametrize("path", ["/v1/ws/", "/v1/ws2", "/v1/ws/x"])
async def test_only_the_socket_itself_may_bring_its_token_later(door: Edge, path: str) -> None:
    # No other path takes an upgrade; without one it needs a token as ever.
    assert await refused(door, path) == 403
    assert await refused(door, path + f"?access_token={token()}") == 403
    assert (await door.call("GET", path, headers={}))[0] == 401


async def test_a_token_in_the_query_opens_nothing_else(door: Edge) -> None:
    status, _ = await door.call("GET", f"/v1/trades?access_token={token()}", headers={})

    assert status == 401


async def test_no_service_but_the_gateway_is_told_when_a_token_runs_out(door: Edge) -> None:
    await door.call("GET", "/v1/trades")

    assert "x-interchange-expires" not in door.seen.metadata


async def test_a_thousand_sockets_come_at_once_and_all_stay(door: Edge) -> None:
    async def come(number: int) -> aiohttp.ClientWebSocketResponse:
        return await http.ws_connect("/v1/ws", headers=headers)

    headers = bearer()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(door.http._base_url, connector=connector) as http:
        sockets = await asyncio.gather(*(come(number) for number in range(1000)))
        for socket in sockets:
            await socket.receive_json()
        for socket in sockets:
            await socket.send_str("still here")
        answers = [await socket.receive_str() for socket in sockets]
        await asyncio.gather(*(socket.close() for socket in sockets))

    assert answers == ["still here"] * 1000


async def test_tokens_are_in_no_log_and_no_trace(gateway: int, tmp_path: Path) -> None:
    good, bad = token(), token(key=FOREIGN_KEY)
    spans = SpanFile(tmp_path / "spans.jsonl", 10_000_000)
    server = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Collector(spans), server)
    collector = ("127.0.0.1", server.add_insecure_port("127.0.0.1:0"))
    await server.start()
    options: dict[str, Any] = {"collector": collector, "trace_ratio": 1.0}
    traced = {"traceparent": TRACEPARENT}

    async with edge(tmp_path, [("127.0.0.1", gateway)], **options) as door:
        await told(door, f"/v1/ws?access_token={good}", headers=traced)
        await refused(door, f"/v1/ws?access_token={bad}", headers=traced)
        both = {**traced, **bearer()}
        await told(door, f"/v1/ws?access_token={good}", headers=both)
        await told(door, protocols=("interchange.v1", good), headers=traced)
        log = await eventually(lambda: _lines(door.log, 4))
        written = await eventually(lambda: _spans(spans, 4), seconds=15)
    await server.stop(None)

    everything = log + written
    for each in (good, bad):
        assert each not in everything
        assert each.rpartition(".")[2] not in everything
    assert {json.loads(line)["path"] for line in log.splitlines()} == {"/v1/ws"}
    assert "/v1/ws" in written


def _lines(path: Path, count: int) -> str | None:
    text = "".join(line for line in path.read_text().splitlines(True) if "/v1/ws" in line)
    return text if text.count("\n") == count else None


def _spans(spans: SpanFile, count: int) -> str | None:
    found = [json.dumps(span) for span in spans.read()]
    return "\n".join(found) if sum("/v1/ws" in span for span in found) >= count else None
