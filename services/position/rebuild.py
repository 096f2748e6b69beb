"""Rebuilds positions from the events and compares them with the tables, byte for byte.

The events come from the store, their order from position.changes, the figures
from the same kernels. Accounts are compared some at a time. No transaction that
lasts may write, not even into a temporary table: it would stall every relay.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from io import BytesIO

from services.common import db, upcasters
from services.common.config import Settings
from services.common.db import Connection
from services.common.event_feed import db_patience, stream
from services.common.events import Event, EventTypes, Undecodable
from services.position import consumer, encoding, fills
from services.position.comparison import Comparison, Report, parts
from services.position.domain import Unappliable
from services.position.fills import TOPICS, AccountId
from services.position.replay import Account

EVENTS_A_CHUNK = 20_000

_FILLS = """
CREATE TEMPORARY TABLE fills (tenant_id text, account_id text, instrument_id text,
    quantity bigint, amount bigint, transfer smallint, currency text, source_sequence bigint,
    event_id uuid, recorded_us bigint)
"""
# The index comes first: building one over all rows would be a long write.
_INDEX = "CREATE INDEX ON pg_temp.fills (tenant_id, account_id)"
_ACCOUNTS = """
SELECT tenant_id, account_id, fifo, sequence, trade_sequence FROM position.accounts
WHERE $1 = '' OR tenant_id = $1 ORDER BY tenant_id COLLATE "C", account_id COLLATE "C"
"""


Progress = Callable[[str, int], None]
"""Called with a stage and how much of it is done."""


async def rebuild(
    settings: Settings, tenant_id: str = "", *, apply: bool = False, progress: Progress
) -> Report:
    """Rebuild the positions of one tenant, or of all, and compare.

    With `apply` the rows of accounts that differ are replaced, in one
    transaction, while no consumer can apply anything.
    """
    report = Report()
    events = await db.connect(settings, "position_pipeline")
    live = await db.connect(settings, "position_pipeline")
    try:
        # What is compared is fixed before the events are read: those that come
        # later are of no change, and are left out.
        async with _fixed(live, apply):
            rows = await live.fetch(_ACCOUNTS, tenant_id)
            accounts = [Account(*row) for row in rows]
            methods = await _load(settings, tenant_id, events, report, progress)
            comparison = Comparison(events, live, methods, report)
            differing = []
            for part in parts(accounts):
                if not await comparison.compare(part):
                    differing += part
                progress("accounts", len(part))
            comparison.finish()
            await comparison.count_orphans(tenant_id)
            if apply:
                # All writes come last: the first one is seen by every relay.
                await comparison.replace(differing)
    finally:
        await events.close()
        await live.close()
    return report


@asynccontextmanager
async def _fixed(live: Connection, apply: bool) -> AsyncIterator[None]:
    """Hold the tables still: by a snapshot, or by a lock that consumers wait for."""
    async with live.transaction(
        isolation="read_committed" if apply else "repeatable_read", readonly=not apply
    ):
        await db_patience(live)
        if apply:
            await live.execute("LOCK TABLE position.accounts IN EXCLUSIVE MODE")
        yield


async def _load(
    settings: Settings, tenant_id: str, target: Connection, report: Report, progress: Progress
) -> dict[AccountId, bool]:
    """Copy the fills of all events into a temporary table; return the cost methods."""
    types = EventTypes(consumer.MESSAGES, upcasters.UPCASTERS, upcasters.VERSIONS)
    methods: dict[AccountId, bool] = {}
    await target.execute("SET statement_timeout = 0")
    await target.execute(_FILLS)
    await target.execute(_INDEX)
    for topic in TOPICS:
        waiting: list[Event] = []
        async for batch in stream(settings, topic, tenant_id):
            waiting += batch
            if len(waiting) >= EVENTS_A_CHUNK:
                await _copy(waiting, types, target, methods, report)
                progress(f"events of {topic}", len(waiting))
                waiting = []
        await _copy(waiting, types, target, methods, report)
        progress(f"events of {topic}", len(waiting))
    await target.execute("ANALYZE pg_temp.fills")
    return methods


async def _copy(
    events: list[Event],
    types: EventTypes,
    target: Connection,
    methods: dict[AccountId, bool],
    report: Report,
) -> None:
    report.events += len(events)
    for batch in _readable(events, types, report):
        for key, fifo in batch.methods.items():
            methods.setdefault(key, fifo)
        if len(batch.fills):
            source = BytesIO(encoding.fills(batch.fills))
            await target.copy_to_table(
                "fills", columns=encoding.FILLS, format="binary", source=source
            )


def _readable(events: Sequence[Event], types: EventTypes, report: Report) -> Iterable[fills.Batch]:
    """Yield what events say: together, or one by one where one of them is broken."""
    try:
        for event in events:
            types.decode(event)
        yield fills.read([event for event in events if event.message is not None])
    except (Undecodable, Unappliable):
        if len(events) == 1:
            report.unreadable += 1
            return
        for event in events:
            yield from _readable([event], types, report)
