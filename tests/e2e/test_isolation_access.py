"""Who may call what: no token, no permission, and tenants that a caller only claims."""

import re
from typing import Any

import grpc
import pytest
from interchange.account.v1.account_service_pb2 import ListAccountsRequest
from interchange.instrument.v1.instrument_service_pb2 import ListInstrumentsRequest

from services.common.identity import MESH, ROLES
from services.common.tokens import ISSUED_ROLES
from tests.e2e.catalog import INTERNAL, RPC, RPCS, Rpc
from tests.e2e.door import Caller, Door
from tests.e2e.refusals import Refusal, of_error, of_json
from tests.e2e.world import World, namesake

PERMISSION_DENIED = grpc.StatusCode.PERMISSION_DENIED.value[0]
UNIMPLEMENTED = grpc.StatusCode.UNIMPLEMENTED.value[0]
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED.value[0]
NO_ROLE = "visitor"
"""A role that holds no permission at all."""
FACES = [(verb, re.sub(r"{[^}]*}", "x", path)) for rpc in RPCS for verb, path in rpc.faces]


async def refused(caller: Caller, rpc: Rpc) -> Refusal:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await caller.any(rpc, None if rpc.client_streaming else rpc.request())
    return of_error(caught.value)


@pytest.mark.parametrize("rpc", RPCS, ids=str)
async def test_a_role_without_the_permission_may_not(door: Door, rpc: Rpc) -> None:
    for role in (NO_ROLE, *(role for role in ISSUED_ROLES if rpc.permission not in ROLES[role])):
        answer = await refused(door.caller(roles=[role]), rpc)
        assert answer == (PERMISSION_DENIED, "PERMISSION_DENIED", ""), role


async def test_no_token_makes_its_bearer_a_service(door: Door) -> None:
    for roles in ([MESH], [*ISSUED_ROLES, MESH]):
        answer = await refused(door.caller(roles=roles), RPC["ListAccounts"])
        assert answer.code == PERMISSION_DENIED


@pytest.mark.parametrize("rpc", RPCS, ids=str)
async def test_nobody_calls_without_a_token(door: Door, rpc: Rpc) -> None:
    nobody = Caller(door, "", token="")

    assert (await refused(nobody, rpc)).code == UNAUTHENTICATED


@pytest.mark.parametrize("rpc", INTERNAL, ids=str)
async def test_nobody_calls_from_outside_what_is_for_services(door: Door, rpc: Rpc) -> None:
    assert (await refused(door.caller(), rpc)).code == UNIMPLEMENTED


@pytest.mark.parametrize(("verb", "path"), FACES)
async def test_nobody_calls_a_rest_path_without_a_token(door: Door, verb: str, path: str) -> None:
    nobody = Caller(door, "", token="")

    status, problem = await nobody.rest(verb, path)

    assert (status, of_json(problem)) == (401, (UNAUTHENTICATED, "TOKEN_MISSING", ""))


@pytest.mark.parametrize(("verb", "path"), FACES)
async def test_a_role_without_the_permission_is_403(door: Door, verb: str, path: str) -> None:
    status, problem = await door.caller(roles=[NO_ROLE]).rest(verb, path)

    assert (status, of_json(problem)) == (403, (PERMISSION_DENIED, "PERMISSION_DENIED", ""))


@pytest.fixture(scope="module")
async def owner(door: Door) -> World:
    return await namesake(door, World(door.caller(), "", instruments=["SPOOFED"], accounts=["S"]))


def claims(tenant: str) -> tuple[tuple[str, str], ...]:
    return (
        ("x-interchange-tenant", tenant),
        ("x-interchange-subject", "somebody"),
        ("x-interchange-roles", " ".join(ROLES)),
    )


@pytest.mark.parametrize("path", ["/v1/accounts/S", "/v1/instruments/SPOOFED"])
async def test_a_tenant_claimed_in_headers_is_not_believed(
    door: Door, owner: World, path: str
) -> None:
    assert (await owner.caller.rest("GET", path))[0] == 200

    status, _ = await door.caller().rest("GET", path, headers=dict(claims(owner.tenant)))

    assert status == 404


async def test_a_tenant_claimed_in_metadata_is_not_believed(door: Door, owner: World) -> None:
    other = door.caller()
    liar = Caller(door, other.tenant, other.token, claims(owner.tenant))

    assert not (await liar.call("ListAccounts", ListAccountsRequest())).accounts
    assert not (await liar.call("ListInstruments", ListInstrumentsRequest())).instruments


@pytest.mark.parametrize("rpc", RPCS, ids=str)
async def test_roles_claimed_in_metadata_are_not_believed(
    door: Door, owner: World, rpc: Rpc
) -> None:
    visitor = door.caller(owner.tenant, roles=[NO_ROLE])
    liar = Caller(door, owner.tenant, visitor.token, claims(owner.tenant))

    assert (await refused(liar, rpc)).code == PERMISSION_DENIED


@pytest.mark.parametrize("extra", [{"tenantId": "evil"}, {"tenant_id": "evil"}])
async def test_a_tenant_claimed_in_a_body_is_no_field(door: Door, extra: dict[str, Any]) -> None:
    body = {"account": {"accountId": "A", "baseCurrency": "USD"}, **extra}

    status, problem = await door.caller().rest("POST", "/v1/accounts", json=body)

    assert (status, of_json(problem).reason) == (400, "UNKNOWN_FIELD")
