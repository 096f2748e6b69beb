"""Real processes are killed under a stream of trades; nothing is lost, nothing is doubled."""

import asyncio

import pytest

from services.stack.stack import Stack
from tests.sim.stream import Trading, breaches_of

TRADES = 200
"""Acknowledged before, and again after."""

BOOKING_GOES_ON = ("position", "ledger", "instrument-account", "kafka", "redis")
"""Without these trades are booked all the same, and followed later."""
BOOKING_WAITS = ("trade", "envoy", "postgres")


def pids(stack: Stack) -> dict[str, int | None]:
    return {one.name: one.pid for one in stack.status()}


@pytest.mark.parametrize("victim", [*BOOKING_WAITS, *BOOKING_GOES_ON])
async def test_every_trade_is_booked_once_whoever_is_killed(stack: Stack, victim: str) -> None:
    tenant = f"kill-{victim}"
    # A test before this one may have failed half-way.
    await asyncio.to_thread(stack.up)
    async with Trading(stack, tenant, number=len(victim)) as trading:
        await trading.go_on(TRADES)
        before = await asyncio.to_thread(pids, stack)

        await asyncio.to_thread(stack.kill, victim)
        if victim in BOOKING_GOES_ON:
            await trading.go_on(TRADES)
        await asyncio.to_thread(stack.up)

        await trading.go_on(TRADES)
        await trading.end()
        after = await asyncio.to_thread(pids, stack)

    assert await breaches_of(stack, tenant, trading.sent) == []
    # All others found what they had lost by themselves.
    assert {name for name in before if before[name] != after[name]} == {victim}
