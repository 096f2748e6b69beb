"""Callers in processes of their own: each waits for its answer, then calls again.

Requests are bytes before they are sent and answers are not decoded, so that the
callers take as little of the machine as they can.
"""

import asyncio
import multiprocessing
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc
import uvloop

if TYPE_CHECKING:
    Rpc = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]

Metadata = tuple[tuple[str, str], ...]
Request = Callable[[int], bytes]
"""Makes the request of a number; it must be picklable."""

WARM_CALLS = 5
"""Calls of each caller that do not count: connections open, caches fill."""
CHANNELS_MAX = 4
START_S = 2.0
NUMBERS = 10_000_000
"""Each process has so many numbers to itself."""
CALL_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Load:
    """What is called, by how many at a time, and when it ends: after a time or a count."""

    target: str
    metadata: Metadata
    path: str
    request: Request
    callers: int = 1
    seconds: float = 0.0
    calls: int = 0
    """Of each caller; the time decides when 0."""


@dataclass(slots=True)
class Answers:
    """How long each call took, and what failed."""

    took: list[float] = field(default_factory=list)
    """Seconds."""
    errors: Counter[str] = field(default_factory=Counter)
    answered: int = 0
    """Calls that succeeded, those that warmed up included."""
    rate: float = 0.0
    """Answers a second that count."""
    cpu_s: float = 0.0

    def ms(self, percent: float) -> float:
        """Return a percentile in milliseconds."""
        if len(self.took) < 2:
            return 1000 * sum(self.took)
        return 1000 * statistics.quantiles(self.took, n=1000)[int(10 * percent) - 1]

    def text(self) -> str:
        """Return the usual percentiles."""
        found = [f"p{percent} {self.ms(percent):6.2f}" for percent in (50, 95, 99)]
        return f"{' '.join(found)} ms, {self.rate:8,.0f}/s, {len(self.took):,} calls"


def call(load: Load, processes: int = 1, begin: Callable[[], None] = lambda: None) -> Answers:
    """Let the callers call, spread over processes; `begin` is called when they do."""
    # Not forked: gRPC's threads do not survive that.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        # All wait for the same moment; starting an interpreter takes them a while.
        pause = START_S if processes > 1 else 0.0
        start = time.time() + pause
        running = [pool.submit(_process, load, index, processes, start)
                   for index in range(processes)]  # fmt: skip
        time.sleep(pause)
        begin()
        found = [each.result() for each in running]
    total = Answers()
    for answers in found:
        total.took += answers.took
        total.errors += answers.errors
        total.answered += answers.answered
        total.rate += answers.rate
        total.cpu_s += answers.cpu_s
    return total


def _process(load: Load, index: int, processes: int, start: float) -> Answers:
    return uvloop.run(_run(load, index, processes, start))


async def _run(load: Load, index: int, processes: int, start: float) -> Answers:
    answers = Answers()
    callers = load.callers // processes
    numbers = iter(range(index * NUMBERS, (index + 1) * NUMBERS))
    channels = [
        grpc.aio.insecure_channel(
            load.target,
            # Else channels to one address share a connection.
            options=[("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)],
        )
        for _ in range(min(CHANNELS_MAX, callers))
    ]
    rpcs: list[Rpc] = [channel.unary_unary(load.path) for channel in channels]

    async def one(number: int, rpc: "Rpc") -> bool:
        try:
            await rpc(load.request(number), metadata=load.metadata, timeout=CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            answers.errors[f"{error.code().name}: {error.details()}"] += 1
            return False
        answers.answered += 1
        return True

    async def caller(at: int, began: float) -> None:
        rpc = rpcs[at % len(rpcs)]
        ends = began + load.seconds
        calls = 0
        while calls < load.calls if load.calls else time.perf_counter() < ends:
            number = next(numbers)
            sent = time.perf_counter()
            if await one(number, rpc):
                answers.took.append(time.perf_counter() - sent)
            calls += 1

    await asyncio.gather(
        *(one(next(numbers), rpcs[at % len(rpcs)]) for at in range(callers * WARM_CALLS))
    )
    await asyncio.sleep(max(0.0, start - time.time()))
    cpu, began = time.process_time(), time.perf_counter()
    await asyncio.gather(*(caller(at, began) for at in range(callers)))
    answers.rate = len(answers.took) / (time.perf_counter() - began)
    answers.cpu_s = time.process_time() - cpu
    await asyncio.gather(*(channel.close(None) for channel in channels))
    return answers


@dataclass(frozen=True, slots=True)
class Choice:
    """One of prepared requests, in turn."""

    requests: Sequence[bytes]

    def __call__(self, number: int) -> bytes:
        """Return the request of a number."""
        return self.requests[number % len(self.requests)]
