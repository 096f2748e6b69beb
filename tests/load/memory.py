"""Memory of the services over a million trades."""

import asyncio
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from services.stack.booking import CHUNK_SIZE, Chunk
from tests.load import day
from tests.load.scene import Scene, Wrong
from tests.load.table import Figure, Limit, Report, grid
from tests.load.trades import book
from tests.load.usage import memory_mb

TRADES = 1_000_000
QUICK_TRADES = 60_000
SETTLED = 0.2
"""Share of the trades after which memory must be flat."""
GROWTH = Limit(most=10)
PAUSE_S = 0.5
NEAR = 5
"""Samples that make a figure."""
OTHERS = ("redis", "kafka", "collector")
"""Servers whose memory is shown and is not ours to keep flat."""


@dataclass(slots=True)
class Samples:
    """Memory by server, and how many trades were sent by then."""

    trades: list[int] = field(default_factory=list)
    memory: list[dict[str, float]] = field(default_factory=list)

    def of(self, name: str) -> list[float]:
        """Return the megabytes of a server over time."""
        return [sample[name] for sample in self.memory]

    def names(self) -> list[str]:
        """Return the servers that ran all the time."""
        known = set(self.memory[0]).intersection(*self.memory)
        return [name for name in self.memory[0] if name in known]


@dataclass(frozen=True, slots=True)
class Trend:
    """How the memory of a server went, in megabytes."""

    start: float
    settled: float
    end: float
    slope: float
    """Per 100,000 trades, after the first fifth."""

    @property
    def growth(self) -> float:
        """Percent since the first fifth."""
        return 100 * (self.end / self.settled - 1)


def run(scene: Scene) -> Report:
    """Measure."""
    scene.start()
    return asyncio.run(_run(scene))


async def _run(scene: Scene) -> Report:
    count = QUICK_TRADES if scene.quick else TRADES
    await scene.inhabit()
    samples = Samples()
    before = (await scene.fetch("SELECT sum(last_sequence)::bigint FROM trade.accounts"))[0][0]
    scene.say(f"booking {count:,} trades")
    sent = Sent(scene, day.chunks("memory", count), count)
    sampler = asyncio.create_task(_sample(scene, sent, samples))
    began = time.perf_counter()
    try:
        async with scene.edge() as edge:
            booked = await book(edge, sent)
        held_s = await scene.until_held(before + booked.count) - began
    finally:
        sampler.cancel()
    trends = {name: _trend(samples, name, count) for name in samples.names()}
    scene.say(f"held after {held_s:.0f} s")
    print(_shown(trends), flush=True)
    return Report("memory", list(_figures(trends, count)), {
        "trades": count, "held_s": held_s,
        "megabytes": {name: [t.start, t.settled, t.end, t.slope] for name, t in trends.items()},
    })  # fmt: skip


class Sent(Iterator[Chunk[str]]):
    """Chunks, counted as they are sent."""

    def __init__(self, scene: Scene, chunks: Iterator[Chunk[str]], total: int) -> None:
        self._scene = scene
        self._chunks = chunks
        self._step = max(CHUNK_SIZE, total // 10)
        self.count = 0

    def __next__(self) -> Chunk[str]:
        """Return the next chunk."""
        chunk = next(self._chunks)
        self.count += len(chunk.notes)
        if self.count % self._step == 0:
            self._scene.say(f"{self.count:,} sent")
        return chunk


async def _sample(scene: Scene, sent: Sent, samples: Samples) -> None:
    while True:
        samples.trades.append(sent.count)
        samples.memory.append(memory_mb(scene.stack))
        await asyncio.sleep(PAUSE_S)


def _trend(samples: Samples, name: str, count: int) -> Trend:
    memory = samples.of(name)
    first = next((at for at, sent in enumerate(samples.trades) if sent >= SETTLED * count), None)
    if first is None or len(memory) - first < 2 * NEAR:
        raise Wrong("too few samples: the trades were booked faster than memory was looked at")
    trades, later = samples.trades[first:], memory[first:]
    slope = 0.0
    if trades[-1] > trades[0]:
        slope = 100_000 * statistics.linear_regression(trades, later).slope
    # Of a few samples: one of them may lie on a peak.
    settled, end = statistics.median(later[:NEAR]), statistics.median(later[-NEAR:])
    return Trend(memory[0], settled, end, slope)


def _shown(trends: dict[str, Trend]) -> str:
    rows: list[tuple[str, ...]] = [
        ("resident MB", "start", "after 20 %", "end", "growth after 20 %", "MB/100k trades")
    ]
    for name, trend in trends.items():
        numbers = trend.start, trend.settled, trend.end
        rows.append((name, *(f"{number:.1f}" for number in numbers),
                     f"{trend.growth:+.1f} %", f"{trend.slope:+.2f}"))  # fmt: skip
    return grid(rows)


def _figures(trends: dict[str, Trend], count: int) -> Iterator[Figure]:
    how = (
        f"resident memory of the process, looked at each {PAUSE_S} s while {count:,} trades are "
        "booked and held: its end against where it was after the first 20 %"
    )
    limit: Limit | None = GROWTH
    if count < TRADES:
        limit, how = None, f"{how}; no limit: so few trades only warm it up"
    for name, trend in trends.items():
        if name not in OTHERS:
            yield Figure(f"memory growth, {name}", trend.growth, "%", how, limit)
