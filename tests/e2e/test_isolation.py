"""A tenant can't see or change what is another's, by any rpc that there is.

The rpcs come from the descriptor set and their requests are filled by the names
of the fields, so an rpc that is added later is tested without being named.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import grpc
import pytest
import pytest_asyncio
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status

from tests.e2e.catalog import OF_THE_MOMENT, RPCS, Rpc
from tests.e2e.door import Caller, Door
from tests.e2e.filling import ALL_ACCOUNTS, requests
from tests.e2e.world import World, full, namesake, rows_of, telling, texts

WAIT_S = 0.5
"""Deadline of calls that wait for what never comes."""
CALL_S = 10.0
READ_REFUSALS = {"NOT_FOUND", "INVALID_ARGUMENT", "ABORTED"}
"""No such thing, the page token of another; an id that is seconds old, whoever made it up: it
may become known yet."""
WAIT_REFUSALS = {"FAILED_PRECONDITION", "DEADLINE_EXCEEDED"}
"""A wait in vain, as the service says it or, where it has no time left to, the edge."""
WRITE_REFUSALS = {"NOT_FOUND", "ALREADY_EXISTS", "ABORTED"}
"""No such thing; a key that the stranger himself has used a moment before; a young id."""
NAMESAKE_REFUSALS = {"ALREADY_EXISTS", "NOT_FOUND"}
"""It has such a thing itself; or the id was given by the mesh, and is the other's."""

Told = list[tuple[Message, Message | grpc.aio.AioRpcError]]
"""Requests, each with its answer or refusal."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def owner(door: Door, database: asyncpg.Connection) -> AsyncIterator[World]:
    """A tenant with a full set of things; nothing of it may change while others call."""
    world = await full(door)
    world.rows, answers = await rows_of(database, world.tenant), await everything(world)
    yield world
    assert await rows_of(database, world.tenant) == world.rows
    assert await everything(world) == answers


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def secrets(owner: World) -> frozenset[str]:
    """Every text that an answer shows to its owner, names and numbers among them."""
    answers = [*(await everything(owner)).values(), *owner.trades, *owner.transfers]
    found = set(owner.journals).union(*map(telling, answers))
    assert {owner.instruments[0], owner.accounts[0], owner.trades[0].trade_id} <= found
    return frozenset(found)


async def everything(world: World) -> dict[bytes, Message]:
    """Return what its owner is answered by each reading rpc."""
    found = {}
    for rpc in (rpc for rpc in RPCS if rpc.safe and rpc.name not in OF_THE_MOMENT):
        for request in await with_tokens(rpc, world):
            try:
                answer = await world.caller.any(rpc, request)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.NOT_FOUND:
                    raise
                continue  # not every rpc takes `-` for all accounts
            found[rpc.name.encode() + request.SerializeToString()] = answer
    return found


async def with_tokens(rpc: Rpc, world: World) -> list[Message]:
    """Return requests that name the owner's things, and its next pages where there are any."""
    found = requests(rpc, world)
    if "page_token" in rpc.request.DESCRIPTOR.fields_by_name:
        found += [page for request in list(found) for page in await next_page(rpc, request, world)]
    return found


async def next_page(rpc: Rpc, request: Any, world: World) -> list[Message]:
    """Return the request of the page after the first row, with the token its owner was given."""
    following = type(request)()
    following.CopyFrom(request)
    following.page_size = 1
    try:
        following.page_token = (await world.caller.any(rpc, following)).next_page_token
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.NOT_FOUND:
            raise
    everyone = getattr(request, "account_id", "") == ALL_ACCOUNTS
    # Not every list takes `-` for all accounts.
    assert following.page_token or everyone, f"{rpc.name} lists too little to have a second page"
    return [following] if following.page_token else []


def waits(request: Message) -> bool:
    """Tell whether a request asks to wait for an event."""
    return any(field.name.startswith("min_") for field, _ in request.ListFields())


async def told(caller: Caller, rpc: Rpc, asked: list[Message], wait_s: float = WAIT_S) -> Told:
    """Call with each request, all at once."""

    async def one(request: Message) -> Message | grpc.aio.AioRpcError:
        try:
            return await caller.any(rpc, request, wait_s if waits(request) else CALL_S)
        except grpc.aio.AioRpcError as error:
            return error

    return list(zip(asked, await asyncio.gather(*map(one, asked)), strict=True))


def leaked(answers: Told, secrets: frozenset[str]) -> list[str]:
    """Return the secrets that an answer or refusal holds though its request did not."""
    found = []
    for request, answer in answers:
        known = set(texts(request))
        if isinstance(answer, grpc.aio.AioRpcError):
            said = f"{answer.details()} {answer.trailing_metadata()}"
        else:
            said = " ".join(texts(answer))
        found += [one for one in secrets if one in said and not any(one in own for own in known)]
    return found


def numbers(message: Message) -> list[Any]:
    """Return what counts something in a message: numbers, except enums and truths."""
    found = []
    for field, value in message.ListFields():
        many = value if field.is_repeated else (value,)
        for one in many:
            if isinstance(one, Message):
                # What a refusal within a batch counts is its code.
                found += [] if isinstance(one, Status) else numbers(one)
            elif field.enum_type is None and type(one) in (int, float):
                found.append(one)
    return found


@pytest.mark.parametrize("rpc", [rpc for rpc in RPCS if rpc.safe], ids=str)
async def test_the_owner_is_told_what_others_are_not(
    owner: World, secrets: frozenset[str], rpc: Rpc
) -> None:
    answers = await told(owner.caller, rpc, await with_tokens(rpc, owner), CALL_S)

    counted = [numbers(answer) for _, answer in answers if isinstance(answer, Message)]
    assert leaked(answers, secrets) or any(counted)


@pytest.mark.parametrize("rpc", RPCS, ids=str)
async def test_a_stranger_learns_and_changes_nothing(
    door: Door, database: asyncpg.Connection, owner: World, secrets: frozenset[str], rpc: Rpc
) -> None:
    asked = await with_tokens(rpc, owner)

    answers = await told(door.caller(), rpc, asked)

    assert leaked(answers, secrets) == []
    assert await rows_of(database, owner.tenant) == owner.rows
    for request, answer in answers:
        if waits(request):
            assert isinstance(answer, grpc.aio.AioRpcError)
            assert answer.code().name in WAIT_REFUSALS
        elif isinstance(answer, grpc.aio.AioRpcError):
            assert answer.code().name in (READ_REFUSALS if rpc.safe else WRITE_REFUSALS)
        elif rpc.safe:
            assert numbers(answer) == [], answer


@pytest.mark.parametrize("rpc", RPCS, ids=str)
async def test_a_namesake_meets_its_own_things_only(
    door: Door, database: asyncpg.Connection, owner: World, secrets: frozenset[str], rpc: Rpc
) -> None:
    twin = await namesake(door, owner)
    asked = await with_tokens(rpc, owner)

    answers = await told(twin.caller, rpc, asked)

    shared = {*twin.instruments, *twin.accounts, *twin.agents, *twin.bots}
    assert leaked(answers, secrets - shared) == []
    assert await rows_of(database, owner.tenant) == owner.rows
    if not rpc.safe:
        refused = [each for _, each in answers if isinstance(each, grpc.aio.AioRpcError)]
        assert {error.code().name for error in refused} <= NAMESAKE_REFUSALS
