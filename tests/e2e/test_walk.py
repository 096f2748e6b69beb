"""Booking as its callers know it: once, with its answer, in order, each for itself."""

import asyncio
import json
import uuid
from typing import Any

import pytest_asyncio
from interchange.trade.v1.trade_service_pb2 import (
    GetTradeRequest,
    ListTradesRequest,
    StreamTradesRequest,
)

from tests.e2e import desk
from tests.e2e.door import Door
from tests.e2e.refusals import of_json
from tests.e2e.world import World, namesake, trade_request

CALLERS = 50


@pytest_asyncio.fixture(loop_scope="session")
async def world(door: Door) -> World:
    """A tenant with one account and one instrument, and no trade."""
    mark = f"W{uuid.uuid4().hex[:8].upper()}"
    names = World(door.caller(), mark, instruments=[f"{mark}-TEN"], accounts=[f"{mark}.1"])
    world = await namesake(door, names)
    world.mark = mark
    return world


async def book(world: World, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Book by REST; return the answer without how far processing had come by then."""
    status, answer = await world.caller.rest("POST", "/v1/trades", json=body)
    answer.pop("processingState", None)
    return status, answer


async def booked(world: World) -> int:
    listed = await world.caller.call("ListTrades", ListTradesRequest(page_size=1000))
    return len(listed.trades)


async def test_a_trade_is_booked_and_answered(world: World) -> None:
    body = desk.good_trade(world)

    status, trade = await world.caller.rest("POST", "/v1/trades", json=body)

    assert status == 200
    assert trade["processingState"] == "PROCESSING_STATE_ACCEPTED"
    assert (trade["accountId"], trade["instrumentId"]) == (body["accountId"], body["instrumentId"])
    assert (trade["sequence"], trade["version"], trade["side"]) == ("1", 1, "SIDE_BUY")
    assert (trade["quantity"], trade["price"]) == ({"value": "10"}, {"value": "101.25"})
    assert trade["grossAmount"] == {"currencyCode": "USD", "units": "1012", "nanos": 500_000_000}


async def test_the_same_call_again_is_the_same_answer(world: World) -> None:
    body = desk.good_trade(world)
    first = await book(world, body)

    again = [await book(world, body) for _ in range(3)]

    assert [json.dumps(one) for one in again] == 3 * [json.dumps(first)]
    assert await booked(world) == 1


async def test_a_key_used_for_another_trade_is_409(world: World) -> None:
    body = desk.good_trade(world)
    await book(world, body)

    status, problem = await world.caller.rest(
        "POST", "/v1/trades", json=body | {"quantity": {"value": "20"}}
    )

    assert (status, of_json(problem)) == (409, (6, "IDEMPOTENCY_KEY_REUSED", "request_id"))
    assert await booked(world) == 1


async def test_an_external_id_used_for_another_trade_is_409(world: World) -> None:
    body = desk.good_trade(world) | {"externalSource": "oms", "externalId": "7"}
    await book(world, body)

    status, problem = await world.caller.rest(
        "POST", "/v1/trades", json=body | {"price": {"value": "99"}, "requestId": "another"}
    )

    assert (status, of_json(problem)) == (409, (6, "EXTERNAL_ID_REUSED", "external_id"))
    assert await booked(world) == 1


async def test_garbage_is_400_and_uses_up_no_key(world: World) -> None:
    body = desk.good_trade(world)

    status, problem = await world.caller.rest(
        "POST", "/v1/trades", json=body | {"quantity": {"value": "much"}}
    )

    assert (status, of_json(problem)) == (400, (3, "QUANTITY_NOT_A_NUMBER", "quantity"))
    assert (await book(world, body))[0] == 200


async def test_one_bad_trade_in_a_thousand_leaves_999(world: World) -> None:
    requests = [desk.good_trade(world) for _ in range(1000)]
    requests[417]["quantity"]["value"] = "10.5"

    status, answer = await world.caller.rest(
        "POST", "/v1/trades:batchCreate", json={"requests": requests}
    )

    assert status == 200
    results = answer["results"]
    assert of_json(results.pop(417)["error"]) == (3, "QUANTITY_OFF_LOT", "quantity")
    assert [int(one["trade"]["sequence"]) for one in results] == list(range(1, 1000))
    assert await booked(world) == 999


async def test_fifty_callers_with_one_key_book_once(world: World) -> None:
    body = desk.good_trade(world)

    answers = await asyncio.gather(*(book(world, body) for _ in range(CALLERS)))

    assert answers == CALLERS * [answers[0]]
    assert answers[0][0] == 200
    assert await booked(world) == 1


async def test_trades_stream_and_are_answered_in_order(world: World) -> None:
    chunks = [[desk.as_message(desk.good_trade(world)) for _ in range(100)] for _ in range(10)]
    chunks[3][50].quantity.value = "10.5"
    stream = world.caller.stream("StreamTrades")

    receipts = []
    for chunk in chunks:
        await stream.write(StreamTradesRequest(requests=chunk))
    await stream.done_writing()
    async for answer in stream:
        assert len(answer.receipts) == 100
        receipts += answer.receipts

    refused = receipts.pop(350)
    assert refused.error.code == 3
    assert not refused.trade_id
    assert [receipt.sequence for receipt in receipts] == list(range(1, 1000))
    assert len({receipt.trade_id for receipt in receipts}) == 999


async def test_a_stream_that_is_sent_again_books_nothing_twice(world: World) -> None:
    chunk = StreamTradesRequest(
        requests=[desk.as_message(desk.good_trade(world)) for _ in range(50)]
    )

    stream = world.caller.stream("StreamTrades")
    answers = []
    for _ in range(2):
        await stream.write(chunk)
        answers.append(await stream.read())
    await stream.done_writing()

    first, again = ([one.trade_id for one in answer.receipts] for answer in answers)
    assert first == again
    assert [one.repeated_call for one in answers[1].receipts] == 50 * [True]
    assert await booked(world) == 50


async def test_a_trade_is_read_as_it_was_answered(world: World) -> None:
    _, trade = await book(world, desk.good_trade(world))

    status, read = await world.caller.rest("GET", f"/v1/trades/{trade['tradeId']}")
    by_grpc = await world.caller.call("GetTrade", GetTradeRequest(trade_id=trade["tradeId"]))

    assert status == 200
    assert {key: read[key] for key in trade} == trade
    assert (by_grpc.trade_id, by_grpc.sequence) == (trade["tradeId"], int(trade["sequence"]))


async def test_pages_stay_while_trades_are_booked(world: World) -> None:
    account, instrument = world.accounts[0], world.instruments[0]
    for number in range(6):
        await world.caller.call("CreateTrade", trade_request(account, instrument, f"b{number}"))

    before, path, newer = [], f"/v1/trades?account_id={account}&page_size=2", 0
    token = ""
    while True:
        _, page = await world.caller.rest("GET", f"{path}&page_token={token}")
        before += [int(trade["sequence"]) for trade in page["trades"]]
        newer += 1
        request = trade_request(account, instrument, f"n{newer}")
        await world.caller.call("CreateTrade", request)
        token = page["nextPageToken"]
        if not token:
            break

    assert before == [6, 5, 4, 3, 2, 1]
    assert await booked(world) == 6 + newer
