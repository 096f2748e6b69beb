"""CreateTrade by one caller alone: what a trade takes when nothing else happens."""

import asyncio

from tests.load import bare, callers, unary
from tests.load.scene import Scene
from tests.load.table import Figure, Limit, Reference, Report

CALLS = 500
P50 = Limit(most=10)


def run(scene: Scene) -> Report:
    """Measure."""
    scene.start()
    asyncio.run(scene.inhabit())
    calls = CALLS // 2 if scene.quick else CALLS
    scene.say(f"CreateTrade, {calls} calls, one after the other")
    through = callers.call(
        unary.create(scene.target, scene.metadata(), "lone", callers=1, calls=calls)
    )
    asyncio.run(unary.counted(scene, "lone", through))
    scene.say(f"through Envoy: {through.text()}")
    direct = callers.call(
        unary.create(
            scene.direct("trade"), scene.direct_metadata(), "direct", callers=1, calls=calls
        )
    )
    asyncio.run(unary.counted(scene, "direct", direct))
    scene.say(f"direct: {direct.text()}")
    choice = asyncio.run(unary.gets(scene))
    read = callers.call(
        callers.Load(scene.target, scene.metadata(), unary.GET, choice, calls=calls)
    )
    scene.say(f"GetTrade through Envoy: {read.text()}")
    commit_ms = asyncio.run(_commit_ms(scene, calls))
    fsync_ms = bare.fsync_ms(scene.stack.settings.data_dir, calls)
    how = f"{calls} calls in sequence from another process"
    figures = [
        Figure("CreateTrade alone, p50", through.ms(50), "ms",
               f"{how}, through Envoy; the commit is an INSERT of one bigint in Postgres",
               P50, Reference("bare commit", commit_ms, "ms")),
        Figure("CreateTrade alone, p95", through.ms(95), "ms",
               f"{how}, through Envoy; the reference goes to the service's port",
               None, Reference("direct", direct.ms(95), "ms")),
        Figure("CreateTrade alone, direct, p50", direct.ms(50), "ms",
               f"{how}, to the service's port; GetTrade through Envoy has no commit",
               None, Reference("GetTrade", read.ms(50), "ms")),
        Figure("bare commit", commit_ms, "ms",
               "median of inserting a bigint; fsync is 8 KiB appended and fdatasync, same disk",
               None, Reference("fsync", fsync_ms, "ms")),
    ]  # fmt: skip
    return Report("lone", figures)


async def _commit_ms(scene: Scene, count: int) -> float:
    connection = await scene.admin()
    try:
        return await bare.commit_ms(connection, count)
    finally:
        await connection.close()
