"""Kafka in: hand-overs and ends of conversations, and agents who come and go.

The consumer writes what there is to do and wakes those who do it: events of agents
are written under their locks, elsewhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol

from interchange.conversation.v1.conversation_events_pb2 import (
    ConversationEnded,
    ConversationHandedOff,
)
from interchange.session.v1.session_events_pb2 import SessionEnded, SessionOpened
from interchange.session.v1.session_pb2 import SUBJECT_KIND_AGENT

from services.agent import needs
from services.agent.arrivals import Arrival, Arrivals, Key
from services.agent.domain import Request, RequestState
from services.agent.repository import PostgresAgents
from services.common.clock import BusinessClock
from services.common.config import Settings
from services.common.events import Event
from services.common.handling import Handler
from services.common.work import Work

TOPICS = ("conversation-events", "session-events")
MESSAGES = (ConversationHandedOff, ConversationEnded, SessionOpened, SessionEnded)
SETTLE_DELAY = timedelta(seconds=1)
"""Who consumed an event settles it at once; after this, anybody does."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Doer(Protocol):
    """Does what the consumer noted."""

    def match(self, tenant_id: str, pool_id: str, requests: Sequence[Request]) -> None:
        """Look for agents of conversations that were handed over."""
        ...

    def settle(self, tenant_id: str, conversation_ids: Sequence[str]) -> None:
        """Close what earlier hand-overs of conversations left open."""
        ...

    def due_at(self, moment: datetime) -> None:
        """Look again at a moment."""
        ...


@dataclass(slots=True)
class Noted:
    """What was written since the last commit; telling too much does no harm."""

    arrived: dict[Key, list[Request]] = field(default_factory=dict)
    """What to match by tenant and pool: as it was written, so that nobody has to read it."""
    unsettled: dict[str, list[str]] = field(default_factory=dict)
    """Conversations by tenant."""
    due_time: datetime | None = None

    def tell(self, doer: Doer) -> None:
        """Wake who does it; called after each commit."""
        arrived, self.arrived = self.arrived, {}
        unsettled, self.unsettled = self.unsettled, {}
        due_time, self.due_time = self.due_time, None
        # What is settled first frees capacity.
        for tenant_id, conversation_ids in unsettled.items():
            doer.settle(tenant_id, conversation_ids)
        for (tenant_id, pool_id), requests in arrived.items():
            doer.match(tenant_id, pool_id, requests)
        if due_time is not None:
            doer.due_at(due_time)


def on_events(clock: BusinessClock, settings: Settings, noted: Noted) -> Handler[PostgresAgents]:
    """Return the handler of conversation-events and session-events."""
    grace = timedelta(milliseconds=settings.agent_gone_grace_ms)

    async def apply(events: Sequence[Event], *, work: Work[PostgresAgents]) -> None:
        arrivals = Arrivals(work.repository.connection)
        now = clock.now()
        await _on_conversations(events, arrivals, now, noted)
        await _on_sessions(events, arrivals, now + grace, noted)

    return apply


async def _on_conversations(
    events: Sequence[Event], arrivals: Arrivals, now: datetime, noted: Noted
) -> None:
    """Store the last hand-over of each conversation, and which ended after it."""
    handed: dict[Key, ConversationHandedOff] = {}
    ended: set[Key] = set()
    for event in events:
        key = (event.tenant_id, event.key)
        if isinstance(event.message, ConversationHandedOff):
            handed[key] = event.message
            ended.discard(key)
        elif isinstance(event.message, ConversationEnded):
            ended.add(key)
    if not handed and not ended:
        return
    unsettled = await arrivals.lock({*handed, *ended})
    new = [
        on_handed_off(key, message, ended=key in ended) for key, message in sorted(handed.items())
    ]
    await arrivals.hand_off(new, now, now + SETTLE_DELAY)
    await arrivals.close(ended - handed.keys(), now, now + SETTLE_DELAY)
    for tenant_id, conversation_id in unsettled:
        noted.unsettled.setdefault(tenant_id, []).append(conversation_id)
    for one in new:
        if one.request.state is RequestState.WAITING:
            pool = noted.arrived.setdefault((one.tenant_id, one.request.needs.pool_id), [])
            pool.append(one.request)


def on_handed_off(key: Key, message: ConversationHandedOff, *, ended: bool) -> Arrival:
    """Return what is stored of a hand-over."""
    tenant_id, conversation_id = key
    request = Request(
        conversation_id=conversation_id,
        hand_off=message.hand_off,
        customer_id=message.customer_id,
        channel=message.channel,
        reason=message.reason,
        needs=needs.read(message.needs),
        previous_agent_id=message.previous_agent_id,
        hand_off_time=_EPOCH + timedelta(microseconds=message.recorded_us),
        state=RequestState.CLOSED if ended else RequestState.WAITING,
    )
    return Arrival(tenant_id, request, message.needs.SerializeToString())


async def _on_sessions(
    events: Sequence[Event], arrivals: Arrivals, due_time: datetime, noted: Noted
) -> None:
    """Note who is without a session now, and who is back."""
    gone: dict[Key, bool] = {}
    for event in events:
        message = event.message
        if not isinstance(message, SessionOpened | SessionEnded):
            continue
        if message.subject_kind == SUBJECT_KIND_AGENT:
            ended = isinstance(message, SessionEnded) and message.open_count == 0
            gone[event.tenant_id, event.key] = ended
    departed = {key for key, ended in gone.items() if ended}
    await arrivals.come_back(gone.keys() - departed)
    if departed:
        await arrivals.depart(departed, due_time)
        noted.due_time = due_time
