"""From a trade or a deposit to position and ledger, and back to who asks for them."""

import asyncio
import json
import uuid
from typing import Any

import pytest_asyncio
from google.type.decimal_pb2 import Decimal
from interchange.account.v1.account_pb2 import SecurityAmount
from interchange.ledger.v1.ledger_pb2 import (
    SUB_ACCOUNT_PENDING,
    SUB_ACCOUNT_SETTLED,
    SUB_ACCOUNT_STREET_SETTLED,
)
from interchange.ledger.v1.ledger_service_pb2 import (
    CheckLedgerRequest,
    GetBalanceRequest,
    GetTrialBalanceRequest,
)
from interchange.position.v1.position_service_pb2 import (
    GetPositionRequest,
    ListPositionsRequest,
    WatchPositionsRequest,
)
from interchange.trade.v1.trade_pb2 import PROCESSING_STATE_POSTED, SIDE_SELL
from interchange.trade.v1.trade_service_pb2 import GetTradeRequest

from tests.e2e.door import Door
from tests.e2e.world import World, dollars, namesake, trade_request

PATIENCE_S = 15


@pytest_asyncio.fixture(loop_scope="session")
async def world(door: Door) -> World:
    """A tenant with one account and one instrument."""
    mark = f"B{uuid.uuid4().hex[:8].upper()}"
    names = World(door.caller(), mark, instruments=[f"{mark}-1"], accounts=[f"{mark}.1"])
    return await namesake(door, names)


async def balance(world: World, asset: str, sub_account: int, **more: Any) -> str:
    request = GetBalanceRequest(
        account_id=world.accounts[0], asset=asset, sub_account=sub_account, **more
    )
    return str((await world.caller.call("GetBalance", request)).amount.value)


async def test_a_trade_that_is_posted_is_in_position_and_ledger(world: World) -> None:
    account, instrument = world.accounts[0], world.instruments[0]

    trade = await world.buy(account, instrument, "one")

    assert trade.processing_state == PROCESSING_STATE_POSTED
    read = await world.caller.call("GetTrade", GetTradeRequest(trade_id=trade.trade_id))
    assert read.processing_state == PROCESSING_STATE_POSTED
    request = GetPositionRequest(account_id=account, instrument_id=instrument)
    position = await world.caller.call("GetPosition", request)
    assert (position.quantity.value, position.average_cost.value) == ("10", "101.25")
    assert await balance(world, instrument, SUB_ACCOUNT_PENDING) == "10"
    assert await balance(world, "USD", SUB_ACCOUNT_PENDING) == "-1013.5"


async def test_what_was_written_can_be_read_by_its_sequence(world: World) -> None:
    account, instrument = world.accounts[0], world.instruments[0]
    for number in range(5):
        request = trade_request(account, instrument, f"r{number}")
        trade = await world.caller.call("CreateTrade", request)

        wanted = {"account_id": account, "min_sequence": trade.sequence}
        one = GetPositionRequest(instrument_id=instrument, **wanted)
        position = await world.caller.call("GetPosition", one)
        listed = await world.caller.call("ListPositions", ListPositionsRequest(**wanted))
        pending = await balance(world, instrument, SUB_ACCOUNT_PENDING, min_sequence=trade.sequence)

        total = str(10 * (number + 1))
        assert [position.quantity.value, listed.positions[0].quantity.value] == [total, total]
        assert pending == total


async def test_a_deposit_of_cash_is_settled(world: World) -> None:
    await world.deposit(world.accounts[0], "cash", cash=dollars(250))
    await world.posted()

    assert await balance(world, "USD", SUB_ACCOUNT_SETTLED) == "250"
    assert await balance(world, "USD", SUB_ACCOUNT_STREET_SETTLED) == "-250"


async def test_a_deposit_of_securities_is_settled_and_a_position(world: World) -> None:
    account, instrument = world.accounts[0], world.instruments[0]
    bonds = SecurityAmount(
        instrument_id=instrument, quantity=Decimal(value="12.5"), cost=dollars(1000)
    )

    await world.deposit(account, "bonds", security=bonds)
    await world.posted()

    assert await balance(world, instrument, SUB_ACCOUNT_SETTLED) == "12.5"
    request = GetPositionRequest(account_id=account, instrument_id=instrument)
    position = await world.caller.call("GetPosition", request)
    assert (position.quantity.value, position.average_cost.value) == ("12.5", "80")


async def test_a_deposit_sent_twice_is_one(world: World) -> None:
    for _ in range(2):
        await world.deposit(world.accounts[0], "once", cash=dollars(250))
    await world.posted()

    assert world.transfers[0] == world.transfers[1]
    assert await balance(world, "USD", SUB_ACCOUNT_SETTLED) == "250"


async def test_a_round_trip_leaves_its_profit_and_balanced_books(world: World) -> None:
    account, instrument = world.accounts[0], world.instruments[0]
    await world.buy(account, instrument, "buy")
    await world.buy(account, instrument, "sell", side=SIDE_SELL, price=Decimal(value="111.25"))

    request = GetPositionRequest(account_id=account, instrument_id=instrument)
    position = await world.caller.call("GetPosition", request)
    trial = await world.caller.call("GetTrialBalance", GetTrialBalanceRequest())
    check = await world.caller.call("CheckLedger", CheckLedgerRequest())

    assert (position.quantity.value, position.realized_pnl.units) == ("0", 100)
    assert await balance(world, "USD", SUB_ACCOUNT_PENDING) == "98"
    assert trial.balanced
    assert (check.trade_count, check.journal_count) == (2, 2)
    assert check.duplicate_journal_count == 0
    assert [*check.differences, *check.unbalanced_journal_ids] == []


async def test_a_watch_tells_what_is_there_then_what_changes(world: World) -> None:
    account, instrument = world.accounts[0], world.instruments[0]
    await world.buy(account, instrument, "before")

    watch = world.caller.watch("WatchPositions", WatchPositionsRequest(account_id=account))
    first = await watch.read()
    await world.buy(account, instrument, "after")
    second = await watch.read()
    watch.cancel()

    told = [[row.quantity.value for row in answer.positions] for answer in (first, second)]
    assert told == [["10"], ["20"]]


async def test_a_watch_over_rest_is_a_line_a_message(door: Door, world: World) -> None:
    account, instrument = world.accounts[0], world.instruments[0]
    await world.buy(account, instrument, "before")
    path = f"/v1/accounts/{account}/positions:watch"

    async with (
        asyncio.timeout(PATIENCE_S),
        door.http.get(path, headers=world.caller.headers) as answer,
    ):
        first = json.loads(await answer.content.readline())
        await world.buy(account, instrument, "after")
        second = json.loads(await answer.content.readline())

    assert answer.status == 200
    told = [[row["quantity"]["value"] for row in each["positions"]] for each in (first, second)]
    assert told == [["10"], ["20"]]
