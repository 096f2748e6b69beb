"""Trades by stream, through Envoy, until position and ledger hold them."""

import asyncio
import time
from collections.abc import Iterator, Sequence

from interchange.trade.v1.trade_service_pb2 import TradeReceipt

from services.stack.booking import Chunk, Stream
from services.stack.edge import Edge
from tests.load import bare, day, echo
from tests.load.scene import PATIENCE_S, SUBJECT, TENANT, Scene, Wrong
from tests.load.table import Figure, Limit, Reference, Report
from tests.load.usage import Usage

LIMIT = Limit(least=5_000, aim=10_000)
ECHO_TRADES = 100_000
"""Fewer are gone before they can be timed."""


class Booked:
    """What the answers to a stream said."""

    def __init__(self) -> None:
        self.count = 0
        self.last: dict[str, int] = {}
        """The highest number of each account."""

    def take(self, chunk: Chunk[str], receipts: Sequence[TradeReceipt]) -> None:
        """Take the answer to a chunk."""
        for account, receipt in zip(chunk.notes, receipts, strict=True):
            if receipt.HasField("error"):
                raise Wrong(f"a trade was refused: {receipt.error.message}")
            self.last[account] = receipt.sequence
        self.count += len(receipts)


async def book(edge: Edge, chunks: Iterator[Chunk[str]], *, breaks: bool = False) -> Booked:
    """Book chunks over one stream, or over several where it may break."""
    booked = Booked()
    stream = Stream(
        lambda: edge.trades.StreamTrades(metadata=edge.metadata()), booked.take, PATIENCE_S
    )
    await stream.book(chunks)
    if stream.reconnects and not breaks:
        raise Wrong(f"the stream broke {stream.reconnects} times")
    return booked


def run(scene: Scene) -> Report:
    """Measure."""
    scene.start()
    return asyncio.run(_run(scene))


async def _run(scene: Scene) -> Report:
    count = 30_000 if scene.quick else 200_000
    await scene.inhabit()
    scene.say("warming up")
    async with scene.edge() as edge:
        warm = await book(edge, day.chunks("warm", 5_000))
        await scene.until_held(sum(warm.last.values()))
        chunks = list(day.chunks("day", count))
        scene.say(f"booking {count:,} trades")
        usage, began = Usage(scene.stack), time.perf_counter()
        booked = await book(edge, iter(chunks))
        booked_s = time.perf_counter() - began
        held_s = await scene.until_held(sum((warm.last | booked.last).values())) - began
    spent = usage.spent()
    await scene.held_by_watermarks(booked.last)
    scene.say(f"booked in {booked_s:.1f} s, held after {held_s:.1f} s")
    print(usage.table(spent, count, "trade"), flush=True)
    echo_rate = await _echo_rate(scene, list(day.chunks("echo", ECHO_TRADES)))
    connection = await scene.admin()
    try:
        copy_rate = await bare.copy_rate(connection, count)
    finally:
        await connection.close()
    return Report("trades", _figures(count, booked_s, held_s, echo_rate, copy_rate), {
        "trades": count, "booked_s": booked_s, "held_s": held_s,
        "cpu_us_a_trade": {role: 1e6 * seconds / count for role, seconds in spent.items()},
    })  # fmt: skip


def _figures(
    count: int, booked_s: float, held_s: float, echo_rate: float, copy_rate: float
) -> list[Figure]:
    what = f"{count:,} trades, {len(day.ACCOUNTS)} accounts, one stream through Envoy"
    return [
        Figure("trades booked", count / booked_s, "/s",
               f"{what}, chunks of 1,000, until the last receipt; the echo decodes the same "
               "chunks behind the same Envoy configuration and answers receipts",
               reference=Reference("echo", echo_rate, "/s")),
        Figure("trades held", count / held_s, "/s",
               f"{what}, until position and ledger hold the last (their sequences in the "
               "database, then each account's watermark); raw COPY stores the rows that trades "
               "leave in five tables, without any work",
               LIMIT, Reference("raw COPY", copy_rate, "/s")),
    ]  # fmt: skip


async def _echo_rate(scene: Scene, chunks: list[Chunk[str]]) -> float:
    """Return how fast the same chunks go through Envoy to a service that does nothing."""
    with echo.echoing(scene.stack.settings.port_offset) as stack:
        async with Edge(stack, TENANT, SUBJECT, PATIENCE_S) as edge:
            # Envoy may not know yet that the echo is well.
            await book(edge, day.chunks("warm", 5_000), breaks=True)
            began = time.perf_counter()
            booked = await book(edge, iter(chunks))
            return booked.count / (time.perf_counter() - began)
