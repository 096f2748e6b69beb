"""What the door has only when it is asked for: WebSocket and traces."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from tests.integration.test_edge_scene import Edge, bearer, edge, free_ports, token

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT_ID = "b7ad6b7169203331"


async def echo(request: web.Request) -> web.WebSocketResponse:
    """Tell who is there and with which query, then repeat what is said."""
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await socket.send_str(f"{request.headers['x-interchange-subject']} {request.path_qs}")
    async for message in socket:
        await socket.send_str(message.data)
    return socket


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def door(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    app = web.Application()
    app.router.add_get("/v1/ws", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    (port,) = free_ports(1)
    await web.TCPSite(runner, "127.0.0.1", port).start()
    scratch = tmp_path_factory.mktemp("edge")
    async with edge(scratch, gateway=[("127.0.0.1", port)]) as running:
        yield running
    await runner.cleanup()


async def test_a_client_speaks_to_the_gateway(door: Edge) -> None:
    async with door.http.ws_connect("/v1/ws", headers=bearer()) as socket:
        assert await socket.receive_str() == "alice /v1/ws"

        await socket.send_str("hello")
        assert await socket.receive_str() == "hello"


async def test_a_browser_brings_its_token_in_the_query(door: Edge) -> None:
    path = f"/v1/ws?access_token={token()}&topic=1"

    async with door.http.ws_connect(path) as socket:
        assert await socket.receive_str() == "alice /v1/ws?topic=1"


@pytest.mark.parametrize("path", ["/v1/ws", "/v1/ws?access_token=bad"])
async def test_a_websocket_needs_a_token(door: Edge, path: str) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await door.http.ws_connect(path)

    assert caught.value.status == 401


async def test_a_token_in_the_query_opens_nothing_else(door: Edge) -> None:
    status, _ = await door.call("GET", f"/v1/trades?access_token={token()}", headers={})

    assert status == 401


async def test_the_edge_joins_its_callers_trace(tmp_path: Path) -> None:
    collector = ("127.0.0.1", free_ports(1)[0])  # nobody listens: calls go on all the same

    async with edge(tmp_path, collector=collector, trace_ratio=0.0) as door:
        kept = await traced(door, flags="01")
        dropped = await traced(door, flags="00")
        own = await traced(door)

    assert kept[1] == dropped[1] == TRACE_ID
    assert PARENT_ID not in (kept[2], dropped[2])
    assert [kept[3], dropped[3], own[3]] == ["01", "00", "00"]


async def traced(door: Edge, flags: str | None = None) -> list[str]:
    """Call with a trace decided as `flags` say; return the parts of what the service saw."""
    trace = {"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-{flags}"} if flags else {}
    await door.call("GET", "/v1/trades", headers={**bearer(), **trace})
    return door.seen.metadata["traceparent"].split("-")
