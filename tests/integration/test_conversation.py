"""The conversation service on real servers: its steps, who may take them, and its lists."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import grpc
import pytest
from interchange.agent.v1.agent_events_pb2 import (
    RELEASE_REASON_AGENT_GONE,
    RELEASE_REASON_HANDED_OFF,
)
from interchange.conversation.v1 import conversation_pb2 as pb
from interchange.conversation.v1 import conversation_service_pb2 as rpcs
from interchange.conversation.v1.conversation_service_pb2_grpc import ConversationServiceStub

from services.common.config import Settings
from services.common.db import Database
from services.common.host import Host
from services.common.personal import PersonalKeys
from services.conversation.__main__ import wire
from services.stack.stack import Stack
from tests.integration.test_conversation_scene import (
    Caller,
    Peers,
    opened,
    published,
    refused,
    service_settings,
    until,
)

QUEUE = rpcs.ROUTE_QUEUE
NOWHERE = "019365f0-0000-7000-8000-000000000000"


@pytest.fixture(scope="module")
def settings(servers: Stack) -> Settings:
    return service_settings(servers)


@pytest.fixture(scope="module")
async def stub(settings: Settings) -> AsyncIterator[Any]:
    host = Host(settings)
    await wire(host)
    await host.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{host.port}") as channel:
        yield ConversationServiceStub(channel)
    await host.leave()


@pytest.fixture
def cleo(stub: Any) -> Caller:
    return Caller(stub, f"t{uuid4().hex[:12]}")


@pytest.fixture
def peers(settings: Settings, cleo: Caller) -> Peers:
    return Peers(settings, cleo.tenant)


@pytest.fixture
async def owner(servers: Stack, settings: Settings) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(servers.database_url())
    yield connection
    await connection.close()


async def now(caller: Caller, conversation: Any) -> Any:
    request = rpcs.GetConversationRequest(conversation_id=conversation.conversation_id)
    return await caller("GetConversation", request)


async def at(caller: Caller, conversation: Any, status: Any) -> Any:
    """Wait until a conversation has a status."""
    return await until(lambda: now(caller, conversation), lambda one: one.status == status)


async def with_agent(cleo: Caller, peers: Peers, agent_id: str = "ana") -> Any:
    """Start a conversation that an agent answers."""
    started = await cleo("StartConversation", route=QUEUE)
    peers.matched(started, agent_id)
    return await at(cleo, started, pb.STATUS_WITH_AGENT)


async def test_a_start_with_the_bot_is_returned_and_told_sealed(
    cleo: Caller, settings: Settings
) -> None:
    started = await cleo("StartConversation", customer_name="Cleo", text="hi 👋\n")

    assert UUID(started.conversation_id).version == 7
    assert (started.customer_id, started.customer_name) == ("cleo", "Cleo")
    assert (started.status, started.channel) == (pb.STATUS_WITH_BOT, pb.CHANNEL_WEB)
    assert (started.bot_id, started.version, started.hand_off_count) == ("default", 1, 0)
    assert await now(cleo, started) == started
    key = f"{cleo.tenant}:{started.conversation_id}"
    [event] = await asyncio.to_thread(published, settings, "conversation-events", key, 1)
    told = opened(event)
    assert (event.sequence, told.customer_id, told.status) == (1, "cleo", pb.STATUS_WITH_BOT)
    assert UUID(told.message_id).version == 7
    database = await Database.open(settings, "conversation")
    seal = (await PersonalKeys(database, settings).of(cleo.tenant, ["cleo"]))["cleo"]
    await database.close()
    assert seal.open(told.sealed_name, started.conversation_id) == b"Cleo"
    assert seal.open(told.sealed_text, started.conversation_id).decode() == "hi 👋\n"


async def test_a_start_in_the_queue_is_two_events_with_what_it_needs(
    cleo: Caller, settings: Settings
) -> None:
    needs = pb.Needs(required_skills=[pb.Skill(name="lang:en")], priority=3)
    boss = cleo.other("cleo", "customer supervisor")
    started = await boss("StartConversation", route=QUEUE, needs=needs, channel=pb.CHANNEL_SMS)

    assert (started.status, started.hand_off_count, started.version) == (pb.STATUS_QUEUED, 1, 2)
    assert (started.needs.pool_id, started.needs.required_skills[0].level) == ("default", 1)
    key = f"{cleo.tenant}:{started.conversation_id}"
    events = await asyncio.to_thread(published, settings, "conversation-events", key, 2)
    first, second = map(opened, events)
    assert [event.sequence for event in events] == [1, 2]
    assert (first.status, first.sealed_text) == (pb.STATUS_QUEUED, b"")
    assert (second.hand_off, second.reason) == (1, pb.HAND_OFF_REASON_REQUESTED)
    assert (second.actor, second.channel, second.needs) == ("cleo", pb.CHANNEL_SMS, started.needs)


async def test_the_whole_life(cleo: Caller, peers: Peers, settings: Settings) -> None:
    """From bot to queue to agent to another agent to the end, and once more."""
    started = await cleo("StartConversation", text="hello")
    one = await cleo("HandOffConversation", conversation_id=started.conversation_id)
    assert (one.status, one.hand_off_count) == (pb.STATUS_QUEUED, 1)
    peers.matched(one, "ana")
    one = await at(cleo, one, pb.STATUS_WITH_AGENT)
    assert one.agent_id == "ana"
    ana = cleo.agent("ana")
    one = await ana("TransferConversation", conversation_id=one.conversation_id)
    assert (one.status, one.agent_id, one.hand_off_count) == (pb.STATUS_QUEUED, "", 2)
    assert one.hand_off_reason == pb.HAND_OFF_REASON_TRANSFER
    assert one.needs.excluded_agent_ids == ["ana"]
    assert (await refused(now(ana, one)))[:2] == ("NOT_FOUND", "CONVERSATION_NOT_FOUND")
    peers.matched(one, "ben")
    one = await at(cleo, one, pb.STATUS_WITH_AGENT)
    ended = await cleo.agent("ben")("EndConversation", conversation_id=one.conversation_id)
    assert (ended.status, ended.end_reason) == (pb.STATUS_ENDED, pb.END_REASON_RESOLVED)
    assert ended.end_time.ToMicroseconds() > ended.start_time.ToMicroseconds()
    assert await now(cleo.agent("ben"), one) == ended
    again = await cleo("ReopenConversation", conversation_id=one.conversation_id, route=QUEUE)
    assert (again.status, again.hand_off_count) == (pb.STATUS_QUEUED, 3)
    assert (again.agent_id, again.end_reason, again.duration_ms) == ("", 0, 0)
    assert not again.HasField("end_time")

    key = f"{cleo.tenant}:{one.conversation_id}"
    events = await asyncio.to_thread(published, settings, "conversation-events", key, again.version)
    assert [event.sequence for event in events] == list(range(1, again.version + 1))
    told = [opened(event) for event in events]
    assert [type(one).__name__.removeprefix("Conversation") for one in told] == [
        "Started",
        "HandedOff",
        "Assigned",
        "HandedOff",
        "Assigned",
        "Ended",
        "Reopened",
        "HandedOff",
    ]
    assert told[2].agent_name == "Ana"
    assert (told[3].previous_agent_id, told[3].actor) == ("ana", "ana")
    assert (told[5].agent_id, told[5].actor) == ("ben", "ben")
    assert told[5].duration_ms == ended.duration_ms
    assert (told[7].previous_agent_id, told[7].hand_off) == ("ben", 3)


async def test_wrong_steps_are_refused_by_name(cleo: Caller, peers: Peers) -> None:
    one = await cleo("StartConversation")

    async def reason(caller: Caller, rpc: str) -> str:
        code, name, _ = await refused(caller(rpc, conversation_id=one.conversation_id))
        assert code == "FAILED_PRECONDITION"
        return name

    assert await reason(cleo, "ReopenConversation") == "CONVERSATION_NOT_ENDED"
    assert await reason(cleo.supervisor, "TransferConversation") == "NOT_WITH_AGENT"
    queued = await cleo("HandOffConversation", conversation_id=one.conversation_id)
    assert await reason(cleo, "HandOffConversation") == "ALREADY_QUEUED"
    peers.matched(queued, "ana")
    await at(cleo, one, pb.STATUS_WITH_AGENT)
    assert await reason(cleo, "HandOffConversation") == "ALREADY_WITH_AGENT"
    await cleo("EndConversation", conversation_id=one.conversation_id)
    for rpc in ("EndConversation", "HandOffConversation"):
        assert await reason(cleo, rpc) == "CONVERSATION_ENDED"
    assert await reason(cleo.agent("ana"), "TransferConversation") == "CONVERSATION_ENDED"


async def test_the_bot_hands_over_once_and_late_requests_are_ignored(
    cleo: Caller, peers: Peers
) -> None:
    given = pb.Needs(pool_id="sales")
    one = await cleo("StartConversation", needs=given)
    reason = pb.HAND_OFF_REASON_REPEATED_MISSES
    peers.requested(one, reason=reason, needs=pb.Needs(pool_id="billing"))
    queued = await at(cleo, one, pb.STATUS_QUEUED)
    assert (queued.hand_off_reason, queued.needs.pool_id) == (reason, "billing")

    peers.requested(one, reason=reason)  # of the stint before
    await cleo("EndConversation", conversation_id=one.conversation_id)
    again = await cleo("ReopenConversation", conversation_id=one.conversation_id)
    peers.requested(one, reason=reason)
    peers.requested(again, reason=pb.HAND_OFF_REASON_INTENT)
    queued = await at(cleo, one, pb.STATUS_QUEUED)
    assert (queued.hand_off_count, queued.needs.pool_id) == (2, "sales")
    assert queued.hand_off_reason == pb.HAND_OFF_REASON_INTENT


async def test_a_late_match_and_a_late_release_change_nothing(cleo: Caller, peers: Peers) -> None:
    one = await with_agent(cleo, peers)
    moved = await cleo.supervisor("TransferConversation", conversation_id=one.conversation_id)
    peers.matched(one, "zoe")  # of the hand-over before
    peers.released(one, "ana", RELEASE_REASON_AGENT_GONE)
    peers.released(one, "ana", RELEASE_REASON_HANDED_OFF)
    peers.matched(moved, "ben")

    answered = await at(cleo, one, pb.STATUS_WITH_AGENT)
    assert (answered.agent_id, answered.version) == ("ben", moved.version + 1)


async def test_who_loses_his_agent_waits_for_another(
    cleo: Caller, peers: Peers, settings: Settings
) -> None:
    one = await with_agent(cleo, peers)
    peers.released(one, "ana", RELEASE_REASON_AGENT_GONE)

    queued = await at(cleo, one, pb.STATUS_QUEUED)
    assert queued.hand_off_reason == pb.HAND_OFF_REASON_AGENT_GONE
    assert (queued.hand_off_count, list(queued.needs.excluded_agent_ids)) == (2, [])
    key = f"{cleo.tenant}:{one.conversation_id}"
    events = await asyncio.to_thread(published, settings, "conversation-events", key, 4)
    told = opened(events[3])
    assert (told.previous_agent_id, told.actor) == ("ana", "mesh")


async def test_each_sees_and_does_what_is_his(cleo: Caller, peers: Peers) -> None:
    one = await with_agent(cleo, peers)
    named = {"conversation_id": one.conversation_id}
    missing = ("NOT_FOUND", "CONVERSATION_NOT_FOUND", [])
    for stranger in (cleo.other("carl", "customer"), cleo.agent("ben")):
        assert await refused(now(stranger, one)) == missing
        assert await refused(stranger("EndConversation", **named)) == missing
    stranger = Caller(cleo.stub, f"t{uuid4().hex[:12]}", "cleo", "supervisor")
    assert await refused(now(stranger, one)) == missing
    ghost = rpcs.GetConversationRequest(conversation_id=NOWHERE)
    assert await refused(cleo("GetConversation", ghost)) == missing
    # One who is both: only as what he is in this conversation.
    both = cleo.other("cleo", "customer agent")
    assert (await refused(both("TransferConversation", **named)))[1] == "NOT_THE_AGENT"
    both = cleo.other("ana", "customer agent")
    assert (await refused(both("HandOffConversation", **named)))[1] == "NOT_THE_CUSTOMER"
    assert (await now(cleo.agent("ana"), one)).agent_id == "ana"
    assert (await now(cleo.other("ann", "auditor"), one)).agent_id == "ana"


async def test_a_customer_starts_as_himself(cleo: Caller) -> None:
    assert (await cleo("StartConversation", customer_id="cleo")).customer_id == "cleo"
    assert (await refused(cleo("StartConversation", customer_id="carl")))[:2] == (
        "PERMISSION_DENIED",
        "NOT_THE_CUSTOMER",
    )
    assert (await refused(cleo.agent("ana")("StartConversation")))[0] == "PERMISSION_DENIED"
    started = await cleo.supervisor("StartConversation", customer_id="carl")
    assert started.customer_id == "carl"


async def test_a_request_is_answered_once_whoever_counts_alike(cleo: Caller, peers: Peers) -> None:
    first = await cleo("StartConversation", request_id="1", text="hi")
    carl = cleo.other("carl", "customer")

    assert await cleo("StartConversation", request_id="1", text="hi") == first
    assert (await carl("StartConversation", request_id="1", text="hi")).customer_id == "carl"
    assert await refused(cleo("StartConversation", request_id="1", text="ho")) == (
        "ALREADY_EXISTS",
        "IDEMPOTENCY_KEY_REUSED",
        ["request_id"],
    )
    # Who handed it on sees it no more, and is answered all the same.
    one = await with_agent(cleo, peers)
    transfer = {"conversation_id": one.conversation_id, "request_id": "1"}
    ana = cleo.agent("ana")
    assert await ana("TransferConversation", **transfer) == (
        await ana("TransferConversation", **transfer)
    )


async def test_a_start_that_races_with_itself_happens_once(cleo: Caller) -> None:
    answers = await asyncio.gather(
        *(cleo("StartConversation", request_id=f"{n % 20}", text="hi") for n in range(60))
    )
    assert len({one.conversation_id for one in answers}) == 20


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"text": " \n\t"}, "TEXT_EMPTY", "text"),
        ({"text": "x" * 8001}, "TEXT_TOO_LONG", "text"),
        ({"text": "a\0b"}, "TEXT_BINARY", "text"),
        ({"text": "a\x1bb"}, "TEXT_BINARY", "text"),
        ({"customer_name": "C\nleo"}, "INVALID_CUSTOMER_NAME", "customer_name"),
        ({"customer_name": "x" * 101}, "INVALID_FIELD", "customer_name"),
        ({"bot_id": "No Bot"}, "INVALID_FIELD", "bot_id"),
        ({"request_id": "a b"}, "INVALID_FIELD", "request_id"),
        ({"channel": 9}, "INVALID_FIELD", "channel"),
        ({"needs": pb.Needs(pool_id="No")}, "INVALID_FIELD", "needs.pool_id"),
        ({"needs": pb.Needs(priority=10)}, "INVALID_FIELD", "needs.priority"),
        (
            {"needs": pb.Needs(required_skills=[pb.Skill(name="en", level=11)])},
            "INVALID_FIELD",
            "needs.required_skills[0]",
        ),
        (
            {"needs": pb.Needs(wished_skills=[pb.Skill(name="en"), pb.Skill(name="en")])},
            "INVALID_FIELD",
            "needs.wished_skills",
        ),
        ({"needs": pb.Needs(preferred_only=True)}, "INVALID_FIELD", "needs"),
    ],
)
async def test_a_bad_start_is_refused_with_its_field(
    cleo: Caller, fields: dict[str, Any], reason: str, field: str
) -> None:
    good, bad = await asyncio.gather(
        cleo("StartConversation", text="x" * 8000),
        refused(cleo("StartConversation", **fields)),
    )
    assert bad == ("INVALID_ARGUMENT", reason, [field])
    assert good.version == 1


async def test_lists_show_each_what_is_his_newest_first(cleo: Caller, peers: Peers) -> None:
    mine = [await cleo("StartConversation") for _ in range(5)]
    other = await cleo.other("carl", "customer")("StartConversation", channel=pb.CHANNEL_SMS)
    queued = await cleo("HandOffConversation", conversation_id=mine[0].conversation_id)
    peers.matched(queued, "ana")
    await at(cleo, queued, pb.STATUS_WITH_AGENT)

    async def listed(caller: Caller, **fields: Any) -> list[str]:
        found, token = [], ""
        while True:
            page = await caller("ListConversations", page_token=token, **fields)
            found += [one.conversation_id for one in page.conversations]
            if not (token := page.next_page_token):
                return found

    expected = [one.conversation_id for one in reversed(mine)]
    assert await listed(cleo, page_size=2) == expected
    assert await listed(cleo, customer_id="carl") == []
    assert await listed(cleo.agent("ana")) == [mine[0].conversation_id]
    assert await listed(cleo.agent("ben")) == []
    sue = cleo.supervisor
    assert await listed(sue) == [other.conversation_id, *expected]
    assert await listed(sue, customer_id="cleo", page_size=3) == expected
    assert await listed(sue, agent_id="ana") == [mine[0].conversation_id]
    assert await listed(sue, status=pb.STATUS_WITH_AGENT) == [mine[0].conversation_id]
    assert await listed(sue, channel=pb.CHANNEL_SMS) == [other.conversation_id]
    assert await listed(sue, customer_id="a\0") == []
    both = cleo.other("ana", "customer agent")
    assert await listed(both) == [mine[0].conversation_id]
    page = await sue("ListConversations", page_size=1)
    token = page.next_page_token
    assert (await refused(cleo("ListConversations", page_token=token, status=1)))[1] == (
        "INVALID_PAGE_TOKEN"
    )


async def test_an_erased_customer_starts_nothing(cleo: Caller, owner: Any) -> None:
    await cleo("StartConversation")
    carl = cleo.other("carl", "customer")
    await owner.execute(
        "INSERT INTO mesh.personal_keys (tenant_id, customer_id) VALUES ($1, 'carl')", cleo.tenant
    )

    assert (await refused(carl("StartConversation", text="hi")))[:2] == (
        "FAILED_PRECONDITION",
        "CUSTOMER_ERASED",
    )


async def test_tenants_with_the_same_keys_are_apart(cleo: Caller) -> None:
    twin = Caller(cleo.stub, f"t{uuid4().hex[:12]}")
    one, two = await asyncio.gather(
        cleo("StartConversation", request_id="1"), twin("StartConversation", request_id="1")
    )

    assert one.conversation_id != two.conversation_id
    for caller, own in ((cleo, one), (twin, two)):
        page = await caller.supervisor("ListConversations")
        assert [one.conversation_id for one in page.conversations] == [own.conversation_id]


async def test_tenants_with_the_same_ids_are_apart(
    cleo: Caller, settings: Settings, owner: Any
) -> None:
    """A twin has a conversation of the same id, the same customer and the same agent."""
    one = await cleo("StartConversation", route=QUEUE)
    twin = Caller(cleo.stub, f"t{uuid4().hex[:12]}")
    await owner.execute(
        "INSERT INTO conversation.conversations SELECT (jsonb_populate_record(c, "
        "jsonb_build_object('tenant_id', $1::text))).* FROM conversation.conversations AS c "
        "WHERE conversation_id = $2",
        twin.tenant,
        one.conversation_id,
    )
    named = {"conversation_id": one.conversation_id}
    assert await now(twin, one) == one
    Peers(settings, twin.tenant).matched(one, "ana")
    assert (await at(twin, one, pb.STATUS_WITH_AGENT)).agent_id == "ana"
    assert (await now(cleo, one)).status == pb.STATUS_QUEUED
    assert (await refused(now(cleo.agent("ana"), one)))[1] == "CONVERSATION_NOT_FOUND"
    await cleo("EndConversation", **named)
    assert (await now(twin.agent("ana"), one)).status == pb.STATUS_WITH_AGENT


async def test_a_customer_and_the_bot_ask_at_once_and_one_is_first(
    cleo: Caller, peers: Peers, settings: Settings
) -> None:
    """Both write events of one key, by two roads: their numbers go up as they are published."""
    started = await asyncio.gather(*(cleo("StartConversation") for _ in range(20)))

    async def asked(one: Any) -> str:
        try:
            await cleo("HandOffConversation", conversation_id=one.conversation_id)
        except grpc.aio.AioRpcError as error:
            return error.details() or ""
        return "ok"

    def bot_asks() -> None:
        for one in started:
            peers.requested(one, reason=pb.HAND_OFF_REASON_INTENT)

    asking = asyncio.to_thread(bot_asks)
    outcomes, _ = await asyncio.gather(asyncio.gather(*map(asked, started)), asking)

    for one, outcome in zip(started, outcomes, strict=True):
        queued = await at(cleo, one, pb.STATUS_QUEUED)
        by_bot = queued.hand_off_reason == pb.HAND_OFF_REASON_INTENT
        assert (queued.hand_off_count, queued.version) == (1, 2)
        assert outcome == ("the conversation waits for an agent already" if by_bot else "ok")
        await cleo("EndConversation", conversation_id=one.conversation_id)
    for one in started[::7]:
        key = f"{cleo.tenant}:{one.conversation_id}"
        events = await asyncio.to_thread(published, settings, "conversation-events", key, 3)
        assert [event.sequence for event in events] == [1, 2, 3]


async def test_requests_may_not_rewrite_who_it_was(
    cleo: Caller, servers: Stack, settings: Settings
) -> None:
    await cleo("StartConversation")
    api = await asyncpg.connect(servers.database_url("conversation_api"))
    assert await api.fetchval("SELECT count(*) FROM conversation.conversations") == 0
    for statement in (
        "DELETE FROM conversation.conversations",
        "UPDATE conversation.conversations SET customer_id = 'x'",
        "SELECT * FROM conversation.conversations_default",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await api.execute(statement)
    await api.close()


@pytest.mark.parametrize(
    "needs",
    [pb.Needs(priority=1), pb.Needs(preferred_agent_id="ana", preferred_only=True)],
    ids=["priority", "preferred only"],
)
async def test_a_customer_goes_ahead_of_nobody(cleo: Caller, needs: pb.Needs) -> None:
    answer = await refused(cleo("StartConversation", route=QUEUE, needs=needs))
    assert answer[:2] == ("PERMISSION_DENIED", "NEEDS_RESERVED")


async def test_a_customer_who_starts_too_many_is_slowed_down(
    cleo: Caller, settings: Settings
) -> None:
    hello = rpcs.StartConversationRequest(text="hello")
    many = settings.conversation_start_burst + 50
    asked = [rpcs.StartSubmission(customer_id="dora", request=hello)] * many
    results = await submitted(cleo, *asked)

    reasons = [one.error.message.partition(";")[0] for one in results if one.HasField("error")]
    assert many > len(reasons) >= 40
    assert set(reasons) == {"at most 10 conversations a second"}
    # Her neighbour is not.
    [other] = await submitted(cleo, rpcs.StartSubmission(customer_id="cleo", request=hello))
    assert other.HasField("conversation")


async def submitted(cleo: Caller, *submissions: rpcs.StartSubmission) -> Any:
    mesh = cleo.other("gateway", "mesh")
    return (await mesh("SubmitStarts", submissions=submissions)).results


async def test_a_gateway_starts_for_many_and_each_has_his_own_result(cleo: Caller) -> None:
    hello = rpcs.StartConversationRequest(request_id="1", text="hello")
    results = await submitted(
        cleo,
        rpcs.StartSubmission(customer_id="cleo", request=hello),
        rpcs.StartSubmission(customer_id="dora", request=hello),
        rpcs.StartSubmission(
            customer_id="dora", request=rpcs.StartConversationRequest(text="x" * 8_001)
        ),
        rpcs.StartSubmission(
            customer_id="dora", request=rpcs.StartConversationRequest(customer_name="x" * 101)
        ),
        rpcs.StartSubmission(
            customer_id="dora", request=rpcs.StartConversationRequest(customer_id="cleo")
        ),
        rpcs.StartSubmission(customer_id="cleo", request=hello),
    )

    kinds = [result.WhichOneof("result") for result in results]
    assert kinds == ["conversation", "conversation", "error", "error", "error", "conversation"]
    assert [results[n].conversation.customer_id for n in (0, 1)] == ["cleo", "dora"]
    # The same customer with the same key: the first answer.
    assert results[5] == results[0]
    assert await cleo("StartConversation", hello) == results[0].conversation
    refused_fields = [results[n].error.message.partition(":")[0] for n in (2, 3)]
    assert refused_fields == ["text", "customer_name"]


async def test_only_services_start_for_others(cleo: Caller) -> None:
    submission = rpcs.StartSubmission(customer_id="dora")
    for caller in (cleo, cleo.supervisor):
        answer = await refused(caller("SubmitStarts", submissions=[submission]))
        assert answer[0] == "PERMISSION_DENIED"


async def test_too_many_starts_at_once_are_refused(cleo: Caller) -> None:
    answer = await refused(submitted(cleo, *[rpcs.StartSubmission(customer_id="dora")] * 501))
    assert answer[:2] == ("INVALID_ARGUMENT", "BATCH_TOO_LARGE")
