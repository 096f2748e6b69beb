"""What happened to desks, as events on agent-events.

All types share one numbering per agent.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from google.protobuf.message import Message
from interchange.agent.v1 import agent_events_pb2 as pb

from services.agent import messages
from services.agent.desk import Desk
from services.agent.domain import (
    Agent,
    Change,
    Matched,
    OfferClosed,
    Offered,
    OfferState,
    Released,
    ReleaseReason,
    StateChanged,
    StateReason,
    Status,
)
from services.common.events import EventColumns

TOPIC = "agent-events"

_REASONS = {
    StateReason.CREATED: pb.STATE_REASON_CREATED,
    StateReason.UPDATED: pb.STATE_REASON_UPDATED,
    StateReason.REQUESTED: pb.STATE_REASON_REQUESTED,
    StateReason.NOT_RESPONDING: pb.STATE_REASON_NOT_RESPONDING,
    StateReason.SESSION_ENDED: pb.STATE_REASON_SESSION_ENDED,
}
_OUTCOMES = {
    OfferState.DECLINED: pb.OFFER_OUTCOME_DECLINED,
    OfferState.EXPIRED: pb.OFFER_OUTCOME_EXPIRED,
    OfferState.WITHDRAWN: pb.OFFER_OUTCOME_WITHDRAWN,
}
_RELEASES = {
    ReleaseReason.ENDED: pb.RELEASE_REASON_ENDED,
    ReleaseReason.HANDED_OFF: pb.RELEASE_REASON_HANDED_OFF,
    ReleaseReason.AGENT_GONE: pb.RELEASE_REASON_AGENT_GONE,
}
_EPOCH = messages.NEVER
_MICROSECOND = timedelta(microseconds=1)


def created(tenant_id: str, agents: Sequence[Agent], event_ids: Sequence[str]) -> EventColumns:
    """Return the first events of new agents."""
    changes = [
        StateChanged(one, Status.OFFLINE, StateReason.CREATED, one.create_time) for one in agents
    ]
    return _columns(tenant_id, changes, list(event_ids))


def happened(tenant_id: str, desks: Collection[Desk], event_ids: Sequence[str]) -> EventColumns:
    """Return the events of what happened to desks; `event_ids` are one a change."""
    changes = [change for desk in desks for change in desk.changes]
    return _columns(tenant_id, changes, list(event_ids))


def _columns(tenant_id: str, changes: Sequence[Change], event_ids: list[str]) -> EventColumns:
    columns = EventColumns(tenant_id, TOPIC)
    for change, event_id in zip(changes, event_ids, strict=True):
        if isinstance(change, Offered):
            event_id = change.offer.offer_id
        message = _message(change, event_id)
        columns.extend(
            message.DESCRIPTOR.full_name,
            1,
            [event_id],
            [change.agent.agent_id],
            [change.agent.last_sequence],
            [message.SerializeToString()],
        )
    return columns


def _message(change: Change, event_id: str) -> Message:
    match change:
        case StateChanged():
            return pb.AgentStateChanged(
                event_id=event_id,
                agent=messages.agent(change.agent),
                previous_status=messages.STATUSES[change.previous],
                reason=_REASONS[change.reason],
                recorded_us=_us(change.time),
            )
        case Offered():
            load = change.agent.load(change.offer.channel)
            return pb.AgentOffered(
                event_id=event_id,
                offer=messages.offer(change.offer),
                previous_load=load - 1,
                new_load=load,
                score=change.score,
                recorded_us=_us(change.time),
            )
        case OfferClosed():
            return pb.AgentOfferClosed(
                event_id=event_id,
                offer_id=change.offer.offer_id,
                agent_id=change.offer.agent_id,
                conversation_id=change.offer.conversation_id,
                hand_off=change.offer.hand_off,
                outcome=_OUTCOMES[change.offer.state],
                recorded_us=_us(change.time),
            )
        case Matched():
            return _matched(change, event_id)
        case Released():
            return _released(change, event_id)


def _matched(change: Matched, event_id: str) -> pb.AgentMatched:
    offer, load = change.offer, change.agent.load(change.offer.channel)
    return pb.AgentMatched(
        event_id=event_id,
        offer_id=offer.offer_id,
        agent_id=offer.agent_id,
        agent_name=change.agent.profile.display_name,
        conversation_id=offer.conversation_id,
        hand_off=offer.hand_off,
        channel=messages.channel(offer.channel),
        status=messages.STATUSES[change.agent.status],
        # The offer counted already: without this conversation he would have one less.
        previous_load=load - 1,
        new_load=load,
        recorded_us=_us(change.time),
    )


def _released(change: Released, event_id: str) -> pb.AgentReleased:
    one = change.assignment
    return pb.AgentReleased(
        event_id=event_id,
        agent_id=one.agent_id,
        conversation_id=one.conversation_id,
        hand_off=one.hand_off,
        channel=messages.channel(one.channel),
        reason=_RELEASES[change.reason],
        new_load=change.agent.load(one.channel),
        recorded_us=_us(change.time),
    )


def _us(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND
