"""Reads through Envoy while the ledger holds ten million entries."""

import asyncio
import random
from collections.abc import Callable

from google.protobuf.message import Message
from interchange.ledger.v1.ledger_service_pb2 import (
    GetBalanceRequest,
    GetJournalRequest,
    ListEntriesRequest,
)
from interchange.position.v1.position_service_pb2 import GetPositionRequest

from services.stack.edge import Edge
from tests.load import callers, day, fill
from tests.load.callers import Answers, Choice, Load
from tests.load.scene import TENANT, Scene, Wrong
from tests.load.table import Figure, Limit, Reference, Report
from tests.load.trades import book

ENTRIES = 10_000_000
QUICK_ENTRIES = 300_000
CALLERS = 8
P95 = Limit(most=10)
REQUESTS = 1_000
"""Different requests of each read."""
LEDGER = "/interchange.ledger.v1.LedgerService"
POSITION = "/interchange.position.v1.PositionService"


def run(scene: Scene) -> Report:
    """Measure."""
    scene.start()
    entries = asyncio.run(_prepare(scene))
    calls = 150 if scene.quick else 1_000
    report = Report("reads", notes={"entries": entries})
    for name, path, requests in asyncio.run(_reads(scene, entries)):
        alone = _call(scene, name, path, requests, 1, calls)
        direct = _call(scene, name, path, requests, 1, calls, through=False)
        crowd = _call(scene, name, path, requests, CALLERS, calls)
        report.figures += _figures(name, entries, alone, direct, crowd)
        report.notes[name] = {
            f"p{percent}_ms": [each.ms(percent) for each in (alone, direct, crowd)]
            for percent in (50, 95, 99)
        }
    return report


async def _prepare(scene: Scene) -> int:
    """Book some trades, for there to be positions; fill the ledger."""
    await scene.inhabit()
    before = (await scene.fetch("SELECT sum(last_sequence)::bigint FROM trade.accounts"))[0][0]
    async with scene.edge() as edge:
        booked = await _book(edge, 5_000 if scene.quick else 20_000)
    await scene.until_held(before + booked)
    wanted = QUICK_ENTRIES if scene.quick else ENTRIES
    scene.say(f"filling the ledger to {wanted:,} entries")
    entries = await fill.fill(scene, wanted)
    if entries < wanted:
        raise Wrong(f"the ledger holds {entries:,} of {wanted:,} entries")
    return entries


async def _book(edge: Edge, count: int) -> int:
    return (await book(edge, day.chunks("reads", count))).count


async def _reads(scene: Scene, entries: int) -> list[tuple[str, str, Choice]]:
    """Return the reads: name, path and requests."""
    rng = random.Random(day.SEED)
    rows = await scene.fetch(
        "SELECT journal_id::text FROM ledger.journals TABLESAMPLE BERNOULLI ($2) "
        "WHERE tenant_id = $1 AND account_id LIKE 'FILL%'",
        TENANT,
        min(100.0, 100 * 20 * REQUESTS * fill.LEGS / entries),
    )
    journals = [name for (name,) in rows]
    held = await scene.fetch(
        "SELECT account_id, instrument_id FROM position.positions WHERE tenant_id = $1", TENANT
    )

    def many(make: Callable[[], Message]) -> Choice:
        return Choice([make().SerializeToString() for _ in range(REQUESTS)])

    def account() -> str:
        return fill.account(rng.randrange(fill.ACCOUNTS))

    def asset() -> str:
        return fill.security(rng.randrange(fill.INSTRUMENTS))

    def position() -> GetPositionRequest:
        account_id, instrument_id = rng.choice(held)
        return GetPositionRequest(account_id=account_id, instrument_id=instrument_id)

    return [
        ("GetBalance", f"{LEDGER}/GetBalance",
         many(lambda: GetBalanceRequest(account_id=account(), asset=asset()))),
        ("ListEntries, 100", f"{LEDGER}/ListEntries",
         many(lambda: ListEntriesRequest(account_id=account()))),
        ("ListEntries of an asset, 100", f"{LEDGER}/ListEntries",
         many(lambda: ListEntriesRequest(account_id=account(), asset=asset()))),
        ("GetJournal", f"{LEDGER}/GetJournal",
         many(lambda: GetJournalRequest(journal_id=rng.choice(journals)))),
        ("GetPosition", f"{POSITION}/GetPosition", many(position)),
    ]  # fmt: skip


def _call(
    scene: Scene,
    name: str,
    path: str,
    requests: Choice,
    count: int,
    calls: int,
    *,
    through: bool = True,
) -> Answers:
    service = "ledger" if path.startswith(LEDGER) else "position"
    target = scene.target if through else scene.direct(service)
    metadata = scene.metadata() if through else scene.direct_metadata()
    load = Load(target, metadata, path, requests, count, calls=max(1, calls // count))
    answers = callers.call(load)
    if answers.errors:
        raise Wrong(f"{name}: calls failed: {answers.errors.most_common(3)}")
    way = "through Envoy" if through else "direct"
    scene.say(f"{name:30} {count} {way:13} {answers.text()}")
    return answers


def _figures(
    name: str, entries: int, alone: Answers, direct: Answers, crowd: Answers
) -> list[Figure]:
    how = (
        f"{len(alone.took):,} calls through Envoy, {REQUESTS:,} different requests, "
        f"{entries:,} entries in the ledger, nothing else going on"
    )
    return [
        Figure(f"{name}, p95", alone.ms(95), "ms",
               f"{how}, one caller; the reference goes to the service's port",
               P95, Reference("direct", direct.ms(95), "ms")),
        Figure(f"{name}, {CALLERS} callers, p95", crowd.ms(95), "ms",
               f"{how}, {CALLERS} callers, each waits for its answer",
               P95, Reference("alone", alone.ms(95), "ms")),
    ]  # fmt: skip
