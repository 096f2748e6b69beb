"""Kafka in: what customers say to bots becomes turns, to be answered by the worker."""

from collections.abc import Sequence

from interchange.conversation.v1.conversation_events_pb2 import (
    ConversationHandedOff,
    ConversationStarted,
)
from interchange.conversation.v1.conversation_pb2 import HAND_OFF_REASON_REQUESTED, STATUS_WITH_BOT
from interchange.message.v1.message_events_pb2 import HANDLER_BOT, MessageSent
from interchange.message.v1.message_pb2 import SENDER_KIND_CUSTOMER, SYSTEM_KIND_REOPENED

from services.bot.repository import Bots, ConversationId
from services.bot.turns import Turn
from services.common.events import Event
from services.common.work import Work

TOPICS = ("conversation-events", "message-events")
MESSAGES = (ConversationStarted, ConversationHandedOff, MessageSent)

BOT_DEFAULT = "default"
BOT_ACTOR = "bot"


async def on_events(events: Sequence[Event], *, work: Work[Bots]) -> None:
    """Queue turns, and end the stints of bots that a person ended."""
    turns: list[Turn] = []
    closed: dict[ConversationId, int] = {}
    for event in events:
        message = event.message
        if isinstance(message, MessageSent):
            # The note of a reopening is in order with what is said before and after it.
            said = message.sender.kind == SENDER_KIND_CUSTOMER
            if message.handler == HANDLER_BOT and (said or _reopens(message)):
                turns.append(_said(event, message))
        elif isinstance(message, ConversationStarted):
            # A first message comes as one, by message-events.
            if message.status == STATUS_WITH_BOT and not message.sealed_text:
                turns.append(_silent(event, message))
        elif isinstance(message, ConversationHandedOff) and (
            # By a person. What the bot asked for itself it knows.
            message.reason == HAND_OFF_REASON_REQUESTED and message.actor != BOT_ACTOR
        ):
            closed[event.tenant_id, message.conversation_id] = message.hand_off
    # In one order, as whoever answers them locks: two transactions can't wait for each other.
    turns.sort(key=lambda turn: (turn.tenant_id, turn.conversation_id, turn.sequence))
    await work.repository.add(turns)
    await work.repository.close(closed)


def _reopens(message: MessageSent) -> bool:
    return message.HasField("system") and message.system.kind == SYSTEM_KIND_REOPENED


def _said(event: Event, message: MessageSent) -> Turn:
    return Turn(
        event.tenant_id,
        message.conversation_id,
        message.sequence,
        message.event_id,
        message.customer_id,
        message.bot_id or BOT_DEFAULT,
        message.hand_off,
        message.sealed_body,
        event.traceparent,
    )


def _silent(event: Event, message: ConversationStarted) -> Turn:
    return Turn(
        event.tenant_id,
        message.conversation_id,
        0,
        message.event_id,
        message.customer_id,
        message.bot_id or BOT_DEFAULT,
        0,
        b"",
        event.traceparent,
    )
