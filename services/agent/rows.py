"""Rows to what they mean."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import asyncpg
from interchange.conversation.v1 import conversation_pb2

from services.agent import needs
from services.agent.domain import (
    Agent,
    Assignment,
    Offer,
    OfferState,
    Profile,
    Request,
    RequestState,
    Status,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

AGENT = """a.agent_id, a.display_name, a.pool_id, a.skills, a.status, a.average_response_ms,
    a.idle_since, a.version, a.last_sequence, a.create_time, c.channels, c.slots, c.loads"""
"""Columns of an agent `a` with his capacities `c`."""

CAPACITIES = """LEFT JOIN LATERAL (
    SELECT array_agg(channel) AS channels, array_agg(slots) AS slots, array_agg(load) AS loads
    FROM agent.capacities WHERE tenant_id = a.tenant_id AND agent_id = a.agent_id
) AS c ON true"""

OFFER = """offer_id, agent_id, conversation_id, hand_off, customer_id, channel, reason,
    hand_off_time, offer_time, expire_time, state"""

ASSIGNMENT = "conversation_id, hand_off, agent_id, channel, accept_time"

REQUEST = """conversation_id, hand_off, customer_id, channel, reason, needs, previous_agent_id,
    hand_off_time, state, declined"""


def agent(row: asyncpg.Record) -> Agent:
    """Return the agent of a row of AGENT."""
    channels = row["channels"] or ()
    profile = Profile(
        agent_id=row["agent_id"],
        display_name=row["display_name"],
        pool_id=row["pool_id"],
        skills=json.loads(row["skills"]),
        slots=dict(zip(channels, row["slots"] or (), strict=True)),
    )
    return Agent(
        profile=profile,
        status=Status(row["status"]),
        loads=dict(zip(channels, row["loads"] or (), strict=True)),
        average_response_ms=row["average_response_ms"],
        idle_since=row["idle_since"],
        version=row["version"],
        last_sequence=row["last_sequence"],
        create_time=row["create_time"],
    )


def offer(row: asyncpg.Record) -> Offer:
    """Return the offer of a row of OFFER."""
    return Offer(
        offer_id=str(row["offer_id"]),
        agent_id=row["agent_id"],
        conversation_id=str(row["conversation_id"]),
        hand_off=row["hand_off"],
        customer_id=row["customer_id"],
        channel=row["channel"],
        reason=row["reason"],
        hand_off_time=row["hand_off_time"],
        offer_time=row["offer_time"],
        expire_time=row["expire_time"],
        state=OfferState(row["state"]),
    )


def assignment(row: asyncpg.Record) -> Assignment:
    """Return the assignment of a row of ASSIGNMENT."""
    return Assignment(
        conversation_id=str(row["conversation_id"]),
        hand_off=row["hand_off"],
        agent_id=row["agent_id"],
        channel=row["channel"],
        accept_time=row["accept_time"],
    )


def request(row: asyncpg.Record) -> Request:
    """Return the request of a row of REQUEST."""
    return Request(
        conversation_id=str(row["conversation_id"]),
        hand_off=row["hand_off"],
        customer_id=row["customer_id"],
        channel=row["channel"],
        reason=row["reason"],
        needs=needs.read(conversation_pb2.Needs.FromString(row["needs"])),
        previous_agent_id=row["previous_agent_id"],
        hand_off_time=row["hand_off_time"],
        state=RequestState(row["state"]),
        declined=_declined(row["declined"]),
    )


def declined_json(declined: Mapping[str, datetime]) -> str:
    """Return whom a request was offered to in vain as it is stored."""
    return json.dumps({name: (when - _EPOCH) // _MICROSECOND for name, when in declined.items()})


def _declined(text: str) -> dict[str, datetime]:
    if text == "{}":
        return {}
    found = sorted(json.loads(text).items(), key=lambda item: int(item[1]))
    return {name: _EPOCH + when * _MICROSECOND for name, when in found}
