"""Agents, requests and offers in memory, behind the ports of the agent service."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from copy import deepcopy
from datetime import UTC, datetime

from services.agent.desk import Desk
from services.agent.domain import (
    Agent,
    Assignment,
    Matched,
    Offer,
    OfferClosed,
    Offered,
    Profile,
    Released,
    Request,
    RequestState,
    Status,
)
from services.agent.floor import News
from services.agent.needs import Needs
from services.agent.queue import Place, Queue, in_order, place
from services.agent.repository import Agents
from services.common.outbox import Outbox
from services.common.work import Work, WorkUnits
from tests.unit.test_account_handlers import FakeRequests

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
WEB, MAIL = 1, 3


def agent(
    agent_id: str = "ana",
    *,
    skills: Mapping[str, int] | None = None,
    slots: Mapping[int, int] | None = None,
    loads: Mapping[int, int] | None = None,
    pool: str = "default",
    status: Status = Status.ONLINE,
    response_ms: int = 0,
) -> Agent:
    profile = Profile(
        agent_id, agent_id.title(), pool, skills or {}, {WEB: 1} if slots is None else slots
    )
    idle = None if loads and any(loads.values()) else NOW
    return Agent(profile, status, loads or {}, response_ms, idle, 1, 1, NOW)


def request(
    name: str = "c1",
    hand_off: int = 1,
    *,
    required: Mapping[str, int] | None = None,
    wished: Mapping[str, int] | None = None,
    channel: int = WEB,
    priority: int = 0,
    preferred: str = "",
    preferred_only: bool = False,
    excluded: Collection[str] = (),
    previous: str = "",
    at: datetime = NOW,
    declined: Mapping[str, datetime] | None = None,
) -> Request:
    needs = Needs(
        "default",
        required or {},
        wished or {},
        priority,
        preferred,
        preferred_only,
        frozenset(excluded),
    )
    return Request(
        name,
        hand_off,
        "carl",
        channel,
        1,
        needs,
        previous,
        at,
        RequestState.WAITING,
        dict(declined or {}),
    )


class FakeQueue(Queue):
    """Requests of one tenant in memory."""

    def __init__(self, agents: "FakeAgents") -> None:
        self._agents = agents

    async def waiting(
        self, tenant_id: str, pool_id: str, after: Place | None, limit: int
    ) -> list[Request]:
        found = in_order(
            one
            for one in self._agents.requests.values()
            if one.needs.pool_id == pool_id and one.state is RequestState.WAITING
        )
        return deepcopy([one for one in found if after is None or place(one) > after][:limit])

    async def lock(
        self, tenant_id: str, conversation_ids: Collection[str], *, skip: bool = False
    ) -> dict[str, Request]:
        requests = self._agents.requests
        return {name: deepcopy(requests[name]) for name in conversation_ids if name in requests}

    async def listed(self, tenant_id: str, pool_id: str, limit: int) -> list[Request]:
        return in_order(self._open(pool_id))[:limit]

    async def count(self, tenant_id: str, pool_id: str) -> int:
        return len(self._open(pool_id))

    def _open(self, pool_id: str) -> list[Request]:
        return [
            one
            for one in self._agents.requests.values()
            if one.needs.pool_id == pool_id
            and one.state in (RequestState.WAITING, RequestState.OFFERED)
        ]

    async def holders(
        self, tenant_id: str, conversation_ids: Collection[str]
    ) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        held: list[Offer | Assignment] = [
            *self._agents.open_offers.values(),
            *self._agents.assignments.values(),
        ]
        for one in held:
            if one.conversation_id in conversation_ids:
                found.setdefault(one.conversation_id, set()).add(one.agent_id)
        return found

    async def offered(
        self, tenant_id: str, conversation_ids: Collection[str]
    ) -> set[tuple[str, int]]:
        return {
            (one.conversation_id, one.hand_off)
            for one in self._agents.open_offers.values()
            if one.conversation_id in conversation_ids
        }

    async def settled(self, tenant_id: str, conversation_ids: Collection[str]) -> None:
        self._agents.settled |= set(conversation_ids)

    async def departed(self, tenant_id: str, agent_ids: Collection[str], now: datetime) -> set[str]:
        due = {name for name in agent_ids if self._agents.departures.get(name, now) <= now}
        due &= self._agents.departures.keys()
        for name in due:
            del self._agents.departures[name]
        return due


class FakeAgents(Agents):
    """Agents of one tenant in memory; what is stored is the fold of the changes."""

    def __init__(self) -> None:
        self.agents: dict[str, Agent] = {}
        self.all_offers: dict[str, Offer] = {}
        self.assignments: dict[tuple[str, int], Assignment] = {}
        self.requests: dict[str, Request] = {}
        self.departures: dict[str, datetime] = {}
        self.settled: set[str] = set()
        self.request_keys = FakeRequests()

    @property
    def open_offers(self) -> dict[str, Offer]:
        return {name: one for name, one in self.all_offers.items() if one.state == "OPEN"}

    @property
    def keys(self) -> FakeRequests:
        return self.request_keys

    @property
    def queue(self) -> FakeQueue:
        return FakeQueue(self)

    async def find(self, tenant_id: str, agent_ids: Collection[str]) -> dict[str, Agent]:
        return {name: self.agents[name] for name in agent_ids if name in self.agents}

    async def desks(self, tenant_id: str, agent_ids: Collection[str]) -> dict[str, Desk]:
        return {name: self.desk(name) for name in sorted(agent_ids) if name in self.agents}

    def desk(self, agent_id: str) -> Desk:
        offers = [one for one in self.open_offers.values() if one.agent_id == agent_id]
        assignments = [one for one in self.assignments.values() if one.agent_id == agent_id]
        return Desk(self.agents[agent_id], offers, assignments)

    async def newer_desks(self, tenant_id: str, known: Mapping[str, int]) -> list[Desk]:
        return [
            self.desk(name)
            for name, version in known.items()
            if name in self.agents and self.agents[name].version > version
        ]

    async def offers(self, tenant_id: str, offer_ids: Collection[str]) -> dict[str, Offer]:
        return {name: self.all_offers[name] for name in offer_ids if name in self.all_offers}

    async def list_page(
        self, tenant_id: str, pool_id: str, status: Status | None, after: str, limit: int
    ) -> list[Agent]:
        return [
            one
            for name, one in sorted(self.agents.items())
            if name > after
            and pool_id in ("", one.pool_id)
            and (status is None or status is one.status)
        ][:limit]

    async def pool(self, tenant_id: str, pool_id: str) -> list[Agent]:
        return [one for _, one in sorted(self.agents.items()) if one.pool_id == pool_id]

    async def pool_versions(self, tenant_id: str, pool_id: str) -> dict[str, int]:
        return {one.agent_id: one.version for one in await self.pool(tenant_id, pool_id)}

    async def insert(self, tenant_id: str, agents: Sequence[Agent]) -> None:
        for one in agents:
            assert one.agent_id not in self.agents
            self.agents[one.agent_id] = one

    async def save(
        self,
        tenant_id: str,
        desks: Collection[Desk],
        requests: Collection[Request],
        now: datetime,
    ) -> None:
        for desk in desks:
            assert self.agents[desk.agent.agent_id].version == desk.stored.version
            self.agents[desk.agent.agent_id] = desk.agent
            for change in desk.changes:
                if isinstance(change, Offered | OfferClosed | Matched):
                    self.all_offers[change.offer.offer_id] = change.offer
                if isinstance(change, Matched):
                    one = change.assignment
                    self.assignments[one.conversation_id, one.hand_off] = one
                if isinstance(change, Released):
                    del self.assignments[
                        change.assignment.conversation_id, change.assignment.hand_off
                    ]
        for request in requests:
            self.requests[request.conversation_id] = deepcopy(request)


class FakeUnits(WorkUnits[Agents]):
    """Units of work over one fake; what a failed one wrote is forgotten."""

    def __init__(self) -> None:
        self.repository = FakeAgents()
        self.sequences: dict[str, list[int]] = {}
        self.types: dict[str, list[str]] = {}
        self.locked: list[list[str]] = []

    @asynccontextmanager
    async def tenant(self, tenant_id: str, lock: Sequence[str] = ()) -> AsyncIterator[Work[Agents]]:
        self.locked.append(list(lock))
        saved, outbox = deepcopy(vars(self.repository)), Outbox("agent", 1)
        try:
            yield Work(self.repository, outbox)
        except BaseException:
            vars(self.repository).update(saved)
            raise
        for columns in outbox.columns:
            rows = zip(columns.keys, columns.sequences, columns.types, strict=True)
            for key, sequence, name in rows:
                assert key in lock, f"an event of {key} was written without its lock"
                self.sequences.setdefault(key, []).append(sequence)
                self.types.setdefault(key, []).append(name.rpartition(".")[2])

    @asynccontextmanager
    async def reading(self, tenant_id: str) -> AsyncIterator[Agents]:
        yield self.repository


class FakeNews(News):
    """What was told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.waiting: set[str] = set()

    def tell(self, tenant_id: str, desks: Sequence[Desk], waiting: Collection[str] = ()) -> None:
        self.told += [desk.agent.agent_id for desk in desks]
        self.waiting |= set(waiting)
