"""Domain to protobuf: agents, offers and desks as callers and consumers see them."""

from collections.abc import Mapping
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from interchange.agent.v1 import agent_pb2
from interchange.conversation.v1 import conversation_pb2

from services.agent import needs
from services.agent.desk import Desk
from services.agent.domain import Agent, Offer, Profile, Request, RequestState, Status

NEVER = datetime(1970, 1, 1, tzinfo=UTC)
STATUSES = {
    Status.OFFLINE: agent_pb2.AGENT_STATUS_OFFLINE,
    Status.ONLINE: agent_pb2.AGENT_STATUS_ONLINE,
    Status.AWAY: agent_pb2.AGENT_STATUS_AWAY,
    Status.NOT_RESPONDING: agent_pb2.AGENT_STATUS_NOT_RESPONDING,
}
STATUS_OF = {number: status for status, number in STATUSES.items()}


def agent(one: Agent) -> agent_pb2.Agent:
    """Return an agent as it is shown."""
    profile = one.profile
    message = agent_pb2.Agent(
        agent_id=profile.agent_id,
        display_name=profile.display_name,
        pool_id=profile.pool_id,
        skills=[
            conversation_pb2.Skill(name=name, level=level)
            for name, level in sorted(profile.skills.items())
        ],
        capacities=[
            agent_pb2.Capacity(channel=channel(number), limit=slots)
            for number, slots in sorted(profile.slots.items())
            if slots
        ],
        status=STATUSES[one.status],
        loads=[
            agent_pb2.Load(channel=channel(number), count=count)
            for number, count in sorted(one.loads.items())
            if count
        ],
        average_response_ms=one.average_response_ms,
        version=one.version,
    )
    if one.idle_since is not None:
        message.idle_since.FromDatetime(one.idle_since)
    return message


def agent_of(message: agent_pb2.Agent) -> Agent:
    """Return the agent of a message of ours; what only tables hold is left out."""
    profile = Profile(
        agent_id=message.agent_id,
        display_name=message.display_name,
        pool_id=message.pool_id,
        skills=needs.levels(message.skills),
        slots={one.channel: one.limit for one in message.capacities},
    )
    idle = message.HasField("idle_since")
    return Agent(
        profile=profile,
        status=STATUS_OF[message.status],
        loads={one.channel: one.count for one in message.loads},
        average_response_ms=message.average_response_ms,
        idle_since=message.idle_since.ToDatetime(UTC) if idle else None,
        version=message.version,
        last_sequence=0,
        create_time=NEVER,
    )


def offer(one: Offer) -> agent_pb2.Offer:
    """Return an offer as it is shown."""
    return agent_pb2.Offer(
        offer_id=one.offer_id,
        agent_id=one.agent_id,
        conversation_id=one.conversation_id,
        hand_off=one.hand_off,
        customer_id=one.customer_id,
        channel=channel(one.channel),
        reason=conversation_pb2.HandOffReason.ValueType(one.reason),
        hand_off_time=timestamp(one.hand_off_time),
        offer_time=timestamp(one.offer_time),
        expire_time=timestamp(one.expire_time),
    )


def desk(one: Desk) -> agent_pb2.Desk:
    """Return a desk as it is shown: the oldest first."""
    return agent_pb2.Desk(
        agent_id=one.agent.agent_id,
        status=STATUSES[one.agent.status],
        offers=[offer(each) for each in one.offers.values()],
        conversation_ids=list(
            dict.fromkeys(each.conversation_id for each in one.assignments.values())
        ),
        version=one.agent.version,
    )


def waiting(request: Request) -> agent_pb2.WaitingConversation:
    """Return a request as it is shown."""
    asked = request.needs
    return agent_pb2.WaitingConversation(
        conversation_id=request.conversation_id,
        hand_off=request.hand_off,
        channel=channel(request.channel),
        needs=conversation_pb2.Needs(
            pool_id=asked.pool_id,
            required_skills=_skills(asked.required),
            wished_skills=_skills(asked.wished),
            priority=asked.priority,
            preferred_agent_id=asked.preferred_agent_id,
            preferred_only=asked.preferred_only,
            excluded_agent_ids=sorted(asked.excluded_agent_ids),
        ),
        hand_off_time=timestamp(request.hand_off_time),
        declined_agent_ids=list(request.declined),
        offered=request.state is RequestState.OFFERED,
    )


def timestamp(moment: datetime) -> Timestamp:
    """Return a moment as protobuf has it."""
    message = Timestamp()
    message.FromDatetime(moment)
    return message


def _skills(levels: Mapping[str, int]) -> list[conversation_pb2.Skill]:
    return [conversation_pb2.Skill(name=name, level=level) for name, level in levels.items()]


def channel(number: int) -> conversation_pb2.Channel.ValueType:
    """Return a channel as protobuf has it."""
    return conversation_pb2.Channel.ValueType(number)
