"""What the door refuses itself: broken JSON, bad tokens, wrong verbs, what is too large."""

import io
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import grpc
import pytest
import pytest_asyncio
from interchange.trade.v1.trade_service_pb2 import (
    BatchCreateTradesRequest,
    StreamTradesRequest,
)
from joserfc.jwk import ECKey

from tests.e2e import desk
from tests.e2e.catalog import RPC
from tests.e2e.door import ALL_ROLES, Caller, Door
from tests.e2e.refusals import of_error, of_json
from tests.e2e.world import World, rows_of

MEGABYTE = 1_000_000
FOREIGN_KEY = ECKey.generate_key("P-256")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(door: Door, database: asyncpg.Connection) -> World:
    world = await desk.opened(door)
    world.rows = await rows_of(database, world.tenant)
    return world


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def _nothing_written(world: World, database: asyncpg.Connection) -> AsyncIterator[None]:
    yield
    assert await rows_of(database, world.tenant) == world.rows


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('{"req', '{"quantty": 1, "req', ("UNKNOWN_FIELD", "quantty")),
        ('{"req', '{"requestId": "a", "req', ("DUPLICATE_FIELD", "requestId")),
        ('{"req', '{"request_id": "a", "req', ("DUPLICATE_FIELD", "requestId")),
        (
            '{"value": "10"}',
            '{"value": "10", "value": "20"}',
            ("DUPLICATE_FIELD", "quantity.value"),
        ),
        ('{"value": "10"}', '"10"', ("WRONG_TYPE", "quantity")),
        ('{"value": "10"}', "10", ("WRONG_TYPE", "quantity")),
        ('"SIDE_BUY"', '"SIDE_HOLD"', ("BAD_REQUEST", "")),
        ('"SIDE_BUY"', '"buy"', ("BAD_REQUEST", "")),
        ('"SIDE_BUY"', "1.5", ("BAD_REQUEST", "")),
        ('"1"}}', '"1"}', ("MALFORMED_JSON", "")),
        ('{"req', "[]", ("MALFORMED_JSON", "")),
        (":", "=", ("MALFORMED_JSON", "requestId")),
    ],
)
async def test_json_that_is_not_a_trade(
    world: World, old: str, new: str, expected: tuple[str, str]
) -> None:
    body = json.dumps(desk.good_trade(world))
    assert old in body

    status, problem = await world.caller.rest("POST", "/v1/trades", data=body.replace(old, new, 1))

    assert (status, of_json(problem)) == (400, (3, *expected))


async def test_a_body_of_20_megabytes(world: World) -> None:
    body = json.dumps(desk.good_trade(world) | {"venue": 20 * MEGABYTE * "X"}).encode()

    status, problem = await world.caller.rest("POST", "/v1/trades", data=io.BytesIO(body))

    assert (status, of_json(problem)) == (413, (3, "BODY_TOO_LARGE", ""))


async def test_a_message_of_5_megabytes(world: World) -> None:
    large = desk.as_message(desk.good_trade(world) | {"venue": 5 * MEGABYTE * "X"})

    for rpc, request in (
        ("CreateTrade", large),
        ("BatchCreateTrades", BatchCreateTradesRequest(requests=[large])),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await world.caller.call(rpc, request)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.caller.any(RPC["StreamTrades"], StreamTradesRequest(requests=[large]))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("name", ["CreateTrade", "StreamTrades"])
async def test_bytes_that_are_no_message(world: World, name: str) -> None:
    metadata = tuple(world.caller.headers.items())
    call = world.caller.door.channel.stream_stream(RPC[name].path)(metadata=metadata)
    await call.write(b"\xff\xff\xff")

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()

    assert of_error(caught.value) == (3, "MALFORMED_MESSAGE", "")


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"exp": int(time.time()) - 60}, "TOKEN_EXPIRED"),
        ({"key": FOREIGN_KEY}, "TOKEN_INVALID"),
        ({"aud": "elsewhere"}, "TOKEN_INVALID"),
        ({"iss": "elsewhere"}, "TOKEN_INVALID"),
        ({"exp": None}, "TOKEN_INVALID"),
        (None, "TOKEN_MISSING"),
    ],
    ids=["expired", "foreign key", "audience", "issuer", "endless", "missing"],
)
async def test_a_token_that_is_none(
    door: Door, world: World, claims: dict[str, Any] | None, reason: str
) -> None:
    token = "" if claims is None else door.token(world.tenant, ALL_ROLES, **claims)
    caller = Caller(door, world.tenant, token)

    status, problem = await caller.rest("POST", "/v1/trades", json=desk.good_trade(world))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await caller.call("CreateTrade", desk.as_message(desk.good_trade(world)))

    assert (status, of_json(problem)) == (401, (16, reason, ""))
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("tenant", ["", "Acme", "a b", "a'; DROP SCHEMA trade; --", 33 * "a"])
async def test_a_tenant_that_is_no_name(door: Door, tenant: str) -> None:
    caller = Caller(door, tenant, door.token(tenant, ALL_ROLES))

    status, _ = await caller.rest("GET", "/v1/trades")

    assert status == 401


@pytest.mark.parametrize(
    ("verb", "path", "expected"),
    [
        ("DELETE", "/v1/trades", (405, 12, "METHOD_NOT_ALLOWED")),
        ("PUT", "/v1/trades", (405, 12, "METHOD_NOT_ALLOWED")),
        ("POST", "/v1/accounts/A/positions", (405, 12, "METHOD_NOT_ALLOWED")),
        ("GET", "/v1/trade", (404, 5, "ROUTE_NOT_FOUND")),
        ("POST", "/v2/trades", (404, 5, "ROUTE_NOT_FOUND")),
        ("GET", "/v1/trades/1/2", (404, 5, "ROUTE_NOT_FOUND")),
        ("POST", RPC["CreateTrade"].path, (404, 5, "ROUTE_NOT_FOUND")),
    ],
)
async def test_nothing_is_there(
    world: World, verb: str, path: str, expected: tuple[int, int, str]
) -> None:
    status, problem = await world.caller.rest(verb, path, json=desk.good_trade(world))

    code, reason, _ = of_json(problem)
    assert (status, code, reason) == expected


async def test_a_method_that_is_none(world: World) -> None:
    path = RPC["CreateTrade"].path.replace("CreateTrade", "DeleteTrade")
    call = world.caller.door.channel.unary_unary(path)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"", metadata=tuple(world.caller.headers.items()))

    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_chunk_of_too_many_ends_its_stream(world: World) -> None:
    trade = desk.as_message(desk.good_trade(world))

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.caller.any(RPC["StreamTrades"], StreamTradesRequest(requests=[trade] * 1001))

    assert of_error(caught.value) == (3, "BATCH_SIZE_INVALID", "requests")
