"""Use cases of what nobody asked for: what runs out, moves on, or goes away.

Each may be called twice, or by two instances: what was done already is left alone.
"""

from collections.abc import Collection

from services.agent.domain import (
    ReleaseReason,
    Request,
    RequestState,
    StateReason,
    Status,
)
from services.agent.floor import Floor, Tools, open_floor


async def settle(tenant_id: str, conversation_ids: Collection[str], *, tools: Tools) -> None:
    """Close what earlier hand-overs of conversations left open.

    Offers are withdrawn and conversations released, since they were handed on or ended.
    """
    async with tools.uow.reading(tenant_id) as repository:
        holders = await repository.queue.holders(tenant_id, conversation_ids)
    agent_ids = {name for names in holders.values() for name in names}
    async with open_floor(tenant_id, agent_ids, tools) as floor:
        queue = floor.repository.queue
        requests = await floor.lock(conversation_ids)
        _close_left(floor)
        # What moved on once more since may be with an agent whose lock we don't have.
        holders = await queue.holders(tenant_id, conversation_ids)
        done = [name for name in requests if holders.get(name, set()) <= floor.desks.keys()]
        await queue.settled(tenant_id, done)


def _close_left(floor: Floor) -> None:
    for desk in floor.desks.values():
        for offer in list(desk.offers.values()):
            request = floor.requests.get(offer.conversation_id)
            if request is not None and _moved_on(request, offer.hand_off):
                desk.withdraw(offer, request, floor.now)
        for one in list(desk.assignments.values()):
            request = floor.requests.get(one.conversation_id)
            if request is not None and _moved_on(request, one.hand_off):
                ended = request.state is RequestState.CLOSED
                reason = ReleaseReason.ENDED if ended else ReleaseReason.HANDED_OFF
                desk.release(one, reason, floor.now)


def _moved_on(request: Request, hand_off: int) -> bool:
    return request.hand_off > hand_off or request.state is RequestState.CLOSED


async def expire(tenant_id: str, offers: Collection[tuple[str, str]], *, tools: Tools) -> None:
    """Close offers that have run out: (agent, offer)."""
    async with open_floor(tenant_id, {agent_id for agent_id, _ in offers}, tools) as floor:
        due = [
            (desk, desk.offers[offer_id])
            for agent_id, offer_id in sorted(offers)
            if (desk := floor.desks.get(agent_id)) is not None and offer_id in desk.offers
        ]
        requests = await floor.lock({offer.conversation_id for _, offer in due})
        for desk, offer in due:
            if offer.expire_time <= floor.now:
                desk.expire(offer, requests.get(offer.conversation_id), floor.now)


async def depart(tenant_id: str, agent_ids: Collection[str], *, tools: Tools) -> None:
    """Let agents go whose last session ended, and who did not come back in time."""
    async with open_floor(tenant_id, agent_ids, tools) as floor:
        requests = await floor.lock(_on_desks(floor))
        departed = await floor.repository.queue.departed(tenant_id, agent_ids, floor.now)
        for agent_id in sorted(departed & floor.desks.keys()):
            desk = floor.desks[agent_id]
            desk.set_status(Status.OFFLINE, StateReason.SESSION_ENDED, requests, floor.now)


async def recount(tenant_id: str, agent_ids: Collection[str], *, tools: Tools) -> list[str]:
    """Set loads to what agents have; return whose were wrong."""
    async with open_floor(tenant_id, agent_ids, tools) as floor:
        return [name for name, desk in floor.desks.items() if desk.recount(floor.now)]


async def free_stuck(
    tenant_id: str, conversation_ids: Collection[str], *, tools: Tools
) -> list[str]:
    """Let requests wait again that are offered to nobody; return which did."""
    async with open_floor(tenant_id, (), tools) as floor:
        requests = await floor.lock(conversation_ids, skip=True)
        # A statement of its own, after the locks: an offer commits with its request.
        offered = await floor.repository.queue.offered(tenant_id, requests)
        stuck = [
            request
            for name, request in requests.items()
            if request.state is RequestState.OFFERED and (name, request.hand_off) not in offered
        ]
        for request in stuck:
            request.state = RequestState.WAITING
        return [request.conversation_id for request in stuck]


def _on_desks(floor: Floor) -> set[str]:
    found = {
        offer.conversation_id for desk in floor.desks.values() for offer in desk.offers.values()
    }
    return found | {
        one.conversation_id for desk in floor.desks.values() for one in desk.assignments.values()
    }
