"""A bad trade is refused alike over REST, gRPC and in a batch, and leaves no row behind."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import grpc
import pytest
import pytest_asyncio
from interchange.trade.v1.trade_service_pb2 import BatchCreateTradesRequest

from tests.e2e import desk
from tests.e2e.door import Door
from tests.e2e.refusals import of_error, of_json, of_status
from tests.e2e.world import World, rows_of

INVALID, NOT_FOUND, PRECONDITION = 3, 5, 9
HTTP = {INVALID: 400, NOT_FOUND: 404, PRECONDITION: 400}

QUANTITY = [
    ("zero", "0", "QUANTITY_NOT_POSITIVE"),
    ("negative", "-10", "QUANTITY_NOT_POSITIVE"),
    ("words", "ten", "QUANTITY_NOT_A_NUMBER"),
    ("not a number", "NaN", "QUANTITY_NOT_A_NUMBER"),
    ("infinite", "Infinity", "QUANTITY_NOT_A_NUMBER"),
    ("with a comma", "1,000", "QUANTITY_NOT_A_NUMBER"),
    ("in other digits", "\u0661\u0660", "QUANTITY_NOT_A_NUMBER"),
    ("missing", "", "QUANTITY_MISSING"),
    ("seven decimals", "10.0000001", "QUANTITY_TOO_MANY_DECIMALS"),
    ("off lot", "15", "QUANTITY_OFF_LOT"),
    ("above the limit", "1000000010", "QUANTITY_OUT_OF_RANGE"),
    ("above 64 bits", "1" + 40 * "0", "QUANTITY_OUT_OF_RANGE"),
    ("an endless exponent", "1e999999999", "QUANTITY_OUT_OF_RANGE"),
]
PRICE = [
    ("zero", "0", "PRICE_NOT_POSITIVE"),
    ("negative", "-1", "PRICE_NOT_POSITIVE"),
    ("words", "market", "PRICE_NOT_A_NUMBER"),
    ("missing", "", "PRICE_MISSING"),
    ("nine decimals", "1.000000001", "PRICE_TOO_MANY_DECIMALS"),
    ("off tick", "1.005", "PRICE_OFF_TICK"),
    ("above the limit", "1000000000.01", "PRICE_OUT_OF_RANGE"),
]
LINES: list[tuple[str, dict[str, Any], tuple[int, str, str]]] = [
    ("unknown account", {"accountId": "NOBODY"}, (NOT_FOUND, "ACCOUNT_NOT_FOUND", "account_id")),
    ("no account", {"accountId": ""}, (INVALID, "ACCOUNT_ID_INVALID", "account_id")),
    ("odd account", {"accountId": "a\0b"}, (INVALID, "ACCOUNT_ID_INVALID", "account_id")),
    (
        "unknown instrument",
        {"instrumentId": "NOTHING"},
        (NOT_FOUND, "INSTRUMENT_NOT_FOUND", "instrument_id"),
    ),
    ("no instrument", {"instrumentId": ""}, (INVALID, "INSTRUMENT_ID_INVALID", "instrument_id")),
    (
        "halted instrument",
        {"instrumentId": "<halted>"},
        (PRECONDITION, "INSTRUMENT_HALTED", "instrument_id"),
    ),
    ("other currency", {"currency": "EUR"}, (INVALID, "CURRENCY_MISMATCH", "currency")),
    ("unknown currency", {"currency": "ZZZ"}, (INVALID, "CURRENCY_MISMATCH", "currency")),
    ("no currency", {"currency": ""}, (INVALID, "CURRENCY_MISMATCH", "currency")),
    *(
        (f"quantity {name}", {"quantity": {"value": value}}, (INVALID, reason, "quantity"))
        for name, value, reason in QUANTITY
    ),
    *(
        (f"price {name}", {"price": {"value": value}}, (INVALID, reason, "price"))
        for name, value, reason in PRICE
    ),
    (
        "amount above the limit",
        {"quantity": {"value": "1000000000"}, "price": {"value": "1000000000"}},
        (INVALID, "GROSS_AMOUNT_OUT_OF_RANGE", "price"),
    ),
    (
        "fees negative",
        {"fees": {"currencyCode": "USD", "units": "-1"}},
        (INVALID, "FEES_NEGATIVE", "fees"),
    ),
    (
        "fees in another currency",
        {"fees": {"currencyCode": "EUR", "units": "1"}},
        (INVALID, "FEES_CURRENCY_MISMATCH", "fees"),
    ),
    (
        "fees finer than a cent",
        {"fees": {"currencyCode": "USD", "nanos": 1}},
        (INVALID, "FEES_TOO_MANY_DECIMALS", "fees"),
    ),
    (
        "fees of two signs",
        {"fees": {"currencyCode": "USD", "units": "1", "nanos": -10_000_000}},
        (INVALID, "FEES_NOT_A_NUMBER", "fees"),
    ),
    (
        "from the future",
        {"tradeTime": "2999-01-01T00:00:00Z"},
        (INVALID, "TRADE_TIME_IN_FUTURE", "trade_time"),
    ),
    (
        "before all time",
        {"tradeTime": "1969-12-31T23:59:59Z"},
        (INVALID, "TRADE_TIME_INVALID", "trade_time"),
    ),
    ("no side", {"side": 0}, (INVALID, "SIDE_MISSING", "side")),
    ("unknown side", {"side": 7}, (INVALID, "SIDE_UNKNOWN", "side")),
    ("unknown venue", {"venue": "nyse"}, (INVALID, "VENUE_INVALID", "venue")),
    ("no key", {"requestId": ""}, (INVALID, "IDEMPOTENCY_KEY_MISSING", "request_id")),
    ("a long key", {"requestId": 65 * "k"}, (INVALID, "REQUEST_ID_INVALID", "request_id")),
    ("an unprintable key", {"requestId": "a\nb"}, (INVALID, "REQUEST_ID_INVALID", "request_id")),
    (
        "an id of no system",
        {"externalId": "1"},
        (INVALID, "EXTERNAL_SOURCE_INVALID", "external_source"),
    ),
]


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
    ("changes", "expected"), [line[1:] for line in LINES], ids=[line[0] for line in LINES]
)
async def test_a_bad_trade(
    world: World, changes: dict[str, Any], expected: tuple[int, str, str]
) -> None:
    body = desk.good_trade(world) | changes
    if body["instrumentId"] == "<halted>":
        body["instrumentId"] = desk.halted(world)
    message = desk.as_message(body)

    status, problem = await world.caller.rest("POST", "/v1/trades", json=body)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.caller.call("CreateTrade", message)
    batch = BatchCreateTradesRequest(requests=[message])
    results = (await world.caller.call("BatchCreateTrades", batch)).results

    assert (status, of_json(problem)) == (HTTP[expected[0]], expected)
    assert of_error(caught.value) == expected
    assert [of_status(result.error) for result in results] == [expected]


async def test_all_that_is_wrong_is_told_at_once(world: World) -> None:
    wrong = {"quantity": {"value": "15"}, "price": {"value": "0.005"}, "currency": "EUR"}

    _, problem = await world.caller.rest(
        "POST", "/v1/trades", json=desk.good_trade(world) | wrong | {"fees": None}
    )

    fields = {each["field"] for each in problem["details"][1]["fieldViolations"]}
    assert fields == set(wrong)


@pytest.mark.parametrize("count", [0, 1001])
async def test_a_batch_of_none_or_too_many(world: World, count: int) -> None:
    body = [desk.good_trade(world) for _ in range(count)]
    expected = (INVALID, "BATCH_SIZE_INVALID", "requests")

    status, problem = await world.caller.rest(
        "POST", "/v1/trades:batchCreate", json={"requests": body}
    )
    batch = BatchCreateTradesRequest(requests=map(desk.as_message, body))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.caller.call("BatchCreateTrades", batch)

    assert (status, of_json(problem)) == (400, expected)
    assert of_error(caught.value) == expected


@pytest.mark.parametrize(
    ("rpc", "path"),
    [("CreateTrade", "/v1/trades"), ("BatchCreateTrades", "/v1/trades:batchCreate")],
)
async def test_an_unknown_wait(world: World, rpc: str, path: str) -> None:
    body = desk.good_trade(world)
    body = ({"requests": [body]} if rpc.startswith("Batch") else body) | {"waitFor": 9}

    status, problem = await world.caller.rest("POST", path, json=body)

    assert (status, of_json(problem)) == (400, (INVALID, "WAIT_FOR_UNKNOWN", "wait_for"))
