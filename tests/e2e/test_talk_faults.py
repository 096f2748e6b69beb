"""Real processes are killed while customers, a bot and agents talk; nothing is lost or doubled."""

import asyncio

import pytest
from redis.asyncio import Redis

from services.stack.stack import Stack
from tests.e2e.test_faults import pids
from tests.sim.talking import Talking

MESSAGES = 60
"""Acknowledged before, and again after."""

TALK_GOES_ON = ("conversation", "agent", "bot", "kafka", "redis")
"""Without these what was begun goes on; the rest is made up for later."""
TALK_WAITS = ("gateway", "message", "envoy", "postgres")


@pytest.mark.parametrize("victim", [*TALK_WAITS, *TALK_GOES_ON])
async def test_every_message_is_told_once_whoever_is_killed(stack: Stack, victim: str) -> None:
    # A test before this one may have failed half-way.
    await asyncio.to_thread(stack.up)
    server = stack.server(victim).name
    async with Talking(stack, f"talk-{victim}", seed=len(victim)) as talking:
        await talking.go_on(MESSAGES)
        before = await asyncio.to_thread(pids, stack)

        await asyncio.to_thread(stack.kill, server)
        if victim in TALK_GOES_ON:
            await talking.go_on(MESSAGES)
        await asyncio.to_thread(stack.up)

        await talking.go_on(MESSAGES)
        assert await talking.end() == []
        after = await asyncio.to_thread(pids, stack)

    # All others found what they had lost by themselves.
    assert {name for name in before if before[name] != after[name]} == {server}


async def test_every_message_is_told_once_though_redis_forgets_all(stack: Stack) -> None:
    await asyncio.to_thread(stack.up)
    redis = Redis.from_url(stack.service_settings().redis_url)
    async with redis, Talking(stack, "talk-flush", seed=1) as talking:
        for _ in range(3):
            await talking.go_on(MESSAGES // 2)
            await redis.flushall()
        await talking.go_on(MESSAGES // 2)

        assert await talking.end() == []
