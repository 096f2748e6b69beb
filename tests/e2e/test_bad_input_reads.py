"""Reads that ask for what can't be: events that never come, pages of other lists."""

from typing import Any

import grpc
import pytest
import pytest_asyncio

from tests.e2e import desk
from tests.e2e.catalog import RPC, RPCS, Rpc
from tests.e2e.door import Door
from tests.e2e.filling import requests
from tests.e2e.refusals import Refusal, of_error, of_json
from tests.e2e.world import World

SHORT_S = 0.6
NEVER = 2**62
INVALID, PRECONDITION = 3, 9


def taking(field: str) -> list[Any]:
    """Return the rpcs whose request has a field, with their names."""
    return [
        pytest.param(rpc, id=rpc.name)
        for rpc in RPCS
        if field in rpc.request.DESCRIPTOR.fields_by_name
    ]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(door: Door) -> World:
    return await desk.opened(door)


async def refused(world: World, rpc: Rpc, timeout_s: float = 10, **changes: Any) -> Refusal:
    """Return how a request is refused that is good but for the changes."""
    request: Any = requests(rpc, world)[0]
    for name, value in changes.items():
        setattr(request, name, value)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.caller.any(rpc, request, timeout_s)
    return of_error(caught.value)


@pytest.mark.parametrize("rpc", taking("min_sequence"))
async def test_an_event_that_never_comes(world: World, rpc: Rpc) -> None:
    answer = await refused(world, rpc, SHORT_S, min_sequence=NEVER)

    assert answer == (PRECONDITION, "NOT_YET_APPLIED", "")


async def test_an_event_that_never_comes_over_rest(world: World) -> None:
    path = f"/v1/accounts/{world.accounts[0]}/positions/{world.instruments[0]}"
    deadline = {"grpc-timeout": f"{int(1000 * SHORT_S)}m"}

    status, problem = await world.caller.rest(
        "GET", f"{path}?min_sequence={NEVER}", headers=deadline
    )

    assert (status, of_json(problem)) == (400, (PRECONDITION, "NOT_YET_APPLIED", ""))


@pytest.mark.parametrize("field", ["min_sequence", "min_transfer_sequence", "page_size"])
@pytest.mark.parametrize("value", [-1, -(2**31)])
async def test_a_negative_number(world: World, field: str, value: int) -> None:
    for rpc in RPCS:
        if field in rpc.request.DESCRIPTOR.fields_by_name:
            answer = await refused(world, rpc, **{field: value})
            assert answer == (INVALID, "INVALID_FIELD", field), rpc.name


@pytest.mark.parametrize("rpc", taking("page_size"))
async def test_a_page_beyond_the_limit(world: World, rpc: Rpc) -> None:
    answer = await refused(world, rpc, page_size=1001)

    assert answer == (INVALID, "INVALID_FIELD", "page_size")


@pytest.mark.parametrize("token", ["garbage", "W10", "WyJhIl0", "%%%%", "\u00e9", "bnVsbA"])
@pytest.mark.parametrize("rpc", taking("page_token"))
async def test_a_page_token_that_is_none(world: World, rpc: Rpc, token: str) -> None:
    answer = await refused(world, rpc, page_token=token)

    assert answer == (INVALID, "INVALID_PAGE_TOKEN", "page_token")


@pytest.mark.parametrize("rpc", taking("page_token"))
async def test_a_page_token_of_another_list(world: World, rpc: Rpc) -> None:
    for other in RPCS:
        if other is rpc or "page_token" not in other.request.DESCRIPTOR.fields_by_name:
            continue
        first: Any = requests(other, world)[0]
        first.page_size = 1
        token = (await world.caller.any(other, first)).next_page_token
        assert token, other.name

        answer = await refused(world, rpc, page_token=token)

        assert answer == (INVALID, "INVALID_PAGE_TOKEN", "page_token"), other.name


async def test_a_page_token_of_the_same_list_for_another_account(world: World) -> None:
    for rpc in RPCS:
        if not {"page_token", "account_id"} <= set(rpc.request.DESCRIPTOR.fields_by_name):
            continue
        first: Any = requests(rpc, world)[0]
        first.page_size = 1
        token = (await world.caller.any(rpc, first)).next_page_token
        other = next(name for name in world.accounts if name != first.account_id)

        answer = await refused(world, rpc, page_token=token, account_id=other)

        assert answer == (INVALID, "INVALID_PAGE_TOKEN", "page_token"), rpc.name


@pytest.mark.parametrize("name", ["GetTrade", "GetTransfer", "GetJournal"])
@pytest.mark.parametrize("given", ["", "1", "not-a-uuid", "01890a5d-ac96-774b-bcce-b302099a805"])
async def test_an_id_that_is_none(world: World, name: str, given: str) -> None:
    field = RPC[name].request.DESCRIPTOR.fields[0].name

    answer = await refused(world, RPC[name], **{field: given})

    assert answer == (INVALID, "INVALID_FIELD", field)
