"""One trace from the door to the books, kept because its caller asked for it."""

import asyncio
import os
import secrets
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import pytest_asyncio

from services.stack.collector import Span, SpanFile
from services.stack.traces import tree
from tests.e2e.door import Caller, Door
from tests.e2e.world import World, full, trade_request

CROWD = 60
PATIENCE_S = 20
PAUSE_S = 0.1
"""Spans are sent every few seconds; the file is what is looked at."""

WALK = (
    ("edge", ""),
    ("trade", "interchange.trade.v1.TradeService/CreateTrade"),
    ("position", "position apply events"),
    ("ledger", "ledger apply events"),
)
"""Services and names of spans on the way of a trade; Envoy names its own by route."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(door: Door) -> World:
    return await full(door)


def all_spans(door: Door) -> Iterator[Span]:
    settings = door.stack.settings
    return SpanFile(settings.traces_path, settings.trace_file_bytes_max).read()


def spans_of(door: Door, trace_id: str) -> list[Span]:
    return [span for span in all_spans(door) if span["trace_id"] == trace_id]


def lacking(spans: list[Span]) -> list[str]:
    """Return the steps of the walk that have no span."""
    seen = {(span["service"], span["name"]) for span in spans}
    return [
        f"{service}: {name}"
        for service, name in WALK
        if not any(service == one and name in (other, "") for one, other in seen)
    ]


async def collected(door: Door, trace_id: str) -> list[Span]:
    """Return the spans of a trace once each step has its own, or what came in time."""
    spans: list[Span] = []
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not spans or lacking(spans):
                await asyncio.sleep(PAUSE_S)
                spans = spans_of(door, trace_id)
    except TimeoutError:
        pass
    return spans


@dataclass
class Traced:
    """A trade that was booked under a trace of its caller's, and what came of it."""

    trace_id: str
    caller_span: str
    spans: list[Span] = field(default_factory=list)

    def above(self, span: Span | None) -> Iterator[Span]:
        """Yield a span and those that caused it, up to the root."""
        known = {each["span_id"]: each for each in self.spans}
        while span is not None:
            yield span
            span = known.get(span["parent_id"])


async def booked(world: World, *, sampled: bool = True) -> Traced:
    """Book a trade under a trace that its caller keeps, or does not."""
    traced = Traced(secrets.token_hex(16), secrets.token_hex(8))
    traceparent = f"00-{traced.trace_id}-{traced.caller_span}-{int(sampled):02x}"
    caller = Caller(
        world.caller.door, world.tenant, world.caller.token, (("traceparent", traceparent),)
    )
    request = trade_request(world.accounts[0], world.instruments[0], secrets.token_hex(8))
    await caller.call("CreateTrade", request)
    return traced


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def alone(door: Door, world: World) -> Traced:
    """A trade that nobody disturbs."""
    traced = await booked(world)
    traced.spans = await collected(door, traced.trace_id)
    return traced


async def test_a_sampled_trade_is_one_tree_from_the_door_to_the_books(alone: Traced) -> None:
    assert lacking(alone.spans) == []
    known = {span["span_id"] for span in alone.spans}
    roots = [span for span in alone.spans if span["parent_id"] == alone.caller_span]
    orphans = [span for span in alone.spans if span["parent_id"] not in known and span not in roots]
    assert [root["service"] for root in roots] == ["edge"]
    assert [(orphan["service"], orphan["name"]) for orphan in orphans] == []
    assert not any(span["error"] for span in alone.spans)


@pytest.mark.parametrize("service", ["position", "ledger"])
async def test_what_follows_stands_under_what_caused_it(alone: Traced, service: str) -> None:
    span = next(one for one in alone.spans if one["name"] == f"{service} apply events")

    services = [one["service"] for one in alone.above(span)]

    assert services == [service, "trade", "edge"]


@pytest.mark.parametrize("service", ["trade", "position", "ledger"])
async def test_a_trace_goes_on_to_the_commit(alone: Traced, service: str) -> None:
    commits = [
        span for span in alone.spans if (span["service"], span["name"]) == (service, "COMMIT")
    ]

    assert len(commits) == 1
    assert [one["service"] for one in alone.above(commits[0])][:2] == [service] * 2


async def test_in_a_crowd_a_trace_is_kept_when_its_caller_keeps_it(
    door: Door, world: World
) -> None:
    """Trades that arrive together are booked together: the one that is sampled leads.

    It is the only one; of two in a transaction, the events carry the first one's trace.
    """
    crowd = asyncio.gather(*(booked(world, sampled=False) for _ in range(CROWD)))
    sampled = await booked(world)

    assert lacking(await collected(door, sampled.trace_id)) == []
    kept = {span["trace_id"] for span in all_spans(door)}
    assert sampled.trace_id in kept
    assert not kept & {each.trace_id for each in await crowd}


async def test_the_command_prints_the_tree(door: Door, alone: Traced) -> None:
    data = {"INTERCHANGE_DATA_DIR": str(door.stack.settings.data_dir)}

    command = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.stack.cli", "trace", alone.trace_id),
        env={**os.environ, **data},
        stdout=asyncio.subprocess.PIPE,
    )
    printed = (await command.communicate())[0].decode()

    assert command.returncode == 0
    for depth, span in tree(alone.spans, alone.trace_id):
        assert f"  {'  ' * depth}{span['service']}: {span['name']}\n" in printed
