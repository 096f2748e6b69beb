"""gRPC and gRPC-Web through the door, and between services through the egress."""

import base64
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2, status_pb2
from interchange.trade.v1 import trade_pb2, trade_service_pb2, trade_service_pb2_grpc

from tests.integration.test_edge_scene import Edge, bearer, edge

CREATE = "/interchange.trade.v1.TradeService/CreateTrade"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def door(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    async with edge(tmp_path_factory.mktemp("edge")) as running:
        yield running


@pytest.fixture(autouse=True)
def _nothing_seen(door: Edge) -> None:
    door.seen.calls.clear()


@pytest.fixture
def trades(door: Edge) -> Any:
    return trade_service_pb2_grpc.TradeServiceStub(door.channel)


def metadata(**claims: Any) -> tuple[tuple[str, str], ...]:
    return tuple(bearer(**claims).items())


async def test_trades_stream_both_ways(trades: Any) -> None:
    def chunk(number: int) -> Any:
        request = trade_service_pb2.CreateTradeRequest(external_id=f"e-{number}", venue="x" * 500)
        return trade_service_pb2.StreamTradesRequest(requests=[request] * 1000)

    call = trades.StreamTrades(metadata=metadata())
    receipts = []
    for number in range(10):
        await call.write(chunk(number))
        answer = await call.read()
        receipts.append((answer.receipts[0].trade_id, len(answer.receipts)))
    await call.done_writing()

    assert receipts == [(f"e-{number}", 1000) for number in range(10)]
    assert await call.code() is grpc.StatusCode.OK


async def test_details_of_a_refusal_reach_a_grpc_caller(trades: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await trades.GetTrade(trade_service_pb2.GetTradeRequest(), metadata=metadata())

    trailers = dict(caught.value.trailing_metadata())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    status.details[0].Unpack(info)
    assert info.reason == "TRADE_NOT_FOUND"


@pytest.mark.parametrize(
    ("claims", "words"),
    [({"exp": 1}, "Jwt is expired"), ({"aud": "me"}, "Audiences in Jwt are not allowed")],
)
async def test_a_bad_token_is_unauthenticated_in_plain_words(
    trades: Any, claims: dict[str, Any], words: str
) -> None:
    request = trade_service_pb2.ListTradesRequest()

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await trades.ListTrades(request, metadata=metadata(**claims))

    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert caught.value.details() == words


async def test_a_deadline_ends_as_deadline_exceeded(trades: Any) -> None:
    request = trade_service_pb2.CreateTradeRequest(instrument_id="SLOW")

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await trades.CreateTrade(request, metadata=metadata(), timeout=0.2)

    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_an_unknown_method_is_unimplemented(door: Edge) -> None:
    call = door.channel.unary_unary("/interchange.trade.v1.TradeService/Forge")

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"", metadata=metadata())

    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert caught.value.details() == "there is nothing at this path"


async def test_a_service_that_is_down_is_unavailable(door: Edge) -> None:
    call = door.channel.unary_unary("/interchange.account.v1.AccountService/GetAccount")

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"", metadata=metadata())

    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert caught.value.details() == "no healthy upstream"


async def test_json_on_a_grpc_path_has_no_route(door: Edge) -> None:
    status, problem = await door.call("POST", CREATE, json={})

    assert (status, problem["code"]) == (404, 5)


def frame(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


def plain(text: bytes) -> bytes:
    """Decode base64 that was padded piece by piece."""
    return b"".join(base64.b64decode(text[at : at + 4]) for at in range(0, len(text), 4))


@pytest.mark.parametrize("kind", ["application/grpc-web+proto", "application/grpc-web-text"])
async def test_a_browser_books_a_trade_with_grpc_web(door: Edge, kind: str) -> None:
    text = kind.endswith("text")
    body = frame(trade_service_pb2.CreateTradeRequest(account_id="A").SerializeToString())
    headers = {**bearer(), "content-type": kind, "accept": kind, "x-grpc-web": "1"}

    sent = base64.b64encode(body) if text else body
    async with door.http.post(CREATE, data=sent, headers=headers) as answer:
        received = await answer.read()

    received = plain(received) if text else received
    length = int.from_bytes(received[1:5], "big")
    trade = trade_pb2.Trade.FromString(received[5 : 5 + length])
    assert (answer.status, trade.account_id) == (200, "A")
    assert b"grpc-status:0" in received[5 + length :]
    assert door.seen.metadata["x-interchange-tenant"] == "acme"


async def test_a_browser_without_a_token_reads_a_grpc_status(door: Edge) -> None:
    headers = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}

    async with door.http.post(CREATE, data=frame(b""), headers=headers) as answer:
        await answer.read()

    assert answer.headers["grpc-status"] == "16"
    assert answer.headers["grpc-message"] == "Jwt is missing"


async def test_services_call_each_other_as_the_caller_they_serve(door: Edge) -> None:
    stub = trade_service_pb2_grpc.TradeServiceStub(door.egress)
    identity = (("x-interchange-tenant", "acme"), ("x-interchange-subject", "alice"))

    await stub.ListTrades(trade_service_pb2.ListTradesRequest(), metadata=identity)

    assert door.seen.metadata["x-interchange-tenant"] == "acme"
    assert door.seen.metadata["x-interchange-subject"] == "alice"


async def test_the_egress_speaks_no_rest(door: Edge) -> None:
    call = door.egress.unary_unary("/v1/trades")

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"")

    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
