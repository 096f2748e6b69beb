"""One mesh, three faces: gRPC, gRPC-Web and REST answer alike, and tell what they are."""

import base64
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf import json_format
from google.protobuf.message import Message
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.e2e.catalog import OF_THE_MOMENT, RPC, RPCS, Rpc
from tests.e2e.door import Door
from tests.e2e.filling import requests
from tests.e2e.world import World, full

READS = [
    rpc
    for rpc in RPCS
    if rpc.safe and rpc.faces and not rpc.server_streaming and rpc.name not in OF_THE_MOMENT
]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(door: Door) -> World:
    return await full(door)


async def by_web(world: World, rpc: Rpc, request: Message, kind: str) -> Any:
    """Call by gRPC-Web, as a browser does."""
    message = request.SerializeToString()
    frame = b"\0" + len(message).to_bytes(4, "big") + message
    text = kind.endswith("text")
    headers = {**world.caller.headers, "content-type": kind, "accept": kind, "x-grpc-web": "1"}
    body = base64.b64encode(frame) if text else frame
    async with world.caller.door.http.post(rpc.path, data=body, headers=headers) as answer:
        assert answer.status == 200
        received = await answer.read()
    if text:  # padded piece by piece
        pieces = (received[at : at + 4] for at in range(0, len(received), 4))
        received = b"".join(map(base64.b64decode, pieces))
    length = int.from_bytes(received[1:5], "big")
    assert b"grpc-status:0" in received[5 + length :]
    return rpc.response.FromString(received[5 : 5 + length])


async def by_rest(world: World, rpc: Rpc, request: Message) -> Any:
    """Call the REST face: what is not in the path is a parameter, or the body."""
    fields = json_format.MessageToDict(request, preserving_proto_field_name=True)
    verb, path = rpc.faces[0]
    for name in list(fields):
        if f"{{{name}}}" in path:
            path = path.replace(f"{{{name}}}", fields.pop(name))
    rest = {"params": fields} if verb == "GET" else {"json": fields}
    status, answer = await world.caller.rest(verb, path, **rest)
    assert status == 200, answer
    return json_format.ParseDict(answer, rpc.response())


@pytest.mark.parametrize("rpc", READS, ids=str)
async def test_a_read_is_the_same_by_every_face(world: World, rpc: Rpc) -> None:
    request = requests(rpc, world)[0]

    answer = await world.caller.call(rpc.name, request)

    assert answer.ListFields()
    assert await by_rest(world, rpc, request) == answer
    assert await by_web(world, rpc, request, "application/grpc-web+proto") == answer
    assert await by_web(world, rpc, request, "application/grpc-web-text") == answer


async def test_a_trade_booked_by_one_face_is_answered_by_the_others(world: World) -> None:
    rpc = RPC["CreateTrade"]
    request = requests(rpc, world)[0]
    request.request_id, request.external_id = "faces", "faces"

    answers = [
        await by_web(world, rpc, request, "application/grpc-web+proto"),
        await world.caller.call(rpc.name, request),
    ]
    status, booked = await world.caller.rest(
        "POST", "/v1/trades", json=json_format.MessageToDict(request)
    )

    assert status == 200
    assert {answer.trade_id for answer in answers} == {booked["tradeId"]}


async def test_the_mesh_tells_all_its_services(door: Door) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(door.channel)
    ask = reflection_pb2.ServerReflectionRequest(list_services="")

    answers = [each async for each in stub.ServerReflectionInfo(iter([ask]))]

    told = {each.name for each in answers[0].list_services_response.service}
    assert {rpc.service for rpc in RPCS} <= told
