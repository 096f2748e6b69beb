"""The session service on real Postgres: sessions without a socket, and who is there."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import grpc
import pytest
from interchange.session.v1 import session_pb2
from interchange.session.v1 import session_service_pb2 as pb
from interchange.session.v1.session_events_pb2 import SessionEnded, SessionOpened
from interchange.session.v1.session_service_pb2_grpc import SessionServiceStub

from services.common.config import Settings
from services.common.host import Host
from services.session.__main__ import wire
from services.stack.stack import Stack
from tests.integration.test_session_scene import (
    AGENT,
    CUSTOMER,
    Caller,
    Gateway,
    Scene,
    WallClock,
    new_tenant,
    published,
    refused,
    service,
    settings_of,
    stored_events,
)

NOBODY = "0195c0de-0000-7000-8000-000000000001"
EXPIRED = ("FAILED_PRECONDITION", "SESSION_EXPIRED")
NOT_FOUND = ("NOT_FOUND", "SESSION_NOT_FOUND")


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


def seconds_left(scene: Scene, session: Any) -> float:
    return float(session.expire_time.ToNanoseconds() / 1e9 - scene.clock.now.timestamp())


async def test_a_session_opens_lives_by_heartbeats_and_ends(scene: Scene) -> None:
    ann = scene.caller()

    opened = await ann.open("phone")
    session_id = opened.session.session_id
    assert (opened.session.subject, opened.session.subject_kind) == ("ann", CUSTOMER)
    assert (opened.session.client, opened.session.instance_id) == ("phone", "")
    assert len(opened.secret) == 43
    assert seconds_left(scene, opened.session) == 60

    scene.clock.advance(59)
    assert seconds_left(scene, await ann.heartbeat(session_id)) == 60

    scene.clock.advance(59)
    ended = await ann.end(session_id)
    assert ended.end_reason == session_pb2.SESSION_END_CLOSED
    assert await ann.end(session_id) == ended
    assert await refused(ann.heartbeat(session_id)) == EXPIRED
    assert await refused(ann.resume(session_id, opened.secret)) == EXPIRED


@pytest.mark.parametrize(
    ("roles", "kind"),
    [
        ("customer", CUSTOMER),
        ("agent", AGENT),
        ("customer agent", AGENT),
        ("supervisor", AGENT),
        ("customer supervisor", AGENT),
    ],
)
async def test_who_is_more_than_a_customer_comes_as_an_agent(
    scene: Scene, roles: str, kind: int
) -> None:
    opened = await scene.caller(roles=roles).open()

    assert opened.session.subject_kind == kind


async def test_a_heartbeat_after_the_expiry_is_refused_swept_or_not(scene: Scene) -> None:
    ann = scene.caller()
    opened = await ann.open()
    session_id = opened.session.session_id

    scene.clock.advance(60)
    assert await refused(ann.heartbeat(session_id)) == EXPIRED
    assert await refused(ann.resume(session_id, opened.secret)) == EXPIRED

    await scene.swept()
    assert await refused(ann.heartbeat(session_id)) == EXPIRED
    assert await refused(ann.resume(session_id, opened.secret)) == EXPIRED
    ended = await ann.end(session_id)
    assert ended.end_reason == session_pb2.SESSION_END_EXPIRED


async def test_a_session_is_taken_up_with_its_secret(scene: Scene) -> None:
    ann = scene.caller()
    opened = await ann.open()
    scene.clock.advance(30)

    resumed = await ann.resume(opened.session.session_id, opened.secret)

    assert resumed.resume_count == 1
    assert seconds_left(scene, resumed) == 60


async def test_who_may_not_take_a_session_up_cannot_tell_it_from_none(scene: Scene) -> None:
    ann, bob = scene.caller(), scene.caller("bob")
    opened = await ann.open()
    session_id = opened.session.session_id

    assert await refused(ann.resume(session_id, "wrong")) == NOT_FOUND
    assert await refused(ann.resume(session_id, opened.secret[:-1])) == NOT_FOUND
    assert await refused(bob.resume(session_id, opened.secret)) == NOT_FOUND
    assert await refused(bob.heartbeat(session_id)) == NOT_FOUND
    assert await refused(bob.end(session_id)) == NOT_FOUND
    assert await refused(ann.resume(NOBODY, opened.secret)) == NOT_FOUND
    assert await refused(ann.heartbeat(NOBODY)) == NOT_FOUND
    await ann.end(session_id)
    assert await refused(ann.resume(session_id, "wrong")) == NOT_FOUND


async def test_two_tenants_with_the_same_subject_are_strangers(scene: Scene) -> None:
    other = scene.neighbour()
    here, there = scene.caller(), other.caller()
    opened = await here.open()
    session_id = opened.session.session_id

    assert await refused(there.resume(session_id, opened.secret)) == NOT_FOUND
    assert await refused(there.heartbeat(session_id)) == NOT_FOUND
    assert await refused(there.end(session_id)) == NOT_FOUND
    assert await there.sessions() == []
    assert await other.gateway().online("ann") == []

    await there.open()
    await here.end(session_id)
    assert await scene.gateway().online("ann") == []
    assert await other.gateway().online("ann") == ["ann"]


async def test_the_secret_is_stored_nowhere(scene: Scene, owner: asyncpg.Connection) -> None:
    opened = await scene.caller().open()

    row = await owner.fetchval(
        "SELECT s::text FROM session.sessions AS s WHERE tenant_id = $1", scene.tenant
    )
    kept = await owner.fetch(
        "SELECT payloads FROM session.outbox WHERE tenant_id = $1", scene.tenant
    )

    assert opened.secret not in row
    assert opened.secret.encode() not in b"".join(kept[0]["payloads"])


async def test_events_count_what_is_open(scene: Scene, owner: asyncpg.Connection) -> None:
    ann = scene.caller(roles="agent")
    first, second = await ann.open(), await ann.open()
    await ann.end(first.session.session_id)
    await scene.swept(60)

    found = await stored_events(owner, scene.tenant, "ann")

    assert [(type(one), one.open_count) for one in found] == [
        (SessionOpened, 1),
        (SessionOpened, 2),
        (SessionEnded, 1),
        (SessionEnded, 0),
    ]
    assert [one.subject_kind for one in found] == [AGENT] * 4
    assert found[0].event_id == first.session.session_id
    assert [one.session_id for one in found[2:]] == [
        first.session.session_id,
        second.session.session_id,
    ]
    assert [one.reason for one in found[2:]] == [
        session_pb2.SESSION_END_CLOSED,
        session_pb2.SESSION_END_EXPIRED,
    ]


async def test_events_reach_kafka_in_the_order_of_their_subject(
    scene: Scene, settings: Settings
) -> None:
    ann = scene.caller()
    opened = await ann.open()
    await ann.end(opened.session.session_id)

    found = await published(settings, scene.tenant, 2)

    assert [(one.key, one.sequence) for one in found] == [("ann", 1), ("ann", 2)]


async def test_a_caller_lists_his_own_and_a_supervisor_all(scene: Scene) -> None:
    ann, bob = scene.caller(), scene.caller("bob", "agent")
    boss = scene.caller("boss", "supervisor")
    mine = [(await ann.open()).session.session_id for _ in range(3)]
    his = (await bob.open()).session.session_id
    ended = (await ann.open()).session.session_id
    await ann.end(ended)

    def names(sessions: list[Any]) -> list[str]:
        return [one.session_id for one in sessions]

    assert names(await ann.sessions()) == mine[::-1]
    assert names(await ann.sessions(subject="ann")) == mine[::-1]
    assert await ann.sessions(subject="bob") == []
    assert names(await boss.sessions()) == [his, *mine[::-1]]
    assert names(await boss.sessions(subject="ann")) == mine[::-1]
    assert await boss.sessions(subject="nobody") == []
    assert await boss.sessions(subject="a\0b") == []


async def test_pages_follow_each_other(scene: Scene) -> None:
    ann = scene.caller()
    for _ in range(5):
        await ann.open()
    seen, token = [], ""
    while True:
        request = pb.ListSessionsRequest(page_size=2, page_token=token)
        page = await ann("ListSessions", request)
        seen += [one.session_id for one in page.sessions]
        token = page.next_page_token
        if not token:
            break

    assert seen == [one.session_id for one in await ann.sessions()]
    assert len(seen) == 5
    forged = pb.ListSessionsRequest(page_token="x")
    assert await refused(ann("ListSessions", forged)) == ("INVALID_ARGUMENT", "INVALID_PAGE_TOKEN")


@pytest.mark.parametrize(
    ("rpc", "request_", "reason"),
    [
        ("OpenSession", pb.OpenSessionRequest(client="a\0b"), "INVALID_CLIENT"),
        ("OpenSession", pb.OpenSessionRequest(client="x" * 101), "INVALID_FIELD"),
        ("HeartbeatSession", pb.HeartbeatSessionRequest(session_id="x"), "INVALID_FIELD"),
        ("ResumeSession", pb.ResumeSessionRequest(session_id=NOBODY), "INVALID_FIELD"),
        ("ListSessions", pb.ListSessionsRequest(page_size=501), "INVALID_FIELD"),
    ],
)
async def test_bad_input_is_refused(scene: Scene, rpc: str, request_: Any, reason: str) -> None:
    assert await refused(scene.caller()(rpc, request_)) == ("INVALID_ARGUMENT", reason)


async def test_a_crowd_of_one_subject_is_counted_right(
    scene: Scene, owner: asyncpg.Connection
) -> None:
    ann = scene.caller()
    opened = await asyncio.gather(*(ann.open() for _ in range(100)))
    await asyncio.gather(*(ann.end(one.session.session_id) for one in opened[:60]))

    found = await stored_events(owner, scene.tenant, "ann")

    assert len(await ann.sessions(page_size=200)) == 40
    assert found[-1].open_count == 40
    assert len(found) == 160


async def test_nobody_opens_sessions_without_end(scene: Scene, owner: asyncpg.Connection) -> None:
    await scene.caller().open()
    await owner.execute(
        "UPDATE session.subjects SET open_count = 1000 WHERE tenant_id = $1", scene.tenant
    )

    expected = ("RESOURCE_EXHAUSTED", "TOO_MANY_SESSIONS")
    assert await refused(scene.caller().open()) == expected
    await scene.caller("bob").open()


async def test_the_sweep_wakes_when_something_is_due(settings: Settings) -> None:
    short = {"session_lease_ms": 200, "session_resume_ms": 300, "session_keep_ms": 400}
    host = Host(settings.model_copy(update=short))
    await wire(host)
    await host.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{host.port}") as channel:
        tenant, stub = new_tenant(), SessionServiceStub(channel)
        gateway = Gateway(Caller(stub, tenant, "gateway", "mesh"))
        await gateway.take("ann")
        await Caller(stub, tenant, "bob").open()

        # Nobody says that they live, and nobody calls the sweep.
        async with asyncio.timeout(15):
            while await gateway.online("ann", "bob"):
                await asyncio.sleep(0.05)
        found = await published(settings, tenant, 4)
    await host.leave()

    assert sorted((one.key, one.sequence) for one in found) == [
        ("ann", 1),
        ("ann", 2),
        ("bob", 1),
        ("bob", 2),
    ]
