"""The identity service called over gRPC, its tokens shown to a real edge."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from interchange.identity.v1.identity_service_pb2 import CreateVisitorRequest
from interchange.identity.v1.identity_service_pb2_grpc import IdentityServiceStub

from services.common import tokens
from services.common.config import Settings
from services.common.host import Host
from services.identity.__main__ import wire
from tests.integration.test_edge_scene import KEY, Edge, edge

KEYS = tokens.public_keys(tokens.key_set(KEY))


@pytest.fixture(scope="module")
async def stub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Any]:
    file = tmp_path_factory.mktemp("identity") / "token_key.json"
    file.write_text(json.dumps(KEY.as_dict(private=True)))
    host = Host(Settings(listen="127.0.0.1:0", token_key_file=file, drain_notice_ms=0))
    await wire(host)
    await host.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{host.port}") as channel:
        yield IdentityServiceStub(channel)
    await host.leave()


async def create(stub: Any, tenant: str, roles: str = "widget") -> Any:
    headers = (
        ("x-interchange-tenant", tenant),
        ("x-interchange-subject", "page"),
        ("x-interchange-roles", roles),
    )
    return await stub.CreateVisitor(CreateVisitorRequest(), metadata=headers, timeout=10)


async def test_a_visitor_belongs_to_the_tenant_of_the_page(stub: Any) -> None:
    first, second = await create(stub, "acme"), await create(stub, "globex")

    for visitor, tenant in ((first, "acme"), (second, "globex")):
        claims = tokens.verify(visitor.token, KEYS)
        assert claims.caller.tenant_id == tenant
        assert claims.caller.subject == visitor.customer_id
        assert claims.caller.roles == ("customer",)
        assert claims.expire_s == visitor.expire_time.seconds
    assert first.customer_id != second.customer_id


@pytest.mark.parametrize("roles", ["customer", "agent", "mesh", "auditor"])
async def test_only_a_web_page_makes_visitors(stub: Any, roles: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await create(stub, "acme", roles)

    metadata = dict(caught.value.trailing_metadata() or ())
    info = error_details_pb2.ErrorInfo()
    status_pb2.Status.FromString(metadata["grpc-status-details-bin"]).details[0].Unpack(info)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert info.metadata["permission"] == "identity.visit"


async def test_the_edge_takes_a_visitors_token(stub: Any, tmp_path: Path) -> None:
    visitor = await create(stub, "acme")

    async with edge(tmp_path) as door:
        assert await _seen(door, visitor.token) == ("acme", visitor.customer_id, "customer")


async def _seen(door: Edge, token: str) -> tuple[str, ...]:
    status, _ = await door.call("GET", "/v1/trades", headers={"authorization": f"Bearer {token}"})
    assert status == 200
    names = ("x-interchange-tenant", "x-interchange-subject", "x-interchange-roles")
    return tuple(door.seen.metadata[name] for name in names)
