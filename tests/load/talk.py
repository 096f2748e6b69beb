"""From send to the other side, both over WebSockets through Envoy."""

import asyncio
import time
from collections.abc import Sequence

import uvloop

from tests.load import floor
from tests.load.floor import Floor, Side, ms
from tests.load.scene import Scene, Wrong
from tests.load.table import Figure, Limit, Report
from tests.load.usage import Usage

LONE = 300
LONE_PAUSE_S = 0.02
RATE = 1_000
PAIRS = 200
AGENTS = 100
CUSTOMERS = 200
TICK_S = 0.002
LONE_P50 = Limit(most=10)
P95 = Limit(most=100)
P99 = Limit(most=200)
HELD = Limit(least=0.99 * RATE, aim=10_000)


def run(scene: Scene) -> Report:
    """Measure."""
    scene.start()
    return uvloop.run(_run(scene))


async def _run(scene: Scene) -> Report:
    seconds = 5 if scene.quick else 20
    on = Floor(scene.stack)
    await on.open(AGENTS, CUSTOMERS)
    try:
        pairs = await on.pairs(PAIRS)
        scene.say(f"{len(pairs)} conversations between {CUSTOMERS} customers and {AGENTS} agents")
        lone = await _lone(on, pairs[0])
        scene.say(f"one pair alone: p50 {ms(lone, 50):.1f} ms, p95 {ms(lone, 95):.1f} ms")
        rates = [RATE, 2 * RATE] if scene.quick else [RATE, 2 * RATE, 3 * RATE]
        sides = [side for pair in zip(*pairs, strict=True) for side in pair]
        measured = {}
        for rate in rates:
            measured[rate] = await _flood(scene, on, sides, rate, seconds)
    finally:
        on.close()
    if on.errors:
        raise Wrong(f"frames were refused: {on.errors.most_common(3)}")
    return Report("talk", _figures(lone, measured, seconds))


async def _lone(on: Floor, pair: tuple[Side, Side]) -> list[int]:
    on.latencies_ns.clear()
    for number in range(LONE):
        floor.send(pair[number % 2], f"lone-{number}")
        await asyncio.sleep(LONE_PAUSE_S)
    await floor.until(lambda: len(on.latencies_ns) == LONE)
    return list(on.latencies_ns)


async def _flood(
    scene: Scene, on: Floor, sides: Sequence[Side], rate: int, seconds: int
) -> tuple[float, list[int]]:
    """Send at a rate, whatever comes back; return what was held and how long each took."""
    on.latencies_ns.clear()
    total = rate * seconds
    usage = Usage(scene.stack)
    began, sent = time.perf_counter(), 0
    while sent < total:
        due = min(total, int((time.perf_counter() - began) * rate) + 1)
        for number in range(sent, due):
            floor.send(sides[number % len(sides)], f"{rate}-{number}")
        sent = due
        await asyncio.sleep(TICK_S)
    await floor.until(lambda: len(on.latencies_ns) >= total)
    took = time.perf_counter() - began
    if len(on.latencies_ns) != total:
        raise Wrong(f"{total:,} messages were sent, {len(on.latencies_ns):,} arrived")
    found = list(on.latencies_ns)
    scene.say(
        f"{rate:,}/s for {seconds} s: {total / took:,.0f}/s held, "
        f"p50 {ms(found, 50):.1f}, p95 {ms(found, 95):.1f}, p99 {ms(found, 99):.1f} ms"
    )
    print(usage.table(usage.spent(), total, "message"), flush=True)
    return total / took, found


def _figures(
    lone: list[int], measured: dict[int, tuple[float, list[int]]], seconds: int
) -> list[Figure]:
    how = (
        f"{PAIRS} conversations of {CUSTOMERS} customers with {AGENTS} agents, both sides send by "
        f"turns at a fixed rate for {seconds} s, over WebSockets through Envoy, from one process "
        "on the same machine; every message arrived once"
    )
    alone = f"{LONE} messages, one each {1000 * LONE_PAUSE_S:.0f} ms, nothing else happens"
    _, found = measured[RATE]
    best = max(
        (
            held
            for rate, (held, each) in measured.items()
            if ms(each, 95) < 100 and held > 0.97 * rate
        ),
        default=0.0,
    )
    return [
        Figure("message to the other side alone, p50", ms(lone, 50), "ms", alone, LONE_P50),
        Figure("messages held with p95 < 100 ms", best, "/s", how, HELD),
        Figure(f"message to the other side at {RATE:,}/s, p50", ms(found, 50), "ms", how),
        Figure(f"message to the other side at {RATE:,}/s, p95", ms(found, 95), "ms", how, P95),
        Figure(f"message to the other side at {RATE:,}/s, p99", ms(found, 99), "ms", how, P99),
    ]
