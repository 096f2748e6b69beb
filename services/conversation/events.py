"""Domain to protobuf: the resource, and the events of its steps."""

from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from interchange.conversation.v1 import conversation_pb2 as pb
from interchange.conversation.v1.conversation_events_pb2 import (
    ConversationAssigned,
    ConversationEnded,
    ConversationHandedOff,
    ConversationReopened,
    ConversationStarted,
)

from services.common.events import EventColumns
from services.conversation.domain import Conversation, Kind, Step

TOPIC = "conversation-events"


@dataclass(frozen=True, slots=True)
class Sealed:
    """What the first event says of a customer, sealed."""

    name: bytes = b""
    text: bytes = b""
    message_id: str = ""


NOTHING_SEALED = Sealed()


def resource(one: Conversation) -> pb.Conversation:
    """Return a conversation as it is shown to callers."""
    message = pb.Conversation(
        conversation_id=one.conversation_id,
        customer_id=one.customer_id,
        customer_name=one.customer_name,
        channel=one.channel,
        status=one.status,
        bot_id=one.bot_id,
        agent_id=one.agent_id,
        hand_off_count=one.hand_off_count,
        hand_off_reason=one.hand_off_reason,
        end_reason=one.end_reason,
        start_time=_time(one.start_us),
        duration_ms=one.duration_ms,
        version=one.version,
    )
    if one.hand_off_us:
        message.needs.MergeFromString(one.needs)
        message.hand_off_time.CopyFrom(_time(one.hand_off_us))
    if one.end_us:
        message.end_time.CopyFrom(_time(one.end_us))
    return message


def columns(
    tenant_id: str,
    steps: Sequence[Step],
    event_ids: Sequence[str],
    sealed: Sequence[Sealed] = (),
) -> EventColumns:
    """Return the events of steps, in their order; `sealed` belongs to the started ones."""
    found = EventColumns(tenant_id, TOPIC)
    secrets = iter(sealed)
    for step, event_id in zip(steps, event_ids, strict=True):
        message = (
            _started(step, event_id, next(secrets))
            if step.kind is Kind.STARTED
            else _EVENTS[step.kind](step, event_id)
        )
        found.extend(
            message.DESCRIPTOR.full_name,
            1,
            [event_id],
            [step.after.conversation_id],
            [step.after.version],
            [message.SerializeToString()],
        )
    return found


def _started(step: Step, event_id: str, sealed: Sealed) -> Message:
    after = step.after
    return ConversationStarted(
        event_id=event_id,
        conversation_id=after.conversation_id,
        customer_id=after.customer_id,
        sealed_name=sealed.name,
        channel=after.channel,
        status=after.status,
        bot_id=after.bot_id,
        sealed_text=sealed.text,
        message_id=sealed.message_id,
        recorded_us=step.at_us,
    )


def _handed_off(step: Step, event_id: str) -> Message:
    after = step.after
    message = ConversationHandedOff(
        event_id=event_id,
        conversation_id=after.conversation_id,
        customer_id=after.customer_id,
        channel=after.channel,
        hand_off=after.hand_off_count,
        reason=after.hand_off_reason,
        previous_agent_id=step.previous_agent_id,
        actor=step.actor,
        recorded_us=step.at_us,
    )
    message.needs.MergeFromString(after.needs)
    return message


def _assigned(step: Step, event_id: str) -> Message:
    after = step.after
    return ConversationAssigned(
        event_id=event_id,
        conversation_id=after.conversation_id,
        customer_id=after.customer_id,
        hand_off=after.hand_off_count,
        agent_id=after.agent_id,
        agent_name=step.agent_name,
        recorded_us=step.at_us,
    )


def _ended(step: Step, event_id: str) -> Message:
    after = step.after
    return ConversationEnded(
        event_id=event_id,
        conversation_id=after.conversation_id,
        customer_id=after.customer_id,
        hand_off=after.hand_off_count,
        reason=after.end_reason,
        agent_id=after.agent_id,
        actor=step.actor,
        duration_ms=after.duration_ms,
        recorded_us=step.at_us,
    )


def _reopened(step: Step, event_id: str) -> Message:
    after = step.after
    return ConversationReopened(
        event_id=event_id,
        conversation_id=after.conversation_id,
        customer_id=after.customer_id,
        status=after.status,
        hand_off=after.hand_off_count,
        actor=step.actor,
        recorded_us=step.at_us,
    )


_EVENTS = {
    Kind.HANDED_OFF: _handed_off,
    Kind.ASSIGNED: _assigned,
    Kind.ENDED: _ended,
    Kind.REOPENED: _reopened,
}


def _time(us: int) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromMicroseconds(us)
    return timestamp
