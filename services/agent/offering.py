"""Offers of one round: proposed, held in Redis, decided in Postgres."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import structlog
from prometheus_client import Counter, Histogram

from services.agent.domain import Offer, Request, RequestState
from services.agent.floor import Floor, Tools, open_floor
from services.agent.mirrors import Mirrors
from services.agent.proposals import Candidate, Proposal
from services.agent.reservations import FAULTS, Reserving, hold
from services.common.config import Settings

log = structlog.get_logger()

SECONDS = Histogram(
    "agent_first_offer_seconds",
    "From the hand-over of a conversation to its first offer, committed.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 300),
)
LOST = Counter("agent_races_lost_total", "Slots that were gone when they were decided")


@dataclass(frozen=True, slots=True)
class Pick:
    """An agent whose slot is tried for a request, under the id of the offer."""

    offer_id: str
    request: Request
    candidate: Candidate


@dataclass(slots=True)
class Tried:
    """What became of a round, by conversation."""

    done: set[str] = field(default_factory=set)
    """Offered, or not waiting any more."""
    lost: set[str] = field(default_factory=set)
    """The slot was gone: what is known of its agent is new."""
    held: set[str] = field(default_factory=set)
    """Somebody else is about to use the last slots, or not."""
    doubted: set[str] = field(default_factory=set)
    """Redis says that nobody is free, and knows what we don't, or is wrong."""


class Offering:
    """Tries proposals of one pool at a time."""

    def __init__(
        self, tools: Tools, mirrors: Mirrors, reserving: Reserving, settings: Settings
    ) -> None:
        self._tools = tools
        self._mirrors = mirrors
        self._reserving = reserving
        self._timeout = timedelta(milliseconds=settings.agent_offer_timeout_ms)
        self._pause = timedelta(milliseconds=settings.agent_decline_pause_ms)
        self._releases: set[asyncio.Task[None]] = set()

    async def attempt(
        self, tenant_id: str, pool_id: str, proposals: Sequence[Proposal], doubted: set[str]
    ) -> Tried:
        """Offer what can be; Redis is not asked about what it was `doubted` on."""
        tried = Tried()
        asked = [one for one in proposals if one.request.conversation_id not in doubted]
        sure = [one for one in proposals if one.request.conversation_id in doubted]
        offer_ids = self._tools.ids.batch(len(proposals), self._tools.clock.now_us())
        reserved = await self._reserving.reserve(tenant_id, pool_id, offer_ids, asked)
        picks = [
            Pick(offer_id, one.request, one.candidates[0])
            for offer_id, one in zip(offer_ids[len(asked) :], sure, strict=True)
        ]
        for index, one in enumerate(asked):
            said = reserved[index] if reserved is not None else None
            chosen = 0 if said is None else said.candidate
            if chosen is not None:
                picks.append(Pick(offer_ids[index], one.request, one.candidates[chosen]))
            elif said is not None and said.held and not said.newer:
                tried.held.add(one.request.conversation_id)
            else:
                tried.doubted.add(one.request.conversation_id)
        if picks:
            await self._decide(tenant_id, pool_id, picks, tried)
        return tried

    async def _decide(
        self, tenant_id: str, pool_id: str, picks: Sequence[Pick], tried: Tried
    ) -> None:
        """Write what still holds; the rest is lost, or needs nobody any more."""
        unused = list(picks)
        try:
            agent_ids = [pick.candidate.agent.agent_id for pick in picks]
            async with open_floor(tenant_id, agent_ids, self._tools) as floor:
                await floor.lock([pick.request.conversation_id for pick in picks], skip=True)
                offered = [pick for pick in picks if self._offer(floor, pick, tried)]
            unused = [pick for pick in picks if pick not in offered]
            # Who was lost to is known now as he is.
            self._mirrors.apply(tenant_id, [desk.agent for desk in floor.desks.values()])
            gone = set(agent_ids) - floor.desks.keys()
            self._mirrors.drop(tenant_id, pool_id, gone)
        finally:
            self._release(tenant_id, pool_id, unused)
        LOST.inc(len(tried.lost))
        for pick in offered:
            if not pick.request.declined:
                waited = floor.now - pick.request.hand_off_time
                SECONDS.observe(max(0.0, waited.total_seconds()))

    def _offer(self, floor: Floor, pick: Pick, tried: Tried) -> bool:
        conversation_id, hand_off = pick.request.conversation_id, pick.request.hand_off
        request = floor.requests.get(conversation_id)
        if (
            request is None
            or request.state is not RequestState.WAITING
            or request.hand_off != hand_off
        ):
            # It ended, moved on, or is being written by somebody who will see to it.
            tried.done.add(conversation_id)
            return False
        desk = floor.desks.get(pick.candidate.agent.agent_id)
        if desk is None or not request.fits(desk.agent, floor.now, self._pause):
            tried.lost.add(conversation_id)
            return False
        offer = Offer(
            offer_id=pick.offer_id,
            agent_id=desk.agent.agent_id,
            conversation_id=conversation_id,
            hand_off=hand_off,
            customer_id=request.customer_id,
            channel=request.channel,
            reason=request.reason,
            hand_off_time=request.hand_off_time,
            offer_time=floor.now,
            expire_time=floor.now + self._timeout,
        )
        desk.offer(request, offer, pick.candidate.score)
        tried.done.add(conversation_id)
        return True

    def _release(self, tenant_id: str, pool_id: str, picks: Sequence[Pick]) -> None:
        """End holds that came to nothing; nobody waits for it, they run out anyway."""
        held = [
            (pick.candidate.agent.agent_id, hold(pick.request.channel, pick.offer_id))
            for pick in picks
        ]
        if held:
            task = asyncio.create_task(self._end(tenant_id, pool_id, held))
            self._releases.add(task)
            task.add_done_callback(self._releases.discard)

    async def _end(self, tenant_id: str, pool_id: str, held: Sequence[tuple[str, str]]) -> None:
        try:
            await self._reserving.release(tenant_id, pool_id, held)
        except FAULTS as error:
            log.warning("holds not ended", error=repr(error))
