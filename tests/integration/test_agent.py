"""The agent service on real Postgres, Redis and Kafka, called over gRPC."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import asyncpg
import grpc
import pytest
from confluent_kafka import Producer
from google.rpc import error_details_pb2, status_pb2
from interchange.agent.v1 import agent_pb2
from interchange.agent.v1 import agent_service_pb2 as pb
from interchange.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from interchange.conversation.v1 import conversation_events_pb2 as events_pb
from interchange.conversation.v1 import conversation_pb2 as talk
from interchange.gateway.v1.gateway_pb2 import Push

from services.agent.__main__ import wire
from services.common import ids, kafka, redis
from services.common.config import Settings
from services.common.host import Host
from services.common.push import Followers
from services.stack import topics
from services.stack.stack import Stack

WEB = talk.CHANNEL_WEB
ONLINE, AWAY = agent_pb2.AGENT_STATUS_ONLINE, agent_pb2.AGENT_STATUS_AWAY
OFFLINE = agent_pb2.AGENT_STATUS_OFFLINE
PREFIX = f"agent-{uuid4().hex[:8]}-"


@dataclass
class Caller:
    """A tenant of its own that calls the service, as somebody."""

    stub: Any
    tenant: str
    subject: str = "sue"
    roles: str = "supervisor"

    async def __call__(self, rpc: str, request: Any) -> Any:
        headers = (
            ("x-interchange-tenant", self.tenant),
            ("x-interchange-subject", self.subject),
            ("x-interchange-roles", self.roles),
        )
        return await getattr(self.stub, rpc)(request, metadata=headers, timeout=20)

    def as_(self, subject: str, roles: str = "agent") -> "Caller":
        return Caller(self.stub, self.tenant, subject, roles)


@pytest.fixture(scope="module")
def settings(servers: Stack) -> Settings:
    servers.migrate(["agent"])
    names = topics.names(["agent", "conversation", "session"], PREFIX)
    topics.create(servers.kafka_bootstrap, names, 2, 1)
    return Settings(
        listen="127.0.0.1:0",
        database_url=f"postgresql://{servers.postgres.address}/interchange",
        database_password=servers.database_password(),
        kafka_bootstrap=servers.kafka_bootstrap,
        kafka_topic_prefix=PREFIX,
        redis_url=servers.redis_url,
        drain_notice_ms=0,
    )


@pytest.fixture(scope="module")
async def stub(settings: Settings) -> AsyncIterator[Any]:
    host = Host(settings)
    await wire(host)
    await host.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{host.port}") as channel:
        yield AgentServiceStub(channel)
    await host.leave()


@pytest.fixture
def call(stub: Any) -> Caller:
    return Caller(stub, f"t{uuid4().hex[:12]}")


@pytest.fixture(scope="module")
def producer(settings: Settings) -> Producer:
    return kafka.producer(settings, "agent-test")


@pytest.fixture
def hand_over(producer: Producer, call: Caller) -> Callable[..., str]:
    def publish(**needs: Any) -> str:
        now_us = time.time_ns() // 1000
        [conversation_id] = ids.uuid7_batch(1, now_us)
        message = events_pb.ConversationHandedOff(
            conversation_id=conversation_id,
            customer_id="carl",
            channel=WEB,
            hand_off=1,
            reason=talk.HAND_OFF_REASON_REQUESTED,
            needs=talk.Needs(**needs),
            recorded_us=now_us,
        )
        headers = kafka.headers(str(uuid4()), message.DESCRIPTOR.full_name, 1, 1, None)
        key = f"{call.tenant}:{conversation_id}"
        topic = PREFIX + "conversation-events"
        producer.produce(topic, message.SerializeToString(), key, headers=headers)
        producer.flush(10)
        return conversation_id

    return publish


def agent(agent_id: str = "ana", slots: int = 1, **changes: Any) -> agent_pb2.Agent:
    capacities = [agent_pb2.Capacity(channel=WEB, limit=slots)]
    return agent_pb2.Agent(agent_id=agent_id, capacities=capacities, **changes)


def new(agent_id: str = "ana", request_id: str = "", **changes: Any) -> pb.CreateAgentRequest:
    return pb.CreateAgentRequest(agent=agent(agent_id, **changes), request_id=request_id)


def status(agent_id: str = "ana", to: Any = ONLINE) -> pb.SetAgentStatusRequest:
    return pb.SetAgentStatusRequest(agent_id=agent_id, status=to)


async def refused(calling: Awaitable[Any]) -> tuple[str, str, list[str]]:
    """Return code, reason and the fields of the error of a call."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await calling
    metadata = dict(caught.value.trailing_metadata() or ())
    found = status_pb2.Status.FromString(metadata["grpc-status-details-bin"])
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    found.details[0].Unpack(info)
    if len(found.details) > 1:
        found.details[1].Unpack(bad)
    fields = [violation.field for violation in bad.field_violations]
    return caught.value.code().name, info.reason, fields


async def desk(call: Caller, agent_id: str, until: Callable[[agent_pb2.Desk], bool]) -> Any:
    """Return an agent's desk once it is as awaited."""
    async with asyncio.timeout(20):
        while True:
            found = await call("GetDesk", pb.GetDeskRequest(agent_id=agent_id))
            if until(found):
                return found
            await asyncio.sleep(0.005)


async def test_created_agent_is_returned_read_and_listed(call: Caller) -> None:
    skills = [talk.Skill(name="lang:en", level=7), talk.Skill(name="sales")]

    created = await call("CreateAgent", new(display_name="Ana B", skills=skills))

    assert created.status == OFFLINE
    assert (created.version, created.pool_id, created.display_name) == (1, "default", "Ana B")
    assert [(one.name, one.level) for one in created.skills] == [("lang:en", 7), ("sales", 1)]
    assert await call("GetAgent", pb.GetAgentRequest(agent_id="ana")) == created
    assert list((await call("ListAgents", pb.ListAgentsRequest())).agents) == [created]


async def test_creation_is_repeated_by_its_key_only(call: Caller) -> None:
    first = await call("CreateAgent", new(request_id="key"))

    assert await call("CreateAgent", new(request_id="key")) == first
    assert (await refused(call("CreateAgent", new())))[1] == "AGENT_EXISTS"
    assert (await refused(call("CreateAgent", new("ben", "key"))))[1] == "IDEMPOTENCY_KEY_REUSED"


async def test_update_replaces_and_takes_back_what_was_read(call: Caller) -> None:
    await call("CreateAgent", new(skills=[talk.Skill(name="sales")]))
    await call("SetAgentStatus", status())
    read = await call("GetAgent", pb.GetAgentRequest(agent_id="ana"))
    del read.skills[:]
    read.pool_id = "mail"

    updated = await call("UpdateAgent", pb.UpdateAgentRequest(agent=read))

    assert (updated.pool_id, len(updated.skills), updated.status) == ("mail", 0, ONLINE)
    assert updated.version == read.version + 1
    missing = pb.UpdateAgentRequest(agent=agent("bob"))
    assert (await refused(call("UpdateAgent", missing)))[:2] == ("NOT_FOUND", "AGENT_NOT_FOUND")


async def test_every_wrong_field_is_named(call: Caller) -> None:
    wrong = agent_pb2.Agent(
        agent_id="a b",
        display_name="x" * 101,
        pool_id="Pool!",
        skills=[talk.Skill(name="UPPER"), talk.Skill(name="a"), talk.Skill(name="a", level=11)],
        capacities=[agent_pb2.Capacity(channel=0, limit=51)],
        status=ONLINE,
    )

    code, reason, fields = await refused(call("CreateAgent", pb.CreateAgentRequest(agent=wrong)))

    assert (code, reason) == ("INVALID_ARGUMENT", "OUTPUT_ONLY_FIELD")
    assert fields == [
        "agent.status",
        "agent.agent_id",
        "agent.display_name",
        "agent.pool_id",
        "agent.skills[0].name",
        "agent.skills[2].name",
        "agent.skills[2].level",
        "agent.capacities[0].channel",
        "agent.capacities[0].limit",
    ]


async def test_agents_are_listed_by_pool_and_status_in_pages(call: Caller) -> None:
    for number in range(5):
        await call("CreateAgent", new(f"a{number}", pool_id="even" if number % 2 == 0 else "odd"))
    await call("SetAgentStatus", status("a2"))

    found, token = [], ""
    while True:
        request = pb.ListAgentsRequest(pool_id="even", page_size=2, page_token=token)
        page = await call("ListAgents", request)
        found += [one.agent_id for one in page.agents]
        if not (token := page.next_page_token):
            break

    assert found == ["a0", "a2", "a4"]
    online = await call("ListAgents", pb.ListAgentsRequest(status=ONLINE))
    assert [one.agent_id for one in online.agents] == ["a2"]
    garbage = pb.ListAgentsRequest(page_token="x")
    assert (await refused(call("ListAgents", garbage)))[1] == "INVALID_PAGE_TOKEN"


async def test_agent_acts_for_himself_only(call: Caller) -> None:
    await call("CreateAgent", new("ana"))
    ana, ben = call.as_("ana"), call.as_("ben")

    assert (await ana("SetAgentStatus", status())).status == ONLINE
    offer = str(uuid4())
    for rpc, request in (
        ("SetAgentStatus", status()),
        ("GetDesk", pb.GetDeskRequest(agent_id="ana")),
        ("AcceptOffer", pb.AcceptOfferRequest(agent_id="ana", offer_id=offer)),
        ("DeclineOffer", pb.DeclineOfferRequest(agent_id="ana", offer_id=offer)),
    ):
        assert (await refused(ben(rpc, request)))[:2] == ("NOT_FOUND", "AGENT_NOT_FOUND")
    assert (await refused(ana("CreateAgent", new("ben"))))[0] == "PERMISSION_DENIED"
    assert (await call("SetAgentStatus", status(to=AWAY))).status == AWAY


async def test_conversation_walks_from_kafka_to_the_desk_and_on(
    call: Caller, hand_over: Callable[..., str], settings: Settings
) -> None:
    await call("CreateAgent", new())
    await call("SetAgentStatus", status())
    pushed: list[Push] = []
    client = redis.connect(settings)
    followers = Followers(client, uuid4().hex, pushed.append)
    following = asyncio.create_task(followers.run())
    await followers.follow(call.tenant, subject="ana")

    conversation = hand_over()

    found = await desk(call, "ana", lambda one: bool(one.offers))
    [offer] = found.offers
    assert (offer.conversation_id, offer.hand_off, offer.customer_id) == (conversation, 1, "carl")
    assert offer.expire_time.ToMicroseconds() - offer.offer_time.ToMicroseconds() == 30_000_000
    accept = pb.AcceptOfferRequest(agent_id="ana", offer_id=offer.offer_id)
    accepted = await call.as_("ana")("AcceptOffer", accept)
    assert (list(accepted.conversation_ids), len(accepted.offers)) == ([conversation], 0)
    assert await call.as_("ana")("AcceptOffer", accept) == accepted
    async with asyncio.timeout(10):
        while not any(one.desk == accepted for one in pushed):
            await asyncio.sleep(0.01)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await client.aclose()


async def test_waiting_conversations_are_listed_as_they_would_be_served(
    call: Caller, hand_over: Callable[..., str]
) -> None:
    names = [hand_over(priority=priority) for priority in (1, 1, 5)]

    request = pb.ListWaitingConversationsRequest(pool_id="default", page_size=2)
    async with asyncio.timeout(20):
        while (found := await call("ListWaitingConversations", request)).total_count < 3:
            await asyncio.sleep(0.01)

    assert [one.conversation_id for one in found.conversations] == [names[2], names[0]]
    assert found.conversations[0].needs.priority == 5
    assert not found.conversations[0].offered


async def test_match_is_explained_part_by_part(call: Caller) -> None:
    english = [talk.Skill(name="lang:en", level=5)]
    for name, skills in (("ana", english), ("ben", english), ("cid", [])):
        await call("CreateAgent", new(name, skills=skills))
        await call("SetAgentStatus", status(name))
    await call("CreateAgent", new("dan", skills=english))
    needs = talk.Needs(
        required_skills=english, preferred_agent_id="ben", excluded_agent_ids=["ana"]
    )

    answer = await call(
        "ExplainMatch", pb.ExplainMatchRequest(pool_id="default", channel=WEB, needs=needs)
    )

    told = [(one.agent_id, one.eligible, one.reason) for one in answer.scores]
    assert told[0] == ("ben", True, "")
    assert set(told[1:]) == {
        ("ana", False, "EXCLUDED"),
        ("cid", False, "MISSING_SKILL"),
        ("dan", False, "OFFLINE"),
    }
    first = answer.scores[0]
    assert first.score == sum(part.share for part in first.parts)
    assert [part.name for part in first.parts] == [
        "wished_skills",
        "load",
        "response_time",
        "idle_time",
        "preference",
    ]
    bad = pb.ExplainMatchRequest(pool_id="default", needs=needs)
    assert (await refused(call("ExplainMatch", bad)))[1] == "INVALID_CHANNEL"


async def test_desks_are_listed_where_they_are_newer(call: Caller) -> None:
    mesh = call.as_("gateway", "mesh")
    await call("CreateAgent", new("ana"))
    await call("CreateAgent", new("ben"))
    await call("SetAgentStatus", status("ben"))
    known = [
        pb.DeskVersion(agent_id="ana", version=1),
        pb.DeskVersion(agent_id="ben", version=1),
        pb.DeskVersion(agent_id="sue"),
    ]

    found = await mesh("ListDesks", pb.ListDesksRequest(known=known))

    assert [(one.agent_id, one.version, one.status) for one in found.desks] == [("ben", 2, ONLINE)]
    many = [pb.DeskVersion(agent_id=str(number)) for number in range(2_001)]
    assert (await refused(mesh("ListDesks", pb.ListDesksRequest(known=many))))[1] == (
        "TOO_MANY_DESKS"
    )
    assert (await refused(call("ListDesks", pb.ListDesksRequest())))[0] == "PERMISSION_DENIED"


async def test_other_tenant_sees_nothing(call: Caller, stub: Any) -> None:
    await call("CreateAgent", new())
    other = Caller(stub, f"t{uuid4().hex[:12]}")

    for rpc, request in (
        ("GetAgent", pb.GetAgentRequest(agent_id="ana")),
        ("GetDesk", pb.GetDeskRequest(agent_id="ana")),
        ("SetAgentStatus", status()),
    ):
        assert (await refused(other(rpc, request)))[1] == "AGENT_NOT_FOUND"
    assert not (await other("ListAgents", pb.ListAgentsRequest())).agents


@pytest.mark.parametrize("table", ["agents", "capacities", "requests", "offers", "assignments"])
async def test_role_of_requests_sees_no_row_without_its_tenant(
    servers: Stack, call: Caller, table: str
) -> None:
    await call("CreateAgent", new())
    connection = await asyncpg.connect(servers.database_url("agent_api"))
    assert await connection.fetchval(f"SELECT count(*) FROM agent.{table}") == 0
    for statement in ("DELETE FROM agent.agents", "INSERT INTO agent.requests DEFAULT VALUES"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    await connection.close()
