"""Watches on real servers: history, then live, in order, whatever pushes are lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from interchange.message.v1 import message_service_pb2 as pb

from services.common import clients, redis
from services.common.config import Settings
from services.common.identity import Caller
from services.message import watching
from services.stack.stack import Stack
from tests.integration.test_message_scene import (
    AGENT,
    CUSTOMER,
    Talk,
    applying,
    ended,
    instance,
    refused,
    serving,
    settings,
    stub,
    tails,
    talk,
    told,
)

__all__ = ["instance", "settings", "stub", "talk"]


class Watch:
    """One open stream."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self._stream = call.__aiter__()

    async def next(self, count: int = 1) -> list[Any]:
        async with asyncio.timeout(20):
            return [await anext(self._stream) for _ in range(count)]

    async def end(self) -> tuple[str, str]:
        """Return how the stream ends, with nothing before its end."""
        return await refused(self.next())


@asynccontextmanager
async def watching_of(
    talk: Talk, name: str, after: int = 0, who: tuple[str, str] = CUSTOMER
) -> AsyncIterator[Watch]:
    caller = Caller(talk.tenant, who[0], (who[1],))
    request = pb.WatchMessagesRequest(conversation_id=name, after_sequence=after)
    call = talk.stub.WatchMessages(request, metadata=clients.headers(caller))
    try:
        yield Watch(call)
    finally:
        call.cancel()


async def test_history_comes_first_and_then_what_is_sent(talk: Talk) -> None:
    name = await talk.start("1")
    await talk.send(name, *map(str, range(2, 501)))

    async with watching_of(talk, name, 100) as watch:
        history = await watch.next(400)
        await talk.send(name, "501", "502")
        await talk.apply(await talk.replied(name, "503"), ended(name))
        live = await watch.next(4)

    assert [one.sequence for one in history + live] == list(range(101, 505))
    assert [told(one) for one in live] == [
        "ann:501",
        "ann:502",
        "default:503",
        "3:END_REASON_RESOLVED",
    ]
    assert history + live == (await talk.history(name))[-404:]


async def test_nothing_is_lost_between_history_and_live(talk: Talk) -> None:
    name = await talk.start()

    async def send() -> None:
        for n in range(60):
            await talk.send(name, f"{n}")

    async def watch() -> list[int]:
        async with watching_of(talk, name) as stream:
            return [one.sequence for one in await stream.next(60)]

    sending = asyncio.create_task(send())
    watches = [asyncio.create_task(watch()) for _ in range(3)]
    for n in range(1, 4):
        while (await tails(talk, name))[0].last_sequence < 15 * n:
            pass
        watches.append(asyncio.create_task(watch()))

    await sending
    for found in await asyncio.gather(*watches):
        assert found == list(range(1, 61))


async def test_each_tenth_push_dropped_loses_repeats_and_reorders_nothing(
    servers: Stack, settings: Settings
) -> None:
    dropping = settings.model_copy(update={"push_drop_every": 10, "kafka_topic_prefix": "unused-"})
    async with serving(dropping) as (stub, _), applying(settings) as instance:
        talk = Talk(stub, instance, "t-dropping")
        name = await talk.start()
        async with watching_of(talk, name) as first, watching_of(talk, name, 0) as second:
            for n in range(95):
                await talk.send(name, f"{n}")
            found = [await first.next(95), await second.next(95)]
            # The hundredth push is the last one for now: only a look finds it.
            await talk.send(name, *map(str, range(95, 100)))
            found = [found[0] + await first.next(5), found[1] + await second.next(5)]

    for messages in found:
        assert [one.sequence for one in messages] == list(range(1, 101))


async def test_no_push_at_all_costs_a_moment_and_nothing_more(
    servers: Stack, settings: Settings
) -> None:
    without = settings.model_copy(
        update={"redis_url": "redis://127.0.0.1:9/0", "kafka_topic_prefix": "unused-"}
    )
    async with serving(without) as (stub, _), applying(without) as instance:
        talk = Talk(stub, instance, "t-without-redis")
        name = await talk.start("1")
        async with watching_of(talk, name) as watch:
            await talk.send(name, "2", "3")
            assert [told(one) for one in await watch.next(3)] == ["ann:1", "ann:2", "ann:3"]
            await talk.send(name, "4")
            assert [told(one) for one in await watch.next()] == ["ann:4"]


async def test_agent_who_was_replaced_sees_no_more(talk: Talk) -> None:
    name = await talk.start()
    await talk.assign(name, "ana", 1)
    async with watching_of(talk, name, 0, AGENT) as ana:
        assert len(await ana.next(2)) == 2
        await talk.assign(name, "bea", 2)
        await talk.send(name, "for bea only")

        assert await ana.end() == ("NOT_FOUND", "CONVERSATION_NOT_FOUND")
    async with watching_of(talk, name, 4, ("bea", "agent")) as bea:
        assert [told(one) for one in await bea.next()] == ["ann:for bea only"]


async def test_watch_of_what_is_not_there_is_refused(talk: Talk) -> None:
    name = await talk.start("hello")
    for after, who, error in (
        (0, ("bob", "customer"), ("NOT_FOUND", "CONVERSATION_NOT_FOUND")),
        (0, AGENT, ("NOT_FOUND", "CONVERSATION_NOT_FOUND")),
        (2, CUSTOMER, ("FAILED_PRECONDITION", "HISTORY_GONE")),
    ):
        async with watching_of(talk, name, after, who) as watch:
            assert await watch.end() == error


async def test_watches_end_when_the_server_leaves(servers: Stack, settings: Settings) -> None:
    leaving = settings.model_copy(update={"kafka_topic_prefix": "unused-"})
    async with applying(settings) as instance, serving(leaving) as (stub, host):
        talk = Talk(stub, instance, "t-leaving")
        name = await talk.start("hello")
        async with watching_of(talk, name) as watch:
            assert len(await watch.next()) == 1
            host.stop()

            assert await watch.end() == ("UNAVAILABLE", "DRAINING")


async def test_too_many_watchers_are_refused(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    name = await talk.start("hello")
    monkeypatch.setattr(watching, "WATCHERS_MAX", 1)
    async with watching_of(talk, name) as first:
        assert len(await first.next()) == 1
        async with watching_of(talk, name) as second:
            assert await second.end() == ("RESOURCE_EXHAUSTED", "TOO_MANY_WATCHERS")

    async def begins() -> bool:
        async with watching_of(talk, name) as again:
            try:
                return len(await again.next()) == 1
            except grpc.aio.AioRpcError:
                return False

    # The server learns of a caller who left a moment later than he.
    async with asyncio.timeout(10):
        while not await begins():
            pass


async def test_redis_that_was_emptied_loses_nothing(talk: Talk, settings: Settings) -> None:
    """Nobody is told of what follows; it is found by looking."""
    client = redis.connect(settings)
    name = await talk.start("1")
    async with watching_of(talk, name) as watch:
        assert len(await watch.next()) == 1
        await client.flushall()
        await talk.send(name, "2", "3")
        assert [told(one) for one in await watch.next(2)] == ["ann:2", "ann:3"]
    await client.aclose()
