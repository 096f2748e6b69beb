"""Posting to the ledger against a raw COPY of the same rows."""

import asyncio
import statistics

import asyncpg

from tests.load import bench_ledger
from tests.load.bench_ledger import Timing
from tests.load.scene import Scene
from tests.load.table import Figure, Limit, Reference, Report

ENTRIES_A_TRADE = 4


def run(scene: Scene) -> Report:
    """Measure, in a database of its own of the stack's Postgres."""
    scene.start(["postgres"])
    return asyncio.run(_run(scene))


async def _run(scene: Scene) -> Report:
    turns = 8 if scene.quick else 30
    report = Report("ledger")
    async with bench_ledger.scratch(scene.stack.database_url()) as url:
        admin = await asyncpg.connect(url)
        await admin.execute(bench_ledger.RAW)
        await admin.close()
        pipeline = await bench_ledger.as_role(url, "ledger_pipeline")
        async with pipeline, pipeline.acquire() as connection:
            for trades in bench_ledger.BATCHES:
                scene.say(f"{turns} turns of {trades:,} trades: posting, then COPY")
                timing = await bench_ledger.time_posting(connection, trades, turns)
                report.figures += _figures(trades, turns, timing)
    return report


def _figures(trades: int, turns: int, timing: Timing) -> list[Figure]:
    posting, raw = statistics.median(timing.posting), statistics.median(timing.raw)
    entries = ENTRIES_A_TRADE * trades
    how = (
        f"median of {turns} turns, one transaction of {entries:,} entries: numbers, journals, "
        "entries, balances and the database's check; COPY of the same entries into the same "
        "table without a trigger"
    )
    limit = Limit(least_ratio=bench_ledger.LIMIT_RATIO, aim=bench_ledger.AIM_ENTRIES)
    reference = Reference("raw COPY", entries / raw, "/s")
    return [
        Figure(f"ledger entries, {trades:,} trades", entries / posting, "/s", how, limit, reference)
    ]
