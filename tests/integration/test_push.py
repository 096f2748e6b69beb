"""Pushes through a real Redis: to those who follow, in order, and never in the way."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
from interchange.gateway.v1.gateway_pb2 import Presence, Push, PushBatch

from services.common import push, redis
from services.common.config import Settings
from services.common.push import Followers, Pusher
from services.stack.stack import Stack

NOWHERE = Settings(redis_url="redis://127.0.0.1:9/0")


@pytest.fixture
def settings(servers: Stack) -> Settings:
    return Settings(redis_url=servers.redis_url)


@asynccontextmanager
async def following(
    settings: Settings, receive: Callable[[Push], None], instance: str = ""
) -> AsyncIterator[Followers]:
    client = redis.connect(settings)
    followers = Followers(client, instance or uuid4().hex, receive)
    task = asyncio.create_task(followers.run())
    try:
        yield followers
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.aclose()


@asynccontextmanager
async def pushing(settings: Settings) -> AsyncIterator[Pusher]:
    client = redis.connect(settings)
    pusher = Pusher(client, settings)
    task = asyncio.create_task(pusher.run())
    try:
        yield pusher
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.aclose()


def news(tenant: str, conversation: str, text: str) -> Push:
    return Push(
        tenant_id=tenant, conversation_id=conversation, presence=Presence(subject=text, online=True)
    )


async def until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)


async def listening(pusher: Pusher, followers: Followers, came: list[str]) -> None:
    """Wait until pushes arrive at all: the channel is subscribed in the background."""
    await followers.follow("probe", subject="probe")
    while "probe" not in came:
        probe = Presence(subject="probe", online=True)
        pusher.push([Push(tenant_id="probe", subject="probe", presence=probe)])
        await asyncio.sleep(0.02)
    followers.unfollow("probe", subject="probe")


def note(came: list[str]) -> Callable[[Push], None]:
    return lambda told: came.append(told.presence.subject)


async def test_pushes_reach_those_who_follow_in_order(settings: Settings) -> None:
    mine: list[str] = []
    other: list[str] = []
    async with (
        pushing(settings) as pusher,
        following(settings, note(mine)) as followers,
        following(settings, note(other)) as others,
    ):
        await listening(pusher, followers, mine)
        await listening(pusher, others, other)
        await followers.follow("acme", conversation_id="C1")
        await others.follow("acme", conversation_id="C2")
        pusher.push(news("acme", "C1", f"{n}") for n in range(1_200))
        pusher.push([news("acme", "C2", "theirs"), news("acme", "C3", "nobody's")])
        await until(lambda: "1199" in mine and "theirs" in other)
    assert [text for text in mine if text != "probe"] == [f"{n}" for n in range(1_200)]
    assert [text for text in other if text != "probe"] == ["theirs"]


async def test_two_tenants_with_the_same_ids_hear_their_own(settings: Settings) -> None:
    mine: list[str] = []
    async with pushing(settings) as pusher, following(settings, note(mine)) as followers:
        await listening(pusher, followers, mine)
        await followers.follow("acme", conversation_id="C1")
        pusher.push([news("globex", "C1", "globex"), news("acme", "C1", "acme")])
        await until(lambda: "acme" in mine)
    assert "globex" not in mine


async def test_who_follows_twice_goes_on_after_one_unfollow(settings: Settings) -> None:
    mine: list[str] = []
    async with pushing(settings) as pusher, following(settings, note(mine)) as followers:
        await listening(pusher, followers, mine)
        await followers.follow("acme", conversation_id="C1")
        await followers.follow("acme", conversation_id="C1")
        followers.unfollow("acme", conversation_id="C1")
        pusher.push([news("acme", "C1", "still")])
        await until(lambda: "still" in mine)


async def test_who_unfollows_and_follows_again_is_told(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push, "UNFOLLOW_S", 0.01)
    mine: list[str] = []
    async with pushing(settings) as pusher, following(settings, note(mine)) as followers:
        await listening(pusher, followers, mine)
        for _ in range(50):
            await followers.follow("acme", conversation_id="C1")
            followers.unfollow("acme", conversation_id="C1")
            await asyncio.sleep(0.001)
        await followers.follow("acme", conversation_id="C1")
        await asyncio.sleep(0.05)
        pusher.push([news("acme", "C1", "again")])
        await until(lambda: "again" in mine)


async def test_an_emptied_redis_is_told_again_who_follows(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push, "UNFOLLOW_S", 0.01)
    monkeypatch.setattr(push, "REFRESH_S", 0.02)
    mine: list[str] = []
    async with pushing(settings) as pusher, following(settings, note(mine)) as followers:
        await listening(pusher, followers, mine)
        await followers.follow("acme", conversation_id="C1")
        client = redis.connect(settings)
        await client.flushall()
        await client.aclose()
        number = 0
        async with asyncio.timeout(10):
            while not {f"after {n}" for n in range(number)} & set(mine):
                pusher.push([news("acme", "C1", f"after {number}")])
                number += 1
                await asyncio.sleep(0.01)


async def test_without_redis_nothing_waits_and_nothing_fails() -> None:
    came: list[str] = []
    async with pushing(NOWHERE) as pusher, following(NOWHERE, note(came)) as followers:
        async with asyncio.timeout(5):
            await followers.follow("acme", conversation_id="C1")
        pusher.push(news("acme", "C1", "lost") for _ in range(push.WAITING_MAX + 10))
        await asyncio.sleep(0.05)
    assert came == []


async def test_each_tenth_push_can_be_dropped(settings: Settings) -> None:
    mine: list[str] = []
    dropping = settings.model_copy(update={"push_drop_every": 10})
    async with (
        pushing(settings) as probe,
        pushing(dropping) as pusher,
        following(settings, note(mine)) as followers,
    ):
        await listening(probe, followers, mine)
        await followers.follow("acme", conversation_id="C1")
        pusher.push(news("acme", "C1", f"{n}") for n in range(1, 31))
        await until(lambda: "29" in mine)
    dropped = {f"{n}" for n in range(1, 31)} - set(mine)
    assert dropped == {"10", "20", "30"}


async def test_what_is_no_push_disturbs_nothing(settings: Settings) -> None:
    mine: list[str] = []
    instance = uuid4().hex
    async with pushing(settings) as pusher, following(settings, note(mine), instance) as followers:
        await listening(pusher, followers, mine)
        await followers.follow("acme", conversation_id="C1")
        client = redis.connect(settings)
        await client.publish(push.channel(instance), b"\xff\xff no message")
        good = PushBatch(pushes=[news("acme", "C1", "good")])
        await client.publish(push.channel(instance), good.SerializeToString())
        await client.aclose()
        await until(lambda: "good" in mine)
