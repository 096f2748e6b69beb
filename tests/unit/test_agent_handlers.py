"""Use cases of agents over a fake store."""

from collections.abc import Sequence
from datetime import timedelta

import pytest

from services.agent import handlers, settling, working
from services.agent.domain import Offer, RequestState, Status
from services.agent.floor import Tools, open_floor
from services.agent.handlers import CreateAgent
from services.agent.profile import Details
from services.common.clock import ManualClock
from services.common.errors import InterchangeError, InvalidArgument
from services.common.ids import Uuid7
from services.common.requests import RequestKey
from tests.unit.agent_fakes import NOW, WEB, FakeNews, FakeUnits, agent, request

TENANT = "demo"
SECOND = timedelta(seconds=1)


class Office:
    """The use cases over a fake."""

    def __init__(self) -> None:
        self.uow, self.news, self.clock = FakeUnits(), FakeNews(), ManualClock(NOW)
        self.tools = Tools(self.uow, self.clock, Uuid7(), self.news)
        self.store = self.uow.repository

    async def offer(self, name: str = "c1", agent_id: str = "ana") -> str:
        """Offer a new request; return the id of the offer, which is its name."""
        self.store.requests.setdefault(name, request(name))
        async with open_floor(TENANT, [agent_id], self.tools) as floor:
            asked = (await floor.lock([name]))[name]
            floor.desks[agent_id].offer(asked, self.offer_of(name, agent_id), 7)
        return f"o-{name}"

    def offer_of(self, name: str, agent_id: str) -> Offer:
        now = self.clock.now()
        return Offer(f"o-{name}", agent_id, name, 1, "carl", WEB, 1, NOW, now, now + 30 * SECOND)

    async def do(self, *commands: working.Command) -> list[str]:
        outcomes: Sequence[working.Outcome] = await working.work(TENANT, commands, tools=self.tools)
        return [one.reason if isinstance(one, InterchangeError) else "ok" for one in outcomes]

    async def create(self, *names: str, key: str = "") -> list[str]:
        commands = [
            CreateAgent(
                Details(name, "", "", (), ()), RequestKey("CreateAgent", key, name.encode())
            )
            for name in names
        ]
        outcomes = await handlers.create_agents(TENANT, commands, tools=self.tools)
        return [
            one.reason if isinstance(one, InterchangeError) else one.agent_id for one in outcomes
        ]


@pytest.fixture
def office() -> Office:
    found = Office()
    for name in ("ana", "ben"):
        found.store.agents[name] = agent(name, slots={WEB: 2})
    return found


async def test_one_bad_agent_fails_no_neighbour(office: Office) -> None:
    assert await office.create("cid", "a b", "cid", "ana", "dan") == [
        "cid",
        "INVALID_AGENT_ID",
        "AGENT_EXISTS",
        "AGENT_EXISTS",
        "dan",
    ]
    assert office.uow.sequences == {"cid": [1], "dan": [1]}
    assert office.news.told == ["cid", "dan"]


async def test_repeats_get_the_first_answer(office: Office) -> None:
    assert await office.create("cid", "cid", "dan", key="k") == [
        "cid",
        "cid",
        "IDEMPOTENCY_KEY_REUSED",
    ]


async def test_each_command_of_a_batch_has_its_own_outcome(office: Office) -> None:
    first, second = await office.offer("c1"), await office.offer("c2")

    told = await office.do(
        working.AcceptOffer("ana", first),
        working.AcceptOffer("ana", first),
        working.AcceptOffer("ben", second),
        working.DeclineOffer("ana", second),
        working.AcceptOffer("ana", second),
        working.AcceptOffer("nobody", first),
        working.AcceptOffer("ana", "o-none"),
    )

    assert told == [
        "ok",
        "ok",
        "OFFER_NOT_FOUND",
        "ok",
        "OFFER_DECLINED",
        "AGENT_NOT_FOUND",
        "OFFER_NOT_FOUND",
    ]
    assert office.uow.types["ana"] == [
        "AgentOffered",
        "AgentOffered",
        "AgentMatched",
        "AgentOfferClosed",
    ]
    assert office.uow.sequences["ana"] == [2, 3, 4, 5]
    assert office.news.waiting == {"default"}


async def test_accept_of_what_ran_out_or_moved_on_is_refused(office: Office) -> None:
    first, second = await office.offer("c1"), await office.offer("c2")
    office.store.requests["c2"].hand_off = 2

    assert await office.do(working.AcceptOffer("ana", second)) == ["OFFER_WITHDRAWN"]
    office.clock.advance(30 * SECOND)
    assert await office.do(working.AcceptOffer("ana", first)) == ["OFFER_EXPIRED"]
    assert office.store.agents["ana"].loads == {WEB: 2}


async def test_going_offline_gives_back_and_coming_again_begins_idle(office: Office) -> None:
    first, _ = await office.offer("c1"), await office.offer("c2")
    await office.do(working.AcceptOffer("ana", first))
    office.clock.advance(60 * SECOND)

    await office.do(working.SetStatus("ana", Status.OFFLINE))

    assert office.store.requests["c1"].state is RequestState.CLOSED
    assert office.store.requests["c2"].state is RequestState.WAITING
    assert office.store.requests["c2"].declined == {}
    office.clock.advance(3600 * SECOND)
    await office.do(working.SetStatus("ana", Status.ONLINE))
    ana = office.store.agents["ana"]
    assert (ana.loads, ana.idle_since) == ({WEB: 0}, office.clock.now())


async def test_pausing_keeps_conversations_and_gives_offers_back(office: Office) -> None:
    first, _ = await office.offer("c1"), await office.offer("c2")
    await office.do(working.AcceptOffer("ana", first))

    await office.do(working.SetStatus("ana", Status.AWAY))

    assert list(office.store.assignments) == [("c1", 1)]
    assert office.store.open_offers == {}


async def test_same_status_again_is_no_event(office: Office) -> None:
    assert await office.do(working.SetStatus("ana", Status.ONLINE)) == ["ok"]
    assert office.uow.types == {}


async def test_expiry_twice_closes_once(office: Office) -> None:
    offer_id = await office.offer()
    office.clock.advance(30 * SECOND)

    for _ in range(2):
        await settling.expire(TENANT, [("ana", offer_id)], tools=office.tools)

    assert office.uow.types["ana"][1:] == ["AgentOfferClosed", "AgentStateChanged"]
    assert office.store.agents["ana"].status is Status.NOT_RESPONDING
    assert list(office.store.requests["c1"].declined) == ["ana"]


async def test_expiry_that_comes_early_does_nothing(office: Office) -> None:
    offer_id = await office.offer()

    await settling.expire(TENANT, [("ana", offer_id)], tools=office.tools)

    assert office.store.open_offers


async def test_settling_closes_what_moved_on_and_nothing_else(office: Office) -> None:
    first, second = await office.offer("c1"), await office.offer("c2", "ben")
    await office.do(working.AcceptOffer("ana", first))
    await office.offer("c3")
    office.store.requests["c1"].state = RequestState.CLOSED
    office.store.requests["c2"].hand_off = 2
    office.store.requests["c2"].state = RequestState.WAITING

    for _ in range(2):
        await settling.settle(TENANT, ["c1", "c2"], tools=office.tools)

    assert office.store.assignments == {}
    assert [one.conversation_id for one in office.store.open_offers.values()] == ["c3"]
    assert office.store.requests["c2"].state is RequestState.WAITING
    assert office.store.settled == {"c1", "c2"}
    assert office.uow.types["ben"] == ["AgentOffered", "AgentOfferClosed"]
    assert second


async def test_departure_that_was_cancelled_lets_nobody_go(office: Office) -> None:
    office.store.departures = {"ben": NOW}

    await settling.depart(TENANT, ["ana", "ben"], tools=office.tools)

    assert office.store.agents["ana"].status is Status.ONLINE
    assert office.store.agents["ben"].status is Status.OFFLINE


async def test_desks_are_bounded_and_odd_names_are_nobody(office: Office) -> None:
    found = await working.list_desks(
        TENANT, [("ana", 0), ("ben", 1), ("a\x00", 0)], tools=office.tools
    )
    assert [one.agent_id for one in found] == ["ana"]
    with pytest.raises(InvalidArgument):
        await working.list_desks(TENANT, [("ana", 0)] * 2_001, tools=office.tools)
