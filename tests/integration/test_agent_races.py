"""Instances that race, a Redis that is empty, down or wrong, and timers that survive."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from services.agent import working
from services.agent.domain import Status
from services.agent.proposals import Proposal, propose
from services.agent.reservations import Reservation, Reservations, hold, mark_key, state_key
from services.common.clock import ManualClock
from services.common.errors import InterchangeError
from services.stack.stack import Stack
from tests.integration.test_agent_scene import WEB, Scene, opened
from tests.unit.agent_fakes import request

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
INSTANCES = 16


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
async def scene(servers: Stack, clock: ManualClock) -> AsyncIterator[Scene]:
    async with opened(servers, clock) as found:
        yield found
        assert await found.violations() == []


@pytest.fixture
async def crowd(servers: Stack, clock: ManualClock) -> AsyncIterator[Scene]:
    """Sixteen instances, each with a connection of its own and tasks that run."""
    async with opened(servers, clock, database_pool_size=2) as found:
        for _ in range(INSTANCES - 1):
            await found.instance()
        for instance in found.instances:
            await instance.matching.mirrors.get(found.tenant, "default")
        yield found
        assert await found.violations() == []


async def race(scene: Scene, conversations: list[str]) -> None:
    """Let each instance match one conversation, all at once."""
    await scene.one.match()
    # Written by one, so that all begin to match at the same moment.
    await scene.apply([scene.handed_off(name) for name in sorted(set(conversations))])
    written = scene.one.matching.agenda.take_pool((scene.tenant, "default")) or []
    requests = {request.conversation_id: request for request in written}
    await asyncio.gather(
        *(
            instance.matching.matcher.match(scene.tenant, "default", [requests[name]])
            for instance, name in zip(scene.instances, conversations, strict=True)
        )
    )


async def test_sixteen_instances_give_the_last_slot_out_once(crowd: Scene) -> None:
    await crowd.create("ana", slots={WEB: 3})
    for _ in range(2):
        await crowd.hand_over()
    await crowd.one.match()
    for instance in crowd.instances:
        await instance.matching.mirrors.check(crowd.tenant, "default")

    await race(crowd, [crowd.conversation() for _ in crowd.instances])

    assert len(await crowd.offered("ana")) == 3


@pytest.mark.parametrize("redis", ["up", "down"])
async def test_sixteen_instances_fill_all_slots_and_no_more(crowd: Scene, redis: str) -> None:
    for name in ("ana", "ben", "cid"):
        await crowd.create(name, slots={WEB: 4})
    for instance in crowd.instances:
        await instance.matching.mirrors.check(crowd.tenant, "default")
        if redis == "down":
            instance.matching.reservations._away_until = float("inf")

    await race(crowd, [crowd.conversation() for _ in crowd.instances])
    await crowd.one.sweep()
    if redis == "up":
        # What somebody held for a moment is looked at again.
        await asyncio.sleep(0)
        for instance in crowd.instances:
            await instance.match()
    offered = [len(await crowd.offered(name)) for name in ("ana", "ben", "cid")]

    assert offered == [4, 4, 4]


async def test_sixteen_instances_match_one_conversation_once(crowd: Scene) -> None:
    for name in ("ana", "ben"):
        await crowd.create(name, slots={WEB: 50})
    for instance in crowd.instances:
        await instance.matching.mirrors.check(crowd.tenant, "default")
    conversation = crowd.conversation()

    await race(crowd, [conversation] * INSTANCES)

    assert [*await crowd.offered("ana"), *await crowd.offered("ben")] == [conversation]


async def test_accept_races_with_decline_expiry_and_departure(
    scene: Scene, clock: ManualClock
) -> None:
    """Whatever comes first, one outcome holds and the desk adds up."""
    await scene.create("ana", slots={WEB: 10})
    for _ in range(10):
        await scene.hand_over()
    offers = list((await scene.desk("ana")).offers)
    commands: list[working.Command] = [
        kind("ana", offer)
        for offer in offers
        for kind in (working.AcceptOffer, working.DeclineOffer)
    ]
    commands.insert(11, working.SetStatus("ana", Status.OFFLINE))

    outcomes = await asyncio.gather(
        *(working.work(scene.tenant, [command], tools=scene.one.tools) for command in commands)
    )

    refused = {one.reason for [one] in outcomes if isinstance(one, InterchangeError)}
    assert refused <= {"OFFER_ACCEPTED", "OFFER_DECLINED", "OFFER_WITHDRAWN"}
    await scene.told("ana")


async def test_emptied_redis_is_rebuilt_from_the_tables(scene: Scene) -> None:
    await scene.create("ana", slots={WEB: 2})
    await scene.create("ben", online=False)
    await scene.hand_over()
    client = scene.one.client
    await client.flushall()

    await scene.hand_over()

    assert len(await scene.offered("ana")) == 2
    await scene.one.matching.mirrors._rebuild_lost()
    assert await client.exists(mark_key(scene.tenant, "default"))
    state = await client.hgetall(state_key(scene.tenant, "default", "ana"))
    version = (await scene.desk("ana")).agent.version
    assert state == {
        b"version": b"%d" % version,
        b"online": b"1",
        b"load:1": b"2",
        b"limit:1": b"2",
    }
    assert await client.hget(state_key(scene.tenant, "default", "ben"), "online") == b"0"


async def test_redis_that_claims_too_much_overfills_nobody(scene: Scene) -> None:
    await scene.create("ana", slots={WEB: 1})
    await scene.one.match()
    key = state_key(scene.tenant, "default", "ana")
    # A Redis that failed over to an older copy, and one that makes things up.
    await scene.hand_over()
    for version in (1, 10_000):
        await scene.one.client.hset(
            key, mapping={"version": version, "online": 1, "load:1": 0, "limit:1": 50}
        )
        await scene.hand_over()

    assert len(await scene.offered("ana")) == 1


async def test_redis_that_claims_too_little_lets_nobody_wait(scene: Scene) -> None:
    await scene.create("ana", slots={WEB: 3})
    await scene.one.match()
    await scene.one.client.hset(
        state_key(scene.tenant, "default", "ana"),
        mapping={"version": 10_000, "online": 1, "load:1": 3, "limit:1": 3},
    )

    conversation = await scene.hand_over()

    assert await scene.offered("ana") == [conversation]
    state = await scene.one.client.hgetall(state_key(scene.tenant, "default", "ana"))
    assert state[b"load:1"] == b"1"


async def test_lagging_mirror_finds_the_agent_that_another_instance_freed(scene: Scene) -> None:
    other = await scene.instance()
    await scene.create("ana")
    first = await scene.hand_over()
    await other.matching.mirrors.get(scene.tenant, "default")
    await scene.accept("ana")
    await scene.apply([scene.ended(first)])
    await scene.one.match()

    event = scene.handed_off()
    await scene.apply([event], other)
    # It lags, and was compared long ago.
    kept = other.matching.mirrors._kept[scene.tenant, "default"]
    kept.checked = 1e-9
    await other.match()

    assert await scene.offered("ana") == [event.key]


async def test_timers_and_waiting_survive_the_instance_that_set_them(
    scene: Scene, clock: ManualClock
) -> None:
    await scene.create("ana")
    await scene.create("ben")
    offered = await scene.hand_over(preferred_agent_id="ana")
    await scene.create("cid", slots={WEB: 2})
    await scene.apply([scene.session_ended("cid")])
    unmatched = scene.handed_off(excluded_agent_ids=["cid"])
    await scene.apply([unmatched])
    await scene.one.stop()  # before it matched
    clock.advance(timedelta(seconds=31))

    other = await scene.instance()
    await other.sweep()

    assert (await scene.desk("ana")).agent.status is Status.NOT_RESPONDING
    assert (await scene.desk("cid")).agent.status is Status.OFFLINE
    both = {*await scene.offered("ben"), *await scene.offered("ana")}
    assert both <= {offered, unmatched.key}
    assert len(both) == 1


async def test_unsettled_conversation_is_settled_by_another_instance(
    scene: Scene, clock: ManualClock
) -> None:
    await scene.create("ana")
    conversation = await scene.hand_over()
    await scene.accept("ana")
    await scene.apply([scene.ended(conversation)])
    scene.one.matching.agenda.take_unsettled(scene.tenant)  # it dies here
    clock.advance(timedelta(seconds=1))

    other = await scene.instance()
    await other.sweep()

    assert (await scene.desk("ana")).assignments == {}


async def test_due_offer_is_claimed_by_one_instance(scene: Scene, clock: ManualClock) -> None:
    await scene.create("ana")
    await scene.hand_over()
    clock.advance(timedelta(seconds=31))
    others = [await scene.instance() for _ in range(3)]

    await asyncio.gather(*(other.sweep() for other in others))

    told = await scene.told("ana")
    assert [type(one).__name__ for one in told].count("AgentOfferClosed") == 1


async def test_repair_sets_loads_and_stuck_requests_right(scene: Scene) -> None:
    await scene.create("ana", slots={WEB: 3})
    conversation = await scene.hand_over()
    await scene.admin("UPDATE agent.capacities SET load = 3 WHERE tenant_id = $1", scene.tenant)
    stuck = await scene.hand_over()
    await scene.admin(
        "UPDATE agent.requests SET state = 'OFFERED' WHERE tenant_id = $1 "
        "AND conversation_id = $2::text::uuid",
        scene.tenant,
        stuck,
    )

    assert await scene.one.matching.timers.repair() == 2

    await scene.one.match()
    assert await scene.offered("ana") == [conversation, stuck]
    assert await scene.one.matching.timers.repair() == 0


async def test_held_slot_is_in_the_way_of_others_until_it_is_released(scene: Scene) -> None:
    await scene.create("ana", slots={WEB: 2})
    other = await scene.instance()
    requests = [request(name) for name in ("c1", "c2", "c3")]
    mirror = await scene.one.matching.mirrors.get(scene.tenant, "default")
    proposals = propose(mirror, requests, NOW, timedelta(0), 5)
    one, two = scene.one.matching.reservations, other.matching.reservations
    proposals.append(Proposal(requests[2], proposals[0].candidates))

    async def reserve(who: Reservations, token: str, proposal: Proposal) -> Reservation:
        said = await who.reserve(scene.tenant, "default", [token], [proposal])
        assert said is not None
        return said[0]

    assert (await reserve(one, "t1", proposals[0])).candidate == 0
    assert (await reserve(two, "t2", proposals[1])).candidate == 0
    # The same token again holds no second slot; another one finds none.
    assert (await reserve(one, "t1", proposals[0])).candidate == 0
    assert await reserve(two, "t3", proposals[2]) == Reservation(None, held=True)
    await one.release(scene.tenant, "default", [("ana", hold(WEB, "t1"))])
    assert (await reserve(two, "t3", proposals[2])).candidate == 0


async def test_commit_that_is_told_ends_its_own_hold_only(scene: Scene) -> None:
    await scene.create("ana", slots={WEB: 3})
    reservations = scene.one.matching.reservations
    mirror = await scene.one.matching.mirrors.get(scene.tenant, "default")
    [proposal] = propose(mirror, [request()], NOW, timedelta(0), 5)
    for token in ("t1", "t2"):
        await reservations.reserve(scene.tenant, "default", [token], [proposal])

    agent = (await scene.desk("ana")).agent
    await reservations.tell(scene.tenant, [agent], [("ana", hold(WEB, "t1"))])

    state = await scene.one.client.hgetall(state_key(scene.tenant, "default", "ana"))
    assert [field for field in state if field.startswith(b"hold:")] == [b"hold:1:t2"]
