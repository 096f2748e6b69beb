"""What only services may do: no caller from outside gets there, whatever his token says."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from interchange.session.v1 import session_service_pb2 as pb
from interchange.session.v1.session_service_pb2_grpc import SessionServiceStub
from interchange_envoy import reserved
from interchange_envoy.descriptors import Descriptors

from services.common.identity import MESH
from services.common.tokens import ISSUED_ROLES
from tests.integration.test_edge_scene import DESCRIPTORS, Edge, bearer, edge

INTERNAL = [rpc.path for rpc in Descriptors.read(DESCRIPTORS).rpcs if rpc.internal]
EVERY_ROLE = " ".join(ISSUED_ROLES)
NOTHING_HERE = "there is nothing at this path"
WEB = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
EMPTY_FRAME = bytes(5)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def door(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    async with edge(tmp_path_factory.mktemp("edge")) as running:
        yield running


@pytest.fixture(autouse=True)
def _nothing_seen(door: Edge) -> None:
    door.seen.calls.clear()


def test_there_are_internal_rpcs() -> None:
    assert "/interchange.session.v1.SessionService/AttachSessions" in INTERNAL


async def called(door: Edge, path: str, headers: dict[str, str]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await door.channel.unary_unary(path)(b"", metadata=tuple(headers.items()))
    return caught.value.code(), caught.value.details() or ""


@pytest.mark.parametrize("path", INTERNAL)
async def test_a_caller_with_every_role_finds_nothing(door: Edge, path: str) -> None:
    by_grpc = await called(door, path, bearer(roles=EVERY_ROLE))
    async with door.http.post(
        path, data=EMPTY_FRAME, headers={**bearer(roles=EVERY_ROLE), **WEB}
    ) as by_web:
        await by_web.read()
    by_json, _ = await door.call("POST", path, json={}, headers=bearer(roles=EVERY_ROLE))

    assert by_grpc == (grpc.StatusCode.UNIMPLEMENTED, NOTHING_HERE)
    assert by_web.headers["grpc-status"] == "12"
    assert by_json == 404
    assert door.seen.calls == []


@pytest.mark.parametrize("path", INTERNAL)
async def test_a_stranger_learns_no_more_of_it_than_of_any_path(door: Edge, path: str) -> None:
    by_grpc = await called(door, path, {})
    nowhere = await called(door, "/interchange.session.v1.SessionService/Forge", {})
    async with door.http.post(path, data=EMPTY_FRAME, headers=WEB) as by_web:
        await by_web.read()

    assert by_grpc == nowhere == (grpc.StatusCode.UNAUTHENTICATED, "Jwt is missing")
    assert by_web.headers["grpc-status"] == "16"
    assert door.seen.calls == []


async def test_services_reach_it_through_the_egress(door: Edge) -> None:
    request = pb.HeartbeatInstanceRequest(instance_id="g-1")

    answer = await SessionServiceStub(door.egress).HeartbeatInstance(request)

    assert answer.interval_ms == 5000


async def test_other_rpcs_of_the_same_service_have_all_their_faces(door: Edge) -> None:
    status, session = await door.call("POST", "/v1/sessions/s-1:end", json={})
    await SessionServiceStub(door.channel).EndSession(
        pb.EndSessionRequest(session_id="s-2"), metadata=tuple(bearer().items())
    )

    assert (status, session["sessionId"]) == (200, "s-1")
    assert [request.session_id for _, _, request in door.seen.calls] == ["s-1", "s-2"]


def test_the_edge_knows_the_role_of_services() -> None:
    assert reserved.ROLES == (MESH,)


@pytest.mark.parametrize(
    "roles",
    [MESH, f"customer {MESH}", f"{MESH} customer", f"a {MESH} b", f"a\t{MESH}", f"a,{MESH}"],
)
async def test_a_token_that_gives_the_role_of_services_opens_nothing(
    door: Edge, roles: str
) -> None:
    status, problem = await door.call("GET", "/v1/trades", headers=bearer(roles=roles))
    code, _ = await called(
        door, "/interchange.trade.v1.TradeService/ListTrades", bearer(roles=roles)
    )

    assert (status, problem["code"]) == (403, 7)
    assert problem["details"][0]["reason"] == "ROLE_RESERVED"
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert door.seen.calls == []


@pytest.mark.parametrize("roles", ["meshes", "a-mesh", "mesh_reader", "trader"])
async def test_roles_that_only_look_like_it_pass(door: Edge, roles: str) -> None:
    status, _ = await door.call("GET", "/v1/trades", headers=bearer(roles=roles))

    assert status == 200


async def test_roles_in_an_array_do_not_hide_it(door: Edge) -> None:
    await door.call("GET", "/v1/trades", headers=bearer(roles=[MESH]))

    seen: Any = door.seen.metadata
    assert MESH not in seen["x-interchange-roles"].split()
