"""Sessions of sockets on real Postgres: attached in batches, broken, lost and found."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from interchange.gateway.v1.gateway_pb2 import Push
from interchange.session.v1 import session_pb2
from interchange.session.v1 import session_service_pb2 as pb

from services.common import redis
from services.common.config import Settings
from services.common.push import Followers
from services.stack.stack import Stack
from tests.integration.test_session_scene import (
    AGENT,
    CUSTOMER,
    Gateway,
    Scene,
    WallClock,
    new_tenant,
    reason,
    refused,
    service,
    settings_of,
    socket,
    stored_events,
)

NOBODY = "0195c0de-0000-7000-8000-000000000001"
EXPIRED = ("FAILED_PRECONDITION", "SESSION_EXPIRED")


@pytest.fixture(scope="module")
def settings(servers: Stack) -> Settings:
    return settings_of(servers)


@pytest.fixture(scope="module")
async def instance(settings: Settings) -> AsyncIterator[Any]:
    clock = WallClock()
    async with service(settings, clock) as (stub, sweep):
        yield stub, sweep, clock


@pytest.fixture
def scene(instance: Any) -> Scene:
    return Scene(*instance, new_tenant())


@pytest.fixture
async def owner(servers: Stack, settings: Settings) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(servers.database_url())
    yield connection
    await connection.close()


async def ends(owner: asyncpg.Connection, scene: Scene, subject: str = "ann") -> list[Any]:
    """Return reason and count of each end of a subject's sessions."""
    found = await stored_events(owner, scene.tenant, subject)
    return [(one.reason, one.open_count) for one in found if hasattr(one, "reason")]


async def test_a_socket_lives_as_long_as_its_instance(scene: Scene) -> None:
    gateway = scene.gateway()
    opened = await gateway.take("ann")
    assert (opened.session.instance_id, opened.resumed) == (gateway.instance_id, False)

    for _ in range(20):
        scene.clock.advance(14)
        assert await gateway.heartbeat() == []
        await scene.swept()

    assert await gateway.online("ann") == ["ann"]
    (listed,) = await scene.caller().sessions()
    assert listed.instance_id == gateway.instance_id
    assert listed.expire_time.seconds == int(scene.clock.now.timestamp()) + 15 + 30


async def test_what_an_instance_held_that_was_killed_is_found_and_ended(
    scene: Scene, owner: asyncpg.Connection
) -> None:
    killed, other = scene.gateway(), scene.gateway()
    await killed.take("ann")
    await other.take("bob")

    scene.clock.advance(30)
    await other.heartbeat()
    await scene.swept(14.9)
    assert await other.online("ann", "bob") == ["ann", "bob"]

    await scene.swept(0.1)
    assert await other.online("ann", "bob") == ["bob"]
    assert await ends(owner, scene) == [(session_pb2.SESSION_END_VANISHED, 0)]


async def test_a_client_of_a_killed_instance_comes_back_in_time(scene: Scene) -> None:
    killed, other = scene.gateway(), scene.gateway()
    opened = await killed.take("ann")
    scene.clock.advance(44)

    resumed = await other.take("ann", opened)

    assert resumed.resumed
    assert resumed.session.session_id == opened.session.session_id
    assert (resumed.session.instance_id, resumed.session.resume_count) == (other.instance_id, 1)
    assert resumed.secret == opened.secret
    await scene.swept(10)
    assert await other.online("ann") == ["ann"]


async def test_a_client_that_comes_back_too_late_gets_a_new_session(
    scene: Scene, owner: asyncpg.Connection
) -> None:
    killed, other = scene.gateway(), scene.gateway()
    opened = await killed.take("ann")
    scene.clock.advance(45)

    late = await other.take("ann", opened)
    await scene.swept()

    assert not late.resumed
    assert late.session.session_id != opened.session.session_id
    assert late.secret != opened.secret
    assert await other.online("ann") == ["ann"]
    assert await ends(owner, scene) == [(session_pb2.SESSION_END_VANISHED, 1)]


async def test_a_broken_socket_is_waited_for_and_no_longer(
    scene: Scene, owner: asyncpg.Connection
) -> None:
    gateway = scene.gateway()
    opened = await gateway.take("ann")
    session_id = opened.session.session_id

    assert await gateway.detach(broken=[session_id]) == 1
    scene.clock.advance(29)
    await gateway.heartbeat()
    resumed = await gateway.take("ann", opened)
    assert resumed.resumed

    assert await gateway.detach(broken=[session_id]) == 1
    await gateway.heartbeat()
    await scene.swept(29)
    assert await gateway.online("ann") == ["ann"]
    await scene.swept(1)
    assert await gateway.online("ann") == []
    assert await ends(owner, scene) == [(session_pb2.SESSION_END_EXPIRED, 0)]


async def test_a_goodbye_ends_at_once_and_only_once(
    scene: Scene, owner: asyncpg.Connection
) -> None:
    gateway = scene.gateway()
    opened = await gateway.take("ann")
    session_id = opened.session.session_id

    assert await gateway.detach(ended=[session_id]) == 1
    assert await gateway.detach(ended=[session_id], broken=[session_id]) == 0

    assert await refused(scene.caller().heartbeat(session_id)) == EXPIRED
    assert await ends(owner, scene) == [(session_pb2.SESSION_END_CLOSED, 0)]
    assert await gateway.heartbeat() == []
    assert not (await gateway.take("ann", opened)).resumed


async def test_an_instance_detaches_only_what_it_holds(scene: Scene) -> None:
    old, new = scene.gateway(), scene.gateway()
    opened = await old.take("ann")
    await new.take("ann", opened)
    session_id = opened.session.session_id

    assert await old.detach(ended=[session_id]) == 0
    assert await old.detach(broken=[session_id, NOBODY, "x"]) == 0

    assert await new.online("ann") == ["ann"]
    assert await scene.neighbour().gateway().detach(ended=[session_id]) == 0


async def test_an_instance_is_told_what_moved_away_until_it_holds_it_again(scene: Scene) -> None:
    old, new = scene.gateway(), scene.gateway()
    opened = await old.take("ann")
    session_id = opened.session.session_id

    await new.take("ann", opened)
    assert await new.heartbeat() == []
    assert [await old.heartbeat() for _ in range(4)] == [[session_id]] * 3 + [[]]

    await old.take("ann", opened)
    assert await old.heartbeat() == []
    assert await new.heartbeat() == [session_id]


async def test_an_instance_is_told_what_its_clients_ended_elsewhere(scene: Scene) -> None:
    gateway, ann = scene.gateway(), scene.caller()
    ended, resumed = await gateway.take("ann"), await gateway.take("ann")

    await ann.end(ended.session.session_id)
    taken = await ann.resume(resumed.session.session_id, resumed.secret)

    assert (taken.instance_id, taken.resume_count) == ("", 1)
    lost = {ended.session.session_id, resumed.session.session_id}
    assert set(await gateway.heartbeat()) == lost


async def test_a_heartbeat_takes_a_session_over_from_a_dead_instance_only(scene: Scene) -> None:
    gateway, ann = scene.gateway(), scene.caller()
    opened = await gateway.take("ann")
    session_id = opened.session.session_id

    kept = await ann.heartbeat(session_id)
    assert kept.instance_id == gateway.instance_id

    scene.clock.advance(16)
    kept = await ann.heartbeat(session_id)
    assert kept.instance_id == ""
    assert await gateway.heartbeat() == [session_id]


async def test_an_instance_that_only_slept_goes_on_with_what_is_left(scene: Scene) -> None:
    gateway, other = scene.gateway(), scene.gateway()
    moved, stayed = await gateway.take("ann"), await gateway.take("bob")
    scene.clock.advance(40)
    await other.take("ann", moved)

    assert await gateway.heartbeat() == [moved.session.session_id]
    await scene.swept(14)

    assert await gateway.online("ann", "bob") == ["ann", "bob"]
    (listed,) = await scene.caller("bob").sessions()
    assert listed.session_id == stayed.session.session_id


async def test_an_instance_that_slept_too_long_is_told_that_all_is_lost(scene: Scene) -> None:
    gateway = scene.gateway()
    opened = await gateway.take("ann")
    await scene.swept(45)

    assert await gateway.heartbeat() == [opened.session.session_id]
    assert (await gateway.take("ann")).session.instance_id == gateway.instance_id


async def test_a_dead_instance_lives_again_only_when_all_that_it_held_has_ended(
    scene: Scene,
) -> None:
    gateway = scene.gateway()
    opened = await gateway.take("ann")
    session_id = opened.session.session_id
    scene.clock.advance(45)

    # The sweep is late: what is over must stay so, whatever the instance says.
    assert await gateway.heartbeat() == []
    (dead,) = await gateway.attach(socket("bob"))
    assert (dead.error.code, reason(dead.error)) == (14, "INSTANCE_DEAD")
    assert await refused(scene.caller().heartbeat(session_id)) == EXPIRED

    await scene.swept()
    assert await gateway.heartbeat() == [session_id]
    assert (await gateway.take("bob")).session.instance_id == gateway.instance_id
    await scene.swept(1)
    assert await gateway.online("ann", "bob") == ["bob"]


async def test_an_instance_that_comes_back_under_a_new_id_lets_the_old_one_run_out(
    scene: Scene, owner: asyncpg.Connection
) -> None:
    before, after = scene.gateway(), scene.gateway()
    opened, forgotten = await before.take("ann"), await before.take("bob")
    await after.take("ann", opened)
    for _ in range(4):
        scene.clock.advance(14)
        await after.heartbeat()

    await scene.swept()
    await scene.swept(1)
    await after.heartbeat()

    assert await after.online("ann", "bob") == ["ann"]
    assert await refused(scene.caller("bob").heartbeat(forgotten.session.session_id)) == EXPIRED
    rows = await owner.fetch("SELECT * FROM session.instances")
    buried = {row["instance_id"]: row["buried_time"] for row in rows}
    assert buried[after.instance_id] is None
    assert buried[before.instance_id] is not None


async def test_an_attachment_whose_answer_was_lost_is_found(
    scene: Scene, owner: asyncpg.Connection
) -> None:
    gateway = scene.gateway()
    known = (await gateway.take("ann")).session.session_id
    orphan = (await gateway.take("bob")).session.session_id

    # One of which the answer may still be under way is left alone.
    scene.clock.advance(14)
    assert await gateway.confirm(known) == []
    for _ in range(4):
        await gateway.heartbeat()
        scene.clock.advance(14)
    assert await gateway.confirm(known, NOBODY) == [NOBODY]
    await gateway.heartbeat()
    (listed,) = await scene.caller("bob").sessions()
    assert (listed.session_id, listed.instance_id) == (orphan, "")

    await scene.swept(14)
    await gateway.heartbeat()
    scene.clock.advance(14)
    await gateway.heartbeat()
    await scene.swept(2)
    assert await gateway.online("ann", "bob") == ["ann"]
    assert await ends(owner, scene, "bob") == [(session_pb2.SESSION_END_EXPIRED, 0)]


async def test_confirming_never_touches_another_tenant(scene: Scene) -> None:
    here = scene.gateway()
    there = Gateway(scene.neighbour().caller("gateway", "mesh"), here.instance_id)
    mine = await here.take("ann")
    theirs = await there.take("ann")
    for _ in range(5):
        scene.clock.advance(14)
        await here.heartbeat()

    assert await here.confirm(mine.session.session_id) == []
    assert await there.confirm(theirs.session.session_id, mine.session.session_id) == [
        mine.session.session_id
    ]
    assert await here.online("ann") == await there.online("ann") == ["ann"]


async def test_a_thousand_sockets_attach_in_one_call(
    scene: Scene, owner: asyncpg.Connection
) -> None:
    gateway = scene.gateway()

    results = await gateway.attach(*(socket(f"c{number}") for number in range(1000)))
    again = await gateway.attach(
        *(
            socket(f"c{number}", session_id=one.session.session_id, secret=one.secret)
            for number, one in enumerate(results)
        )
    )

    assert [one.session.subject for one in results] == [f"c{number}" for number in range(1000)]
    assert len({one.session.session_id for one in results}) == 1000
    assert len({one.secret for one in results}) == 1000
    assert [one.session.session_id for one in again] == [one.session.session_id for one in results]
    assert all(one.resumed for one in again)
    rows = await owner.fetch("SELECT * FROM session.outbox WHERE tenant_id = $1", scene.tenant)
    assert [len(row["payloads"]) for row in rows] == [1000]

    session_ids = [one.session.session_id for one in results]
    assert await gateway.detach(ended=session_ids[:400], broken=session_ids[400:]) == 1000
    assert len(await gateway.online(*(f"c{number}" for number in range(1000)))) == 600
    await scene.swept(30)
    assert await gateway.online(*(f"c{number}" for number in range(1000))) == []


async def test_one_bad_attachment_fails_nobody_else(scene: Scene) -> None:
    gateway = scene.gateway()
    opened = await gateway.take("ann")
    session_id, secret = opened.session.session_id, opened.secret

    results = await gateway.attach(
        socket("ok"),
        socket("a b"),
        socket("x", kind=0),
        pb.Attachment(subject="x", subject_kind=AGENT, client="a\0b"),
        socket("ann", session_id="x", secret=secret),
        socket("ann", session_id=NOBODY, secret=secret),
        socket("ann", session_id=session_id, secret="wrong"),
        socket("bob", session_id=session_id, secret=secret),
        socket("ann", session_id=session_id, secret="x" * 65),
        socket("ann", session_id=session_id, secret=secret),
        socket("ok", kind=CUSTOMER),
    )

    told = [reason(one.error) if one.HasField("error") else one.resumed for one in results]
    assert told == [
        False,
        "INVALID_SUBJECT",
        "INVALID_SUBJECT_KIND",
        "INVALID_CLIENT",
        "INVALID_SESSION_ID",
        *["SESSION_NOT_FOUND"] * 3,
        "INVALID_SECRET",
        True,
        False,
    ]
    assert len(await scene.caller("ok").sessions()) == 2


async def test_batches_have_bounds(scene: Scene) -> None:
    gateway = scene.gateway()
    too_many = ("INVALID_ARGUMENT", "TOO_MANY_ENTRIES")

    assert await refused(gateway.attach(*[socket()] * 1001)) == too_many
    assert await refused(gateway.detach(ended=[NOBODY] * 1001)) == too_many
    assert await refused(gateway.detach(broken=[NOBODY] * 5001)) == too_many
    assert await refused(gateway.confirm(*[NOBODY] * 20_001)) == too_many
    assert await refused(gateway.online(*["ann"] * 1001)) == too_many
    assert await gateway.attach() == []
    assert await gateway.detach() == 0
    assert await gateway.online() == []
    assert await gateway.online("a\0b", "") == []
    gateway.instance_id = "a\0b"
    bad = ("INVALID_ARGUMENT", "INVALID_INSTANCE_ID")
    assert await refused(gateway.attach(socket())) == bad
    assert await refused(gateway.heartbeat()) == bad


@pytest.mark.parametrize("roles", ["customer", "agent", "supervisor auditor operations"])
async def test_only_services_attach(scene: Scene, roles: str) -> None:
    gateway = Gateway(scene.caller("ann", roles))

    for calling in (gateway.attach(socket()), gateway.heartbeat(), gateway.online("ann")):
        assert (await refused(calling))[0] == "PERMISSION_DENIED"


async def test_followers_are_told_who_comes_and_goes(scene: Scene, settings: Settings) -> None:
    told: asyncio.Queue[Push] = asyncio.Queue()
    client = redis.connect(settings)
    followers = Followers(client, f"follower-{scene.tenant}", told.put_nowait)
    following = asyncio.create_task(followers.run())
    await _subscribed(client, f"push:follower-{scene.tenant}")
    await followers.follow(scene.tenant, subject="ann")
    gateway = scene.gateway()

    async def next_move() -> tuple[str, str, bool]:
        push = await asyncio.wait_for(told.get(), 10)
        return push.tenant_id, push.presence.subject, push.presence.online

    first, _ = await gateway.take("ann"), await scene.neighbour().gateway().take("ann")
    assert await next_move() == (scene.tenant, "ann", True)
    second = await gateway.take("ann")
    await gateway.detach(ended=[first.session.session_id])
    await gateway.detach(ended=[second.session.session_id])
    assert await next_move() == (scene.tenant, "ann", False)
    await gateway.take("ann")
    assert await next_move() == (scene.tenant, "ann", True)
    await scene.swept(45)
    assert await next_move() == (scene.tenant, "ann", False)
    assert told.empty()

    following.cancel()
    await client.aclose()


async def _subscribed(client: Any, channel: str) -> None:
    async with asyncio.timeout(10):
        while not (await client.pubsub_numsub(channel))[0][1]:
            await asyncio.sleep(0.01)
