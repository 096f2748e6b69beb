"""Matching on real Postgres and Redis: each test with a tenant of its own."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from interchange.agent.v1 import agent_events_pb2 as pb
from interchange.conversation.v1.conversation_pb2 import Skill

from services.agent import handlers, working
from services.agent.domain import Status
from services.agent.profile import Details
from services.common.clock import ManualClock
from services.common.errors import FailedPrecondition, NotFound
from services.stack.stack import Stack
from tests.integration.test_agent_scene import MAIL, WEB, Scene, opened

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
async def scene(servers: Stack, clock: ManualClock) -> AsyncIterator[Scene]:
    async with opened(servers, clock) as found:
        yield found
        assert await found.violations() == []


def types(events: list[object]) -> list[str]:
    return [type(event).__name__ for event in events]


async def test_handed_over_conversation_is_offered_and_accepted(
    scene: Scene, clock: ManualClock
) -> None:
    await scene.create("ana")

    conversation = await scene.hand_over()

    assert await scene.offered("ana") == [conversation]
    clock.advance(timedelta(seconds=4))
    desk = await scene.accept("ana")
    assert list(desk.assignments) == [(conversation, 1)]
    assert desk.agent.average_response_ms == 4_000
    created, online, offered, matched = await scene.told("ana")
    assert (created.reason, online.reason) == (
        pb.STATE_REASON_CREATED,
        pb.STATE_REASON_REQUESTED,
    )
    assert (offered.previous_load, offered.new_load) == (0, 1)
    assert offered.offer.offer_id == offered.event_id == matched.offer_id
    assert (matched.conversation_id, matched.hand_off, matched.agent_name) == (
        conversation,
        1,
        "Ana",
    )


async def test_accepting_twice_is_answered_as_the_first_time(scene: Scene) -> None:
    await scene.create("ana")
    await scene.hand_over()
    [offer_id] = (await scene.desk("ana")).offers
    first = await scene.accept("ana", offer_id)

    again = await scene.accept("ana", offer_id)

    assert (again.agent, again.assignments) == (first.agent, first.assignments)
    assert len(await scene.told("ana")) == 4


async def test_queue_is_drained_when_an_agent_comes_by_priority_then_waiting_time(
    scene: Scene, clock: ManualClock
) -> None:
    names = []
    for priority in (0, 0, 9):
        names.append(await scene.hand_over(priority=priority))
        clock.advance(timedelta(seconds=1))
    await scene.create("ana")
    await scene.one.match()

    for expected in (names[2], names[0], names[1]):
        assert await scene.offered("ana") == [expected]
        await scene.accept("ana")
        await scene.apply([scene.ended(expected)])
        await scene.one.match()
    assert (await scene.desk("ana")).agent.loads == {WEB: 0}


async def test_one_whom_nobody_fits_blocks_nobody(scene: Scene) -> None:
    lost = [
        await scene.hand_over(required_skills=[Skill(name="lang:tlh")], priority=9)
        for _ in range(3)
    ]
    last = await scene.hand_over()
    scene.one.matching.matcher._batch_max = 2

    await scene.create("ana", slots={WEB: 5})
    await scene.one.match()

    assert await scene.offered("ana") == [last]
    await scene.create("kor", skills={"lang:tlh": 3}, slots={WEB: 5})
    await scene.one.match()
    assert sorted(await scene.offered("kor")) == sorted(lost)


async def test_new_skill_and_new_slot_drain_the_queue(scene: Scene) -> None:
    await scene.create("ana", slots={WEB: 0})
    conversation = await scene.hand_over(required_skills=[Skill(name="lang:en", level=4)])

    for skills, slots in (([("lang:en", 3)], 1), ([("lang:en", 4)], 1)):
        assert await scene.offered("ana") == []
        details = Details("ana", "Ana", "", skills, [(WEB, slots)])
        await handlers.update_agent(scene.tenant, details, tools=scene.one.tools)
        await scene.one.match()

    assert await scene.offered("ana") == [conversation]


async def test_declined_offer_goes_to_the_next_best_and_begins_again_after_a_pause(
    scene: Scene, clock: ManualClock
) -> None:
    await scene.create("ana")
    await scene.create("ben")
    conversation = await scene.hand_over(preferred_agent_id="ana")
    await scene.decline("ana")
    await scene.one.match()
    assert await scene.offered("ben") == [conversation]

    await scene.decline("ben")
    await scene.one.match()

    assert await scene.offered("ana") == await scene.offered("ben") == []
    clock.advance(timedelta(seconds=31))
    await scene.one.sweep()
    assert await scene.offered("ana") == [conversation]


async def test_offer_that_runs_out_goes_on_and_its_agent_does_not_respond(
    scene: Scene, clock: ManualClock
) -> None:
    await scene.create("ana")
    await scene.create("ben")
    conversation = await scene.hand_over(preferred_agent_id="ana")
    [offer_id] = (await scene.desk("ana")).offers
    clock.advance(timedelta(seconds=30))
    with pytest.raises(FailedPrecondition) as refused:
        await scene.accept("ana", offer_id)
    assert refused.value.reason == "OFFER_EXPIRED"

    await scene.one.sweep()

    assert (await scene.desk("ana")).agent.status is Status.NOT_RESPONDING
    assert await scene.offered("ben") == [conversation]
    assert types(await scene.told("ana"))[3:] == ["AgentOfferClosed", "AgentStateChanged"]
    with pytest.raises(FailedPrecondition):
        await scene.accept("ana", offer_id)


async def test_transfer_withdraws_and_releases_what_was_before(scene: Scene) -> None:
    await scene.create("ana")
    await scene.create("ben")
    conversation = await scene.hand_over(preferred_agent_id="ana")
    [offer_id] = (await scene.desk("ana")).offers

    await scene.hand_over(conversation, 2, excluded_agent_ids=["ana"])

    with pytest.raises(FailedPrecondition) as refused:
        await scene.accept("ana", offer_id)
    assert refused.value.reason == "OFFER_WITHDRAWN"
    await scene.accept("ben")
    await scene.hand_over(conversation, 3, preferred_agent_id="ana")
    released = (await scene.told("ben"))[-1]
    assert (released.reason, released.hand_off) == (pb.RELEASE_REASON_HANDED_OFF, 2)
    assert await scene.offered("ana") == [conversation]


async def test_agent_who_goes_gives_everything_back(scene: Scene) -> None:
    await scene.create("ana", slots={WEB: 2})
    first, second = await scene.hand_over(), await scene.hand_over()
    [offer_id, _] = (await scene.desk("ana")).offers
    await scene.accept("ana", offer_id)

    await scene.status("ana", Status.OFFLINE)

    told = await scene.told("ana")
    assert types(told)[-3:] == ["AgentStateChanged", "AgentOfferClosed", "AgentReleased"]
    assert told[-1].reason == pb.RELEASE_REASON_AGENT_GONE
    await scene.create("ben", slots={WEB: 2})
    await scene.one.match()
    assert await scene.offered("ben") == [second]
    await scene.hand_over(first, 2)
    assert await scene.offered("ben") == [second, first]


async def test_agent_without_a_session_is_gone_after_the_grace(
    scene: Scene, clock: ManualClock
) -> None:
    for name in ("ana", "ben"):
        await scene.create(name)
        await scene.apply([scene.session_opened(name), scene.session_ended(name)])
    clock.advance(timedelta(seconds=9))
    await scene.one.sweep()
    await scene.apply([scene.session_opened("ben")])

    clock.advance(timedelta(seconds=1))
    await scene.one.sweep()

    assert (await scene.desk("ana")).agent.status is Status.OFFLINE
    assert (await scene.desk("ben")).agent.status is Status.ONLINE
    assert (await scene.told("ana"))[-1].reason == pb.STATE_REASON_SESSION_ENDED


async def test_channels_have_slots_of_their_own(scene: Scene) -> None:
    await scene.create("ana", slots={WEB: 1, MAIL: 2})

    web = [await scene.hand_over() for _ in range(2)]
    mail = [await scene.hand_over(channel=MAIL) for _ in range(3)]

    assert sorted(await scene.offered("ana")) == sorted([web[0], *mail[:2]])


async def test_two_tenants_with_the_same_ids_do_not_meet(scene: Scene) -> None:
    other = scene.tenant + "x"
    await scene.create("ana")
    await scene.create("ana", tenant=other, online=False)
    conversation = scene.conversation()
    events = [
        scene.handed_off(conversation),
        scene.handed_off(conversation, tenant=other),
    ]
    await scene.apply(events)
    await scene.one.match()

    assert await scene.offered("ana") == [conversation]
    assert await scene.offered("ana", tenant=other) == []
    [offer_id] = (await scene.desk("ana")).offers
    with pytest.raises(NotFound):
        await scene.do(working.AcceptOffer("ana", offer_id), tenant=other)


async def test_ended_before_it_was_matched_is_offered_to_nobody(scene: Scene) -> None:
    await scene.create("ana")
    event = scene.handed_off()
    await scene.apply([event, scene.ended(event.key)])
    await scene.one.match()
    await scene.one.sweep()

    assert await scene.offered("ana") == []


async def test_unknown_and_foreign_offers_look_alike(scene: Scene) -> None:
    await scene.create("ana")
    await scene.create("ben")
    await scene.hand_over(preferred_agent_id="ana")
    [offer_id] = (await scene.desk("ana")).offers

    for agent_id, offer in (("ben", offer_id), ("ana", scene.conversation())):
        with pytest.raises(NotFound) as refused:
            await scene.accept(agent_id, offer)
        assert refused.value.reason == "OFFER_NOT_FOUND"
