"""A rebuild gives the same bytes, and finds what somebody changed."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.stack.stack import Stack
from tests.integration.test_position_scene import Scene
from tests.unit.test_position_fills import random_events
from tests.unit.test_position_scene import Feed


@pytest.fixture
async def scene(servers: Stack) -> AsyncIterator[Scene]:
    scene = await Scene.open(servers)
    events = random_events(7, 300)
    await scene.store(events)
    # Another order than the store's: transfers first, as Kafka may deliver topics.
    await scene.apply([e for e in events if e.topic == "account-events"][:40], size=9)
    await scene.apply([e for e in events if e.topic == "trade-events"], size=31)
    await scene.apply([e for e in events if e.topic == "account-events"], size=13)
    yield scene
    await scene.database.close()


async def test_rebuild_gives_the_same_bytes(scene: Scene) -> None:
    report = await scene.rebuild()

    assert report.differences == []
    assert report.equal
    assert (report.events, report.accounts) == (304, 4)
    assert report.rows["changes"] == 300
    for kept, rebuilt in report.digests.values():
        assert kept == rebuilt


@pytest.mark.parametrize(
    ("tampering", "named"),
    [
        ("UPDATE position.positions SET realized = realized + 1 WHERE account_id = 'C'", "=C"),
        ("UPDATE position.lots SET open_cost = open_cost - 1 WHERE account_id = 'A'", "lots"),
        ("DELETE FROM position.changes WHERE account_id = 'D' AND sequence = 5", "=D"),
        ("UPDATE position.changes SET amount = amount + 1 WHERE account_id = 'B'", "=B"),
        ("DELETE FROM position.positions WHERE account_id = 'B'", "kept missing"),
        ("UPDATE position.accounts SET sequence = 1 WHERE account_id = 'A'", "accounts demo:A"),
        ("DELETE FROM position.accounts WHERE account_id = 'A'", "belong to no account"),
    ],
)
async def test_rebuild_finds_a_row_that_was_tampered_with(
    scene: Scene, tampering: str, named: str
) -> None:
    await scene.admin(tampering)

    report = await scene.rebuild()

    assert not report.equal
    assert any(named in difference for difference in report.differences), report.differences


async def test_rebuild_replaces_what_differs_when_asked(scene: Scene) -> None:
    before = await scene.held("*")
    await scene.admin("UPDATE position.positions SET quantity = 1 WHERE account_id = 'C'")
    await scene.admin("DELETE FROM position.lots WHERE account_id = 'A'")

    report = await scene.rebuild(apply=True)

    assert (report.equal, report.replaced) == (False, 2)
    assert await scene.held("*") == before
    assert (await scene.rebuild()).equal


async def test_change_whose_event_is_gone_is_named(scene: Scene) -> None:
    stray = Feed().trade(1, 10, account="E")
    await scene.apply([stray])

    report = await scene.rebuild()

    assert "changes demo:E: event 1 of trade-events is not in the event store" in report.differences


async def test_events_that_were_not_applied_yet_are_left_out(scene: Scene) -> None:
    await scene.store([Feed().trade(1, 10, account="E")])

    report = await scene.rebuild()

    assert (report.equal, report.events) == (True, 305)


async def test_tenant_is_rebuilt_alone(scene: Scene) -> None:
    other = Feed().trade(1, 10, tenant="other")
    await scene.store([other])
    await scene.apply([other])

    report = await scene.rebuild("other")

    assert (report.equal, report.events, report.accounts) == (True, 1, 1)


async def test_two_consumers_at_once_leave_an_order_that_gives_the_same_bytes(
    servers: Stack,
) -> None:
    scene = await Scene.open(servers)
    events = random_events(11, 400)
    await scene.store(events)

    await asyncio.gather(
        scene.apply([e for e in events if e.topic == "trade-events"], size=7),
        scene.apply([e for e in events if e.topic == "account-events"], size=3),
    )

    report = await scene.rebuild()
    assert report.differences == []
    assert report.rows["changes"] == 400
    assert await scene.admin("SELECT FROM position.parked_keys") == []
    await scene.database.close()
