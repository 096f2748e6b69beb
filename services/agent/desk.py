"""The desk of an agent: what may happen to it, and what it leaves behind.

Each change counts the agent's version up and is an event with his next number. The
law of a desk: his load over a channel is his open offers and conversations over it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from services.agent.domain import (
    Agent,
    Assignment,
    Change,
    Matched,
    Offer,
    OfferClosed,
    Offered,
    OfferState,
    Profile,
    Released,
    ReleaseReason,
    Request,
    RequestState,
    StateChanged,
    StateReason,
    Status,
)
from services.common.errors import FailedPrecondition

RESPONSE_WEIGHT = 8
"""A new response time counts for an eighth in the average."""
RESPONSE_MS_MAX = 24 * 3600 * 1000

_MILLISECOND = timedelta(milliseconds=1)
_REFUSALS = {
    OfferState.ACCEPTED: ("OFFER_ACCEPTED", "the offer was accepted"),
    OfferState.DECLINED: ("OFFER_DECLINED", "the offer was declined"),
    OfferState.EXPIRED: ("OFFER_EXPIRED", "the offer has run out"),
    OfferState.WITHDRAWN: ("OFFER_WITHDRAWN", "the offer was withdrawn"),
}

Requests = Mapping[str, Request]
"""The last hand-overs by conversation."""


class Desk:
    """An agent with his open offers and his conversations.

    `changes` are the events since it was read, `stored` is the agent as he was then.
    """

    def __init__(
        self, agent: Agent, offers: Sequence[Offer] = (), assignments: Sequence[Assignment] = ()
    ) -> None:
        self.stored = agent
        self.agent = agent
        self.offers = {offer.offer_id: offer for offer in offers}
        self.assignments = {(one.conversation_id, one.hand_off): one for one in assignments}
        self.changes: list[Change] = []

    def known(self, stored: Offer) -> Offer:
        """Return an offer as it is now: a change before may have closed it."""
        for change in self.changes:
            if (
                isinstance(change, OfferClosed | Matched)
                and change.offer.offer_id == stored.offer_id
            ):
                return change.offer
        return stored

    def offer(self, request: Request, offer: Offer, score: int) -> None:
        """Put a waiting conversation in front of the agent."""
        assert request.state is RequestState.WAITING, f"a request was {request.state}, not WAITING"
        assert self.agent.free(offer.channel), f"{offer.agent_id} was offered one without a slot"
        request.state = RequestState.OFFERED
        self.offers[offer.offer_id] = offer
        self._carry(offer.channel, 1, offer.offer_time)
        self.changes.append(Offered(self.agent, offer, score, offer.offer_time))

    def accept(self, offer: Offer, request: Request | None, now: datetime) -> None:
        """Take a conversation that is offered; again it changes nothing.

        Raises FailedPrecondition when the offer is not open any more, or when its
        conversation moved on, so that it is about to be withdrawn.
        """
        if offer.state is OfferState.ACCEPTED:
            return
        _require_open(offer, now)
        if request is None or not _of(request, offer):
            raise _refusal(OfferState.WITHDRAWN)
        request.state = RequestState.MATCHED
        del self.offers[offer.offer_id]
        assignment = Assignment(
            offer.conversation_id, offer.hand_off, offer.agent_id, offer.channel, now
        )
        self.assignments[assignment.conversation_id, assignment.hand_off] = assignment
        known_ms = self.agent.average_response_ms
        taken_ms = (now - offer.offer_time) // _MILLISECOND
        self._change(average_response_ms=average_response_ms(known_ms, taken_ms))
        accepted = replace(offer, state=OfferState.ACCEPTED)
        self.changes.append(Matched(self.agent, accepted, assignment, now))

    def decline(self, offer: Offer, request: Request | None, now: datetime) -> None:
        """Refuse a conversation that is offered; again it changes nothing."""
        if offer.state is OfferState.DECLINED:
            return
        _require_open(offer, now)
        self._close(offer, request, OfferState.DECLINED, now)

    def expire(self, offer: Offer, request: Request | None, now: datetime) -> None:
        """Close an offer that has run out; who let it run out does not respond."""
        self._close(offer, request, OfferState.EXPIRED, now)
        if self.agent.status is Status.ONLINE:
            self._set_status(Status.NOT_RESPONDING, StateReason.NOT_RESPONDING, now)

    def withdraw(self, offer: Offer, request: Request | None, now: datetime) -> None:
        """Take back an offer whose conversation, or whose agent, went elsewhere."""
        self._close(offer, request, OfferState.WITHDRAWN, now)

    def release(self, assignment: Assignment, reason: ReleaseReason, now: datetime) -> None:
        """Take a conversation away from the agent."""
        del self.assignments[assignment.conversation_id, assignment.hand_off]
        self._carry(assignment.channel, -1, now)
        self.changes.append(Released(self.agent, assignment, reason, now))

    def set_status(
        self, status: Status, reason: StateReason, requests: Requests, now: datetime
    ) -> None:
        """Let the agent come, pause or go.

        One who takes no more gives back what he is offered; one who goes gives back
        his conversations as well, and they are handed over again.
        """
        if status is not self.agent.status:
            self._set_status(status, reason, now)
        if status is Status.ONLINE:
            return
        for offer in list(self.offers.values()):
            self.withdraw(offer, requests.get(offer.conversation_id), now)
        if status is not Status.OFFLINE:
            return
        for assignment in list(self.assignments.values()):
            request = requests.get(assignment.conversation_id)
            if request is not None and request.hand_off == assignment.hand_off:
                request.state = RequestState.CLOSED
            self.release(assignment, ReleaseReason.AGENT_GONE, now)

    def update(self, profile: Profile, now: datetime) -> None:
        """Replace name, pool, skills and slots; what he has he keeps."""
        if profile == self.agent.profile:
            return
        self._change(profile=profile)
        self._state_changed(self.agent.status, StateReason.UPDATED, now)

    def recount(self, now: datetime) -> bool:
        """Set the loads to what is there; tell whether they were wrong."""
        counted = self.counted()
        if counted == {channel: n for channel, n in self.agent.loads.items() if n}:
            return False
        self._change(loads=counted, idle_since=None if counted else self.agent.idle_since or now)
        self._state_changed(self.agent.status, StateReason.UPDATED, now)
        return True

    def counted(self) -> dict[int, int]:
        """Return open offers and conversations by channel."""
        loads: dict[int, int] = {}
        carried: list[Offer | Assignment] = [*self.offers.values(), *self.assignments.values()]
        for one in carried:
            loads[one.channel] = loads.get(one.channel, 0) + 1
        return loads

    def _close(
        self, offer: Offer, request: Request | None, state: OfferState, now: datetime
    ) -> None:
        del self.offers[offer.offer_id]
        if request is not None and _of(request, offer):
            request.back(offer, None if state is OfferState.WITHDRAWN else now)
        self._carry(offer.channel, -1, now)
        self.changes.append(OfferClosed(self.agent, replace(offer, state=state), now))

    def _set_status(self, status: Status, reason: StateReason, now: datetime) -> None:
        previous = self.agent.status
        # Who was away was not idle: his turn does not come first for having slept.
        came = status is Status.ONLINE and self.agent.idle_since is not None
        self._change(status=status, idle_since=now if came else self.agent.idle_since)
        self._state_changed(previous, reason, now)

    def _state_changed(self, previous: Status, reason: StateReason, now: datetime) -> None:
        self.changes.append(StateChanged(self.agent, previous, reason, now))

    def _carry(self, channel: int, step: int, now: datetime) -> None:
        loads = dict(self.agent.loads)
        loads[channel] = loads.get(channel, 0) + step
        assert loads[channel] >= 0, f"{self.agent.agent_id} had less than nothing"
        self._change(loads=loads, idle_since=None if any(loads.values()) else now)

    def _change(self, **values: Any) -> None:
        agent = self.agent
        self.agent = replace(
            agent, version=agent.version + 1, last_sequence=agent.last_sequence + 1, **values
        )


def average_response_ms(known_ms: int, taken_ms: int) -> int:
    """Return the exponential average after one more response; zero means unknown."""
    taken_ms = min(max(taken_ms, 1), RESPONSE_MS_MAX)
    if not known_ms:
        return taken_ms
    return max(1, known_ms + (taken_ms - known_ms) // RESPONSE_WEIGHT)


def _of(request: Request, offer: Offer) -> bool:
    return request.state is RequestState.OFFERED and request.hand_off == offer.hand_off


def _require_open(offer: Offer, now: datetime) -> None:
    if offer.state is not OfferState.OPEN:
        raise _refusal(offer.state)
    if offer.expire_time <= now:
        raise _refusal(OfferState.EXPIRED)


def _refusal(state: OfferState) -> FailedPrecondition:
    reason, text = _REFUSALS[state]
    return FailedPrecondition(reason, text)
