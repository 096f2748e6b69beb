"""A tenant for bad input: what is refused must leave every row of it as it was."""

import asyncio
import uuid
from typing import Any

import grpc
from google.protobuf import json_format
from google.type.decimal_pb2 import Decimal
from interchange.instrument.v1.instrument_service_pb2 import HaltInstrumentRequest
from interchange.trade.v1.trade_service_pb2 import CreateTradeRequest

from tests.e2e.door import Door
from tests.e2e.refusals import DETAILS
from tests.e2e.world import World, full, trade_request

PATIENCE_S = 10


async def opened(door: Door) -> World:
    """Return a full tenant that has an instrument in lots of ten, and a halted one."""
    world = await full(door)
    await world.add_instrument(lots_of_ten(world), lot_size=Decimal(value="10"))
    await world.add_instrument(halted(world))
    await world.caller.call("HaltInstrument", HaltInstrumentRequest(instrument_id=halted(world)))
    async with asyncio.timeout(PATIENCE_S):
        await _until_told(world, halted(world), "INSTRUMENT_HALTED")
        await _until_told(world, lots_of_ten(world), "QUANTITY_OFF_LOT")
    return world


async def _until_told(world: World, instrument: str, reason: str) -> None:
    """Wait until the trade service has its copy: ask it for what can never be booked."""
    request = trade_request(world.accounts[0], instrument, "probe", currency="XXX")
    request.quantity.value = "1"
    while True:
        try:
            await world.caller.call("CreateTrade", request)
        except grpc.aio.AioRpcError as error:
            if reason.encode() in dict(error.trailing_metadata() or ())[DETAILS]:
                return
        await asyncio.sleep(0.02)


def lots_of_ten(world: World) -> str:
    return f"{world.mark}-TEN"


def halted(world: World) -> str:
    return f"{world.mark}-HALT"


def good_trade(world: World) -> dict[str, Any]:
    """Return a trade as JSON that would be booked, were it left as it is."""
    request = trade_request(world.accounts[0], lots_of_ten(world), uuid.uuid4().hex)
    return json_format.MessageToDict(request)


def as_message(body: dict[str, Any]) -> CreateTradeRequest:
    """Return the same trade for gRPC."""
    return json_format.ParseDict(body, CreateTradeRequest())
