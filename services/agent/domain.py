"""Agents, the conversations that wait for one, and what happens between them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeAlias

from services.agent.needs import Needs

DECLINED_MAX = 1_000
"""Agents remembered who had a conversation in vain, the latest."""


class Status(StrEnum):
    """Whether an agent takes conversations."""

    OFFLINE = "OFFLINE"
    ONLINE = "ONLINE"
    AWAY = "AWAY"
    NOT_RESPONDING = "NOT_RESPONDING"


class StateReason(StrEnum):
    """Why the state of an agent changed."""

    CREATED = "CREATED"
    UPDATED = "UPDATED"
    REQUESTED = "REQUESTED"
    NOT_RESPONDING = "NOT_RESPONDING"
    SESSION_ENDED = "SESSION_ENDED"


class OfferState(StrEnum):
    """What became of an offer."""

    OPEN = "OPEN"
    ACCEPTED = "ACCEPTED"
    DECLINED = "DECLINED"
    EXPIRED = "EXPIRED"
    WITHDRAWN = "WITHDRAWN"


class RequestState(StrEnum):
    """How far a hand-over is."""

    WAITING = "WAITING"
    OFFERED = "OFFERED"
    MATCHED = "MATCHED"
    CLOSED = "CLOSED"


class ReleaseReason(StrEnum):
    """Why an agent does not answer a conversation any more."""

    ENDED = "ENDED"
    HANDED_OFF = "HANDED_OFF"
    AGENT_GONE = "AGENT_GONE"


@dataclass(frozen=True, slots=True)
class Profile:
    """What is set of an agent: every rule holds."""

    agent_id: str
    display_name: str
    pool_id: str
    skills: Mapping[str, int]
    """Levels by skill."""
    slots: Mapping[int, int]
    """Conversations at once, by channel."""


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent as he is stored."""

    profile: Profile
    status: Status
    loads: Mapping[int, int]
    """Open offers and conversations, by channel."""
    average_response_ms: int
    idle_since: datetime | None
    version: int
    last_sequence: int
    create_time: datetime

    @property
    def agent_id(self) -> str:
        """Id of the agent."""
        return self.profile.agent_id

    @property
    def pool_id(self) -> str:
        """Pool that he serves."""
        return self.profile.pool_id

    def load(self, channel: int) -> int:
        """Return what he has over a channel."""
        return self.loads.get(channel, 0)

    def free(self, channel: int) -> bool:
        """Tell whether he takes one more over a channel."""
        online = self.status is Status.ONLINE
        return online and self.load(channel) < self.profile.slots.get(channel, 0)


@dataclass(slots=True)
class Request:
    """The last hand-over of a conversation."""

    conversation_id: str
    hand_off: int
    customer_id: str
    channel: int
    reason: int
    """HandOffReason."""
    needs: Needs
    previous_agent_id: str
    hand_off_time: datetime
    state: RequestState
    declined: dict[str, datetime] = field(default_factory=dict)
    """When whom it was offered to in vain."""

    def fits(self, agent: Agent, now: datetime, pause: timedelta) -> bool:
        """Tell whether the agent can take it now.

        One who had it in vain is passed over for `pause`; then he counts again, so that
        a customer whom everybody declined is not left waiting for ever.
        """
        declined = self.declined.get(agent.agent_id)
        return (
            agent.pool_id == self.needs.pool_id
            and agent.free(self.channel)
            and self.needs.met_by(agent.profile.skills)
            and self.needs.admits(agent.agent_id)
            and (declined is None or declined + pause <= now)
        )

    def back(self, offer: "Offer", declined_at: datetime | None) -> None:
        """Let it wait again after an offer of it came to nothing."""
        self.state = RequestState.WAITING
        if declined_at is None:
            return
        self.declined.pop(offer.agent_id, None)
        self.declined[offer.agent_id] = declined_at
        for agent_id in list(self.declined)[:-DECLINED_MAX]:
            del self.declined[agent_id]


@dataclass(frozen=True, slots=True)
class Offer:
    """A conversation that is, or was, offered to an agent."""

    offer_id: str
    agent_id: str
    conversation_id: str
    hand_off: int
    customer_id: str
    channel: int
    reason: int
    hand_off_time: datetime
    offer_time: datetime
    expire_time: datetime
    state: OfferState = OfferState.OPEN


@dataclass(frozen=True, slots=True)
class Assignment:
    """A conversation that an agent answers."""

    conversation_id: str
    hand_off: int
    agent_id: str
    channel: int
    accept_time: datetime


@dataclass(frozen=True, slots=True)
class StateChanged:
    """Status, skills or capacity changed."""

    agent: Agent
    previous: Status
    reason: StateReason
    time: datetime


@dataclass(frozen=True, slots=True)
class Offered:
    """A conversation was offered to the agent."""

    agent: Agent
    offer: Offer
    score: int
    time: datetime


@dataclass(frozen=True, slots=True)
class OfferClosed:
    """An offer was closed without a match."""

    agent: Agent
    offer: Offer
    time: datetime


@dataclass(frozen=True, slots=True)
class Matched:
    """The agent accepted a conversation."""

    agent: Agent
    offer: Offer
    assignment: Assignment
    time: datetime


@dataclass(frozen=True, slots=True)
class Released:
    """The agent does not answer a conversation any more."""

    agent: Agent
    assignment: Assignment
    reason: ReleaseReason
    time: datetime


Change: TypeAlias = StateChanged | Offered | OfferClosed | Matched | Released
"""What happened to a desk; `agent` is how it left him, with the number of the event."""
