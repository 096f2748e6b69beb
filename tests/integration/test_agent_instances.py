"""Instances whose tasks run: timers on time, mirrors that tell each other, no Redis at all."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from services.agent.domain import Offer, Status
from services.agent.saving import Stale
from services.stack.stack import Stack
from tests.integration.test_agent_scene import WEB, Scene, opened


@pytest.fixture
async def scene(servers: Stack) -> AsyncIterator[Scene]:
    # Sweeps come too late for these tests: what happens, happens by itself.
    slow = {"agent_sweep_ms": 600_000, "agent_mirror_check_ms": 600_000}
    async with opened(servers, **slow, agent_offer_timeout_ms=300) as found:
        yield found
        assert await found.violations() == []


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await condition():
            await asyncio.sleep(0.01)


async def test_hand_over_is_offered_and_runs_out_without_a_sweep(scene: Scene) -> None:
    scene.one.start()
    await scene.create("ana")
    await scene.create("ben")
    event = scene.handed_off(preferred_agent_id="ana")

    await scene.apply([event])

    await until(lambda: has(scene, "ana", event.key))
    await until(lambda: has(scene, "ben", event.key))
    assert (await scene.desk("ana")).agent.status is Status.NOT_RESPONDING


async def has(scene: Scene, agent_id: str, conversation_id: str) -> bool:
    return conversation_id in await scene.offered(agent_id)


async def test_agent_who_comes_drains_the_queue_of_all_pages(scene: Scene) -> None:
    scene.one.start()
    scene.one.matching.matcher._batch_max = 4
    await scene.apply([scene.handed_off() for _ in range(10)])

    await scene.create("ana", slots={WEB: 10})

    async def all_offered() -> bool:
        return len(await scene.offered("ana")) == 10

    await until(all_offered)


async def test_instances_tell_each_other_of_agents(scene: Scene) -> None:
    other = await scene.instance()
    scene.one.start("news")
    other.start("changes")
    await scene.create("ana")
    mirror = await other.matching.mirrors.get(scene.tenant, "default")

    async def told() -> bool:
        # Said again until the other is subscribed.
        await scene.status("ana", Status.AWAY)
        await scene.status("ana", Status.ONLINE)
        known = mirror.get("ana")
        return known is not None and known.version > 2

    await until(told)


async def test_nonsense_on_the_channel_ends_nothing(scene: Scene) -> None:
    other = await scene.instance()
    scene.one.start("news")
    other.start("changes")
    await scene.create("ana")
    mirror = await other.matching.mirrors.get(scene.tenant, "default")

    async def told() -> bool:
        channel = f"{{{scene.tenant}:default}}:changes"
        await scene.one.client.publish(channel, b"\xff\xff nonsense")
        await scene.status("ana", Status.AWAY)
        known = mirror.get("ana")
        return known is not None and known.status is Status.AWAY

    await until(told)


async def test_without_redis_matching_goes_on(servers: Stack) -> None:
    async with opened(servers, redis_url="redis://127.0.0.1:9/0") as scene:
        scene.one.start()
        await scene.create("ana", slots={WEB: 2})
        events = [scene.handed_off() for _ in range(3)]

        await scene.apply(events)

        async def both_offered() -> bool:
            return len(await scene.offered("ana")) == 2

        await until(both_offered)
        assert await scene.violations() == []


async def test_desk_that_was_written_without_its_lock_is_stale(scene: Scene) -> None:
    """The tables refuse what was decided on an older desk, whoever holds which lock."""
    await scene.create("ana", slots={WEB: 1})
    await scene.create("ben", slots={WEB: 0})
    first, second = (scene.handed_off(excluded_agent_ids=["ana"]) for _ in range(2))
    await scene.apply([first, second])
    desk = await scene.desk("ana")
    await scene.status("ana", Status.AWAY)
    now = scene.clock.now()
    async with scene.one.units.reading(scene.tenant) as repository:
        request = (await repository.queue.waiting(scene.tenant, "default", None, 1))[0]
    offer = Offer(
        scene.conversation(), "ana", request.conversation_id, 1, "carl", WEB, 1, now, now, now
    )
    desk.offer(request, offer, 0)

    with pytest.raises(Stale):
        async with scene.one.units.tenant(scene.tenant) as work:
            await work.repository.save(scene.tenant, [desk], [request], now)

    assert await scene.offered("ana") == []
