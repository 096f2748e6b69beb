"""Use cases of conversations over a fake store."""

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from interchange.agent.v1.agent_events_pb2 import (
    RELEASE_REASON_AGENT_GONE,
    RELEASE_REASON_ENDED,
    AgentMatched,
    AgentReleased,
)
from interchange.bot.v1.bot_events_pb2 import HandoffRequested
from interchange.conversation.v1 import conversation_pb2 as pb
from interchange.conversation.v1 import conversation_service_pb2 as rpcs
from interchange.conversation.v1.conversation_events_pb2 import ConversationStarted

from services.common import errors
from services.common.clock import ManualClock
from services.common.events import Event
from services.common.identity import Caller
from services.common.outbox import Outbox
from services.common.personal import Keys, Seal
from services.common.requests import Answer, KeyTaken, RequestKey, Requests
from services.common.work import Work, WorkUnits
from services.conversation import commands, handlers
from services.conversation.consumer import Decisions
from services.conversation.domain import Conversation
from services.conversation.news import Changed, News
from services.conversation.repository import ConversationId, Conversations, Filter

NOW = datetime(2026, 1, 5, 23, 59, tzinfo=UTC)
CLEO = Caller("demo", "cleo", ("customer",))
SUE = Caller("demo", "sue", ("supervisor",))
ANA = Caller("demo", "ana", ("agent",))


class FakeRequests(Requests):
    """Request keys in memory; `rivals` are taken just before the next store."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], Answer] = {}
        self.rivals: dict[tuple[str, str], Answer] = {}

    async def find(
        self, tenant_id: str, requests: Sequence[RequestKey]
    ) -> dict[tuple[str, str], Answer]:
        return dict(self.answers)

    async def store(
        self, tenant_id: str, requests: Sequence[RequestKey], responses: Sequence[bytes]
    ) -> None:
        rivals, self.rivals = self.rivals, {}
        self.answers |= rivals
        if any((request.rpc, request.key) in self.answers for request in requests):
            raise KeyTaken
        for request, response in zip(requests, responses, strict=True):
            self.answers[request.rpc, request.key] = Answer(request.body_hash, response)


class FakeConversations(Conversations):
    """Conversations in memory."""

    def __init__(self) -> None:
        self.rows: dict[ConversationId, Conversation] = {}
        self.keys = FakeRequests()

    @property
    def requests(self) -> FakeRequests:
        return self.keys

    async def load(self, ids: Collection[ConversationId]) -> Mapping[ConversationId, Conversation]:
        return {key: self.rows[key] for key in ids if key in self.rows}

    async def newer(self, tenant_id: str, versions: Mapping[str, int]) -> Sequence[Conversation]:
        found = [self.rows[tenant_id, name] for name in versions if (tenant_id, name) in self.rows]
        return [one for one in found if one.version > versions[one.conversation_id]]

    async def page(
        self, tenant_id: str, wanted: Filter, before: str | None, limit: int
    ) -> Sequence[Conversation]:
        raise NotImplementedError

    async def insert(self, tenant_id: str, conversations: Sequence[Conversation]) -> None:
        for one in conversations:
            assert (tenant_id, one.conversation_id) not in self.rows
            self.rows[tenant_id, one.conversation_id] = one

    async def update(self, conversations: Mapping[ConversationId, Conversation]) -> None:
        assert set(conversations) <= set(self.rows)
        self.rows |= conversations


class FakeUnits(WorkUnits[Conversations]):
    """Units of work over one fake; what a failed one wrote is forgotten."""

    def __init__(self) -> None:
        self.repository = FakeConversations()
        self.locked: list[Sequence[str]] = []
        self.events: list[tuple[str, str, int, str]] = []
        self.payloads: list[bytes] = []

    @asynccontextmanager
    async def tenant(
        self, tenant_id: str, lock: Sequence[str] = ()
    ) -> AsyncIterator[Work[Conversations]]:
        self.locked.append(lock)
        saved, outbox = deepcopy(self.repository.rows), Outbox("conversation", 1)
        try:
            yield Work(self.repository, outbox)
        except BaseException:
            self.repository.rows = saved
            raise
        self.took(outbox)

    @asynccontextmanager
    async def reading(self, tenant_id: str) -> AsyncIterator[Conversations]:
        yield self.repository

    def took(self, outbox: Outbox) -> None:
        for columns in outbox.columns:
            kinds = [name.rpartition(".Conversation")[2] for name in columns.types]
            tenants = [columns.tenant_id] * len(kinds)
            self.events += zip(tenants, columns.keys, columns.sequences, kinds, strict=True)
            self.payloads += columns.payloads


class FakeKeys(Keys):
    """A key for everybody but those who were erased."""

    def __init__(self, *erased: str) -> None:
        self.erased = set(erased)
        self.seal = Seal(bytes(32))

    async def of(self, tenant_id: str, customer_ids: Collection[str]) -> Mapping[str, Seal]:
        return {one: self.seal for one in customer_ids if one not in self.erased}


class FakeNews(News):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[Changed] = []

    def changed(self, changes: Iterable[Changed]) -> None:
        self.told += changes


class Desk:
    """The use cases over a fake."""

    def __init__(self, keys: FakeKeys | None = None) -> None:
        self.uow, self.news, self.keys = FakeUnits(), FakeNews(), keys or FakeKeys()
        self.clock = ManualClock(NOW)
        self.decisions = Decisions(self.clock, self.news)

    async def start(self, *wanted: commands.Start, tenant: str = "demo") -> list[Any]:
        return await handlers.start_conversations(
            tenant, wanted, uow=self.uow, clock=self.clock, keys=self.keys
        )

    async def change(self, *wanted: commands.Change, tenant: str = "demo") -> list[Any]:
        return await handlers.change_conversations(
            tenant, wanted, uow=self.uow, clock=self.clock, news=self.news
        )

    async def decide(self, *events: Event) -> None:
        """Apply events as the consumer does."""
        await self.decisions.prepare(events)
        outbox = Outbox("conversation", 1)
        await self.decisions.on_decided(events, work=Work(self.uow.repository, outbox))
        self.uow.took(outbox)
        self.decisions.applied()


def starting(caller: Caller = CLEO, **fields: Any) -> commands.Start:
    return commands.start(rpcs.StartConversationRequest(**fields), caller)


def ending(one: pb.Conversation, caller: Caller = CLEO, **fields: Any) -> commands.Change:
    request = rpcs.EndConversationRequest(conversation_id=one.conversation_id, **fields)
    return commands.end(request, caller)


def reopening(one: pb.Conversation, **fields: Any) -> commands.Change:
    request = rpcs.ReopenConversationRequest(conversation_id=one.conversation_id, **fields)
    return commands.reopen(request, CLEO)


def event(message: Any, tenant: str = "demo") -> Event:
    name = message.DESCRIPTOR.full_name
    return Event(tenant, "t", "k", 1, "e", name, 1, b"", message=message)


def matched(one: pb.Conversation, agent_id: str = "ana") -> AgentMatched:
    return AgentMatched(
        conversation_id=one.conversation_id, hand_off=one.hand_off_count, agent_id=agent_id
    )


def told(outcome: Any) -> str:
    return outcome.reason if isinstance(outcome, errors.InterchangeError) else "ok"


async def test_one_bad_start_fails_no_other() -> None:
    desk = Desk(FakeKeys("carl"))
    erased = starting(SUE, customer_id="carl", text="hi")

    outcomes = await desk.start(starting(text="a"), erased, starting(route=rpcs.ROUTE_QUEUE))

    assert [told(one) for one in outcomes] == ["ok", "CUSTOMER_ERASED", "ok"]
    assert [kind for *_, kind in desk.uow.events] == ["Started", "Started", "HandedOff"]
    assert [sequence for _, _, sequence, _ in desk.uow.events] == [1, 1, 2]


async def test_what_was_said_goes_with_its_own_conversation() -> None:
    desk = Desk()
    outcomes = await desk.start(
        starting(text="one"), starting(), starting(text="three", customer_name="Cleo")
    )

    for outcome, payload, text in zip(
        outcomes, desk.uow.payloads, (b"one", b"", b"three"), strict=True
    ):
        started = ConversationStarted.FromString(payload)
        assert started.conversation_id == outcome.conversation_id
        assert bool(started.message_id) == bool(text)
        if text:
            assert desk.keys.seal.open(started.sealed_text, outcome.conversation_id) == text


async def test_a_repeat_in_a_batch_and_a_rival_are_answered_alike() -> None:
    desk = Desk()
    first, again, other = starting(request_id="1"), starting(request_id="1"), starting()
    outcomes = await desk.start(first, again, other)
    assert outcomes[0] == outcomes[1] != outcomes[2]
    assert len(desk.uow.events) == 2

    rival = starting(request_id="2", text="theirs")
    answer = Answer(rival.request.body_hash, outcomes[2].SerializeToString())
    desk.uow.repository.keys.rivals = {(rival.request.rpc, rival.request.key): answer}
    outcomes = await desk.start(starting(request_id="2", text="ours"), starting())
    assert [told(one) for one in outcomes] == ["IDEMPOTENCY_KEY_REUSED", "ok"]
    assert len(desk.uow.repository.rows) == 3


async def test_steps_of_one_conversation_in_one_batch_follow_each_other() -> None:
    desk = Desk()
    [one] = await desk.start(starting())
    outcomes = await desk.change(ending(one), ending(one), reopening(one), ending(one, ANA))

    assert [told(each) for each in outcomes] == [
        "ok",
        "CONVERSATION_ENDED",
        "ok",
        "CONVERSATION_NOT_FOUND",
    ]
    assert [(number, kind) for _, _, number, kind in desk.uow.events] == [
        (1, "Started"),
        (2, "Ended"),
        (3, "Reopened"),
    ]
    assert desk.news.told == [("demo", one.conversation_id, 3)]
    assert desk.uow.locked[-1] == [one.conversation_id]
    row = desk.uow.repository.rows["demo", one.conversation_id]
    assert (row.version, row.status) == (3, pb.STATUS_WITH_BOT)


async def test_an_id_in_capitals_is_the_same_conversation() -> None:
    desk = Desk()
    [one] = await desk.start(starting())
    request = rpcs.EndConversationRequest(conversation_id=one.conversation_id.upper())

    [ended] = await desk.change(commands.end(request, CLEO))

    assert ended.conversation_id == one.conversation_id


async def test_two_tenants_with_the_same_ids_are_apart() -> None:
    desk = Desk()
    [one] = await desk.start(starting(route=rpcs.ROUTE_QUEUE))
    rows = desk.uow.repository.rows
    rows["twin", one.conversation_id] = rows["demo", one.conversation_id]

    await desk.decide(event(matched(one), "twin"), event(matched(one, "ben")))

    assert rows["demo", one.conversation_id].agent_id == "ben"
    assert rows["twin", one.conversation_id].agent_id == "ana"
    assert {(tenant, kind) for tenant, _, number, kind in desk.uow.events if number == 3} == {
        ("demo", "Assigned"),
        ("twin", "Assigned"),
    }
    [ended] = await desk.change(ending(one, replace(CLEO, tenant_id="twin")), tenant="twin")
    assert ended.agent_id == "ana"
    assert rows["demo", one.conversation_id].status == pb.STATUS_WITH_AGENT


async def test_decisions_of_a_batch_follow_each_other_and_late_ones_are_nothing() -> None:
    desk = Desk()
    [one] = await desk.start(starting())
    named = {"conversation_id": one.conversation_id}
    gone = AgentReleased(**named, hand_off=1, agent_id="ana", reason=RELEASE_REASON_AGENT_GONE)
    ended = AgentReleased(**named, hand_off=1, agent_id="ana", reason=RELEASE_REASON_ENDED)
    request = HandoffRequested(**named, reason=pb.HAND_OFF_REASON_INTENT)
    one.hand_off_count = 1

    await desk.decide(
        event(request),
        event(request),
        event(matched(one)),
        event(matched(one, "ben")),
        event(ended),
        event(gone),
        event(gone),
        event(HandoffRequested(conversation_id="nowhere")),
    )

    assert [(number, kind) for _, _, number, kind in desk.uow.events] == [
        (1, "Started"),
        (2, "HandedOff"),
        (3, "Assigned"),
        (4, "HandedOff"),
    ]
    row = desk.uow.repository.rows["demo", one.conversation_id]
    assert (row.status, row.hand_off_count) == (pb.STATUS_QUEUED, 2)
    assert desk.news.told == [("demo", one.conversation_id, 4)]


async def test_locks_are_asked_for_what_decides() -> None:
    desk = Desk()
    release = AgentReleased(conversation_id="c", reason=RELEASE_REASON_ENDED)
    events = [event(release), event(AgentMatched(conversation_id="d"), "twin")]

    assert await desk.decisions.prepare(events) == [("twin", "d")]


async def test_what_was_undone_is_not_told() -> None:
    """A batch that fails after its handler is applied again: each change is told once."""
    desk = Desk()
    [one] = await desk.start(starting(route=rpcs.ROUTE_QUEUE))
    events = [event(matched(one))]
    saved = dict(desk.uow.repository.rows)
    await desk.decisions.prepare(events)
    await desk.decisions.on_decided(
        events, work=Work(desk.uow.repository, Outbox("conversation", 1))
    )
    desk.uow.repository.rows = saved

    await desk.decide(*events)

    assert desk.news.told == [("demo", one.conversation_id, 3)]


@pytest.mark.parametrize(
    ("caller", "own_customer", "own_agent"),
    [
        (CLEO, "cleo", ""),
        (ANA, "", "ana"),
        (SUE, "", ""),
        (Caller("demo", "both", ("customer", "agent")), "both", "both"),
        (Caller("demo", "boss", ("agent", "supervisor")), "", ""),
    ],
)
def test_lists_are_narrowed_to_the_caller(
    caller: Caller, own_customer: str, own_agent: str
) -> None:
    wanted = handlers.narrowed(Filter("carl", "", 0, 0), caller)
    assert (wanted.customer_id, wanted.own_customer_id, wanted.own_agent_id) == (
        "carl",
        own_customer,
        own_agent,
    )
