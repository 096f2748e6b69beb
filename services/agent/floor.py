"""A transaction over some desks: they are locked, read, changed and written together."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.agent import events
from services.agent.desk import Desk
from services.agent.domain import Request, RequestState
from services.agent.repository import Agents
from services.common.clock import BusinessClock
from services.common.ids import Uuid7
from services.common.work import Work, WorkUnits


class News(Protocol):
    """Who is told of what was committed."""

    def tell(self, tenant_id: str, desks: Sequence[Desk], waiting: Collection[str] = ()) -> None:
        """Tell of changed desks, and of the pools in which a request waits again."""
        ...


@dataclass(frozen=True, slots=True)
class Tools:
    """What use cases work with."""

    uow: WorkUnits[Agents]
    clock: BusinessClock
    ids: Uuid7
    news: News


class Floor:
    """Desks and requests of a tenant within a transaction that holds their locks."""

    def __init__(
        self, tenant_id: str, work: Work[Agents], desks: Mapping[str, Desk], now: datetime
    ) -> None:
        self.tenant_id = tenant_id
        self.repository = work.repository
        self.desks = desks
        self.requests: dict[str, Request] = {}
        self.now = now
        self._work = work
        self._states: dict[str, RequestState] = {}

    async def lock(
        self, conversation_ids: Collection[str], *, skip: bool = False
    ) -> Mapping[str, Request]:
        """Lock and return requests; with `skip` those that nobody else has locked.

        Once per floor: in one order, so that two floors can't wait for each other.
        """
        assert not self.requests, "requests were locked twice"
        locked = await self.repository.queue.lock(self.tenant_id, conversation_ids, skip=skip)
        self.requests = locked
        self._states = {name: request.state for name, request in locked.items()}
        return locked

    async def save(self, ids: Uuid7) -> tuple[list[Desk], set[str]]:
        """Write what changed; return those desks, and the pools where a request waits again."""
        desks = [desk for desk in self.desks.values() if desk.changes]
        # Who is refused, is refused before anything happened to him: no other field changes alone.
        requests = [
            request
            for name, request in self.requests.items()
            if request.state is not self._states[name]
        ]
        await self.repository.save(self.tenant_id, desks, requests, self.now)
        count = sum(len(desk.changes) for desk in desks)
        now_us = int(self.now.timestamp() * 1_000_000)
        event_ids = ids.batch(count, now_us) if count else []
        self._work.outbox.add(events.happened(self.tenant_id, desks, event_ids))
        waiting = {
            request.needs.pool_id for request in requests if request.state is RequestState.WAITING
        }
        return desks, waiting


@asynccontextmanager
async def open_floor(
    tenant_id: str, agent_ids: Collection[str], tools: Tools
) -> AsyncIterator[Floor]:
    """Open a transaction over desks; commit it with its events, then tell the news.

    An agent who does not exist has no desk. Raises Stale when one was changed by
    somebody who did not take his lock.
    """
    async with tools.uow.tenant(tenant_id, lock=sorted(set(agent_ids))) as work:
        desks = await work.repository.desks(tenant_id, agent_ids)
        # Not before the locks: who waited for them is late, and so are the offers.
        floor = Floor(tenant_id, work, desks, tools.clock.now())
        yield floor
        changed, waiting = await floor.save(tools.ids)
    tools.news.tell(tenant_id, changed, waiting)
