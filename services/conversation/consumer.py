"""Kafka in: what the bot and the agents decided, as steps of conversations."""

from collections.abc import Sequence

import structlog
from google.protobuf.message import Message
from interchange.agent.v1.agent_events_pb2 import (
    RELEASE_REASON_AGENT_GONE,
    AgentMatched,
    AgentReleased,
)
from interchange.bot.v1.bot_events_pb2 import HandoffRequested

from services.common import ids
from services.common.clock import BusinessClock
from services.common.events import Event
from services.common.work import Work
from services.conversation import domain
from services.conversation import events as caused
from services.conversation import needs as needing
from services.conversation.domain import Conversation, Step
from services.conversation.news import Changed, News
from services.conversation.repository import ConversationId, Conversations

log = structlog.get_logger()

TOPICS = ("bot-events", "agent-events")
MESSAGES = (HandoffRequested, AgentMatched, AgentReleased)


class Decisions:
    """Applies what others decided about conversations.

    What names another hand-over than the current one is late, and changes nothing.
    """

    def __init__(self, clock: BusinessClock, news: News) -> None:
        self._clock = clock
        self._news = news
        self._changed: list[Changed] = []

    async def prepare(self, events: Sequence[Event]) -> Sequence[ConversationId]:
        """Return the conversations that the events are about: requests write their events too."""
        self._changed.clear()
        return [_conversation(event) for event in events if _decides(event)]

    async def on_decided(self, events: Sequence[Event], *, work: Work[Conversations]) -> None:
        """Take the steps that follow from events."""
        events = [event for event in events if _decides(event)]
        known = dict(await work.repository.load({_conversation(event) for event in events}))
        now_us = self._clock.now_us()
        moved: dict[ConversationId, Conversation] = {}
        steps: dict[str, list[Step]] = {}
        for event in events:
            key = _conversation(event)
            conversation = known.get(key)
            assert event.message is not None
            taken = [] if conversation is None else _steps(conversation, event.message, now_us)
            if taken:
                known[key] = moved[key] = domain.last(taken)
                steps.setdefault(event.tenant_id, []).extend(taken)
            else:
                log.debug("late", tenant=key[0], conversation=key[1], type=event.type)
        await work.repository.update(moved)
        for tenant_id, found in steps.items():
            event_ids = ids.uuid7_batch(len(found), now_us)
            work.outbox.add(caused.columns(tenant_id, found, event_ids))
        self._changed += [(*key, one.version) for key, one in moved.items()]

    def applied(self) -> None:
        """Tell of what was committed."""
        self._news.changed(self._changed)
        self._changed.clear()


def _decides(event: Event) -> bool:
    """Tell whether an event decides anything: most releases follow from a step of ours."""
    message = event.message
    return not isinstance(message, AgentReleased) or message.reason == RELEASE_REASON_AGENT_GONE


def _conversation(event: Event) -> ConversationId:
    message = event.message
    assert isinstance(message, MESSAGES)
    return event.tenant_id, message.conversation_id


def _steps(conversation: Conversation, message: Message, now_us: int) -> list[Step]:
    """Return the steps that an event asks for; none when it is late."""
    if isinstance(message, HandoffRequested):
        needs = needing.stored(message.needs) if message.HasField("needs") else None
        return domain.requested_by_bot(
            conversation, message.hand_off, message.reason, needs, now_us
        )
    if isinstance(message, AgentMatched):
        return domain.matched(
            conversation, message.hand_off, message.agent_id, message.agent_name, now_us
        )
    assert isinstance(message, AgentReleased)
    return domain.agent_gone(conversation, message.hand_off, message.agent_id, now_us)
