"""Watches of conversations: two instances, a Redis that tells or does not, and who may look."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import grpc
import pytest
from interchange.conversation.v1 import conversation_service_pb2 as rpcs
from interchange.conversation.v1.conversation_service_pb2_grpc import ConversationServiceStub

from services.common.config import Settings
from services.common.host import Host
from services.conversation import watch
from services.conversation.__main__ import wire
from services.stack.stack import Stack
from tests.integration.test_conversation_scene import Caller, Peers, refused, service_settings


@asynccontextmanager
async def instance(settings: Settings) -> AsyncIterator[Any]:
    host = Host(settings)
    await wire(host)
    await host.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{host.port}") as channel:
        yield ConversationServiceStub(channel)
    await host.leave()


@pytest.fixture(scope="module")
def settings(servers: Stack) -> Settings:
    return service_settings(servers)


@pytest.fixture(scope="module")
async def stubs(settings: Settings) -> AsyncIterator[tuple[Any, Any]]:
    """Two instances of the service."""
    async with instance(settings) as here, instance(settings) as there:
        yield here, there


@pytest.fixture
def cleo(stubs: tuple[Any, Any]) -> Caller:
    return Caller(stubs[0], f"t{uuid4().hex[:12]}")


@pytest.fixture
def elsewhere(cleo: Caller, stubs: tuple[Any, Any]) -> Caller:
    """The same customer at the other instance."""
    return Caller(stubs[1], cleo.tenant)


@pytest.mark.parametrize("at", [0, 1])
async def test_a_watch_tells_each_state_to_the_end(
    cleo: Caller, stubs: tuple[Any, Any], settings: Settings, at: int
) -> None:
    """Whether the instance that watches writes, or another one."""
    one = await cleo("StartConversation")
    named = {"conversation_id": one.conversation_id}
    watching = Caller(stubs[at], cleo.tenant).watch(one.conversation_id)
    assert await watching.read() == one
    queued = await cleo("HandOffConversation", **named)
    assert await watching.read() == queued
    Peers(settings, cleo.tenant).matched(queued, "ana")
    assert (await watching.read()).agent_id == "ana"
    ended = await cleo("EndConversation", **named)
    assert await watching.read() == ended
    assert await watching.read() is grpc.aio.EOF


async def test_a_push_is_faster_than_the_poll(
    cleo: Caller, elsewhere: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "POLL_S", 3_600.0)
    one = await cleo("StartConversation")
    watching = elsewhere.watch(one.conversation_id)
    await watching.read()

    ended = await cleo("EndConversation", conversation_id=one.conversation_id)

    assert await watching.read() == ended


async def test_nothing_depends_on_a_push(servers: Stack, settings: Settings) -> None:
    deaf = settings.model_copy(update={"redis_url": "redis://127.0.0.1:9/0"})
    async with instance(deaf) as here, instance(deaf) as there:
        cleo = Caller(here, f"t{uuid4().hex[:12]}")
        one = await cleo("StartConversation")
        watching = Caller(there, cleo.tenant).watch(one.conversation_id)
        await watching.read()

        ended = await cleo("EndConversation", conversation_id=one.conversation_id)

        assert await watching.read() == ended


async def test_who_handed_it_on_is_not_told_any_more(cleo: Caller, settings: Settings) -> None:
    one = await cleo("StartConversation", route=rpcs.ROUTE_QUEUE)
    customers = cleo.watch(one.conversation_id)
    await customers.read()
    Peers(settings, cleo.tenant).matched(one, "ana")
    assert (await customers.read()).agent_id == "ana"
    ana = cleo.agent("ana")
    watching = ana.watch(one.conversation_id)
    await watching.read()

    moved = await ana("TransferConversation", conversation_id=one.conversation_id)

    assert (await refused(watching.read()))[:2] == ("NOT_FOUND", "CONVERSATION_NOT_FOUND")
    assert await customers.read() == moved


async def test_a_stranger_watches_nothing(cleo: Caller) -> None:
    one = await cleo("StartConversation")
    for caller in (cleo.other("carl", "customer"), cleo.agent("ana")):
        watching = caller.watch(one.conversation_id)
        assert (await refused(watching.read()))[:2] == ("NOT_FOUND", "CONVERSATION_NOT_FOUND")


async def test_many_watch_one(cleo: Caller, elsewhere: Caller) -> None:
    one = await cleo("StartConversation")
    watching = [
        caller.watch(one.conversation_id) for caller in (cleo, elsewhere) for _ in range(20)
    ]
    await asyncio.gather(*(each.read() for each in watching))
    for gone in watching[::2]:
        gone.cancel()

    ended = await cleo("EndConversation", conversation_id=one.conversation_id)

    for each in watching[1::2]:
        assert await each.read() == ended
        assert await each.read() is grpc.aio.EOF


async def test_a_watch_ends_when_its_instance_leaves(settings: Settings) -> None:
    host = Host(settings)
    await wire(host)
    await host.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{host.port}") as channel:
        cleo = Caller(ConversationServiceStub(channel), f"t{uuid4().hex[:12]}")
        one = await cleo("StartConversation")
        watching = cleo.watch(one.conversation_id)
        await watching.read()

        await host.leave()

        assert await watching.read() is grpc.aio.EOF
