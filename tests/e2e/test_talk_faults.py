"""Real processes are killed while customers, a bot and agents talk; nothing is lost or doubled."""

import asyncio

import pytest
from redis.asyncio import Redis

from services.stack.stack import Stack
from tests.e2e.test_faults import pids
from tests.sim.talking import Talking

MESSAGES = 40
"""Acknowledged before, between, and again after."""

VICTIMS = (
    ("bot", "gateway"),
    ("redis", "message"),
    ("agent", "envoy"),
    ("conversation", "postgres"),
    ("kafka", "kafka"),
)
"""Two at a time. Without the first one talk goes on, and what it would have done is made up
for later; without the second one everybody waits."""


@pytest.mark.parametrize(("spared", "needed"), VICTIMS)
async def test_every_message_is_told_once_whoever_is_killed(
    stack: Stack, spared: str, needed: str
) -> None:
    # A test before this one may have failed half-way.
    await asyncio.to_thread(stack.up)
    victims = {stack.server(name).name for name in (spared, needed)}
    async with Talking(stack, f"talk-{needed}", seed=len(spared)) as talking:
        await talking.go_on(MESSAGES)
        before = await asyncio.to_thread(pids, stack)

        await asyncio.to_thread(stack.kill, stack.server(spared).name)
        await talking.go_on(MESSAGES)
        await asyncio.to_thread(stack.kill, stack.server(needed).name)
        await asyncio.to_thread(stack.up)

        await talking.go_on(MESSAGES)
        assert await talking.end() == []
        after = await asyncio.to_thread(pids, stack)

    # All others found what they had lost by themselves.
    assert {name for name in before if before[name] != after[name]} == victims


async def test_every_message_is_told_once_though_redis_forgets_all(stack: Stack) -> None:
    await asyncio.to_thread(stack.up)
    redis = Redis.from_url(stack.service_settings().redis_url)
    async with redis, Talking(stack, "talk-flush", seed=1) as talking:
        for _ in range(3):
            await talking.go_on(MESSAGES // 2)
            await redis.flushall()
        await talking.go_on(MESSAGES // 2)

        assert await talking.end() == []
