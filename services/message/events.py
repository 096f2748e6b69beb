"""Events of the message service as protobuf.

Both types share one numbering per conversation.
"""

from interchange.message.v1.message_events_pb2 import Handler, MessageRead, MessageSent
from interchange.message.v1.message_pb2 import SENDER_KIND_SYSTEM, Sender, SenderKind, SystemNote

from services.message.domain import Conversation, MessageRow
from services.message.marks import MarkRow

TOPIC = "message-events"
MESSAGE_SENT = MessageSent.DESCRIPTOR.full_name
MESSAGE_READ = MessageRead.DESCRIPTOR.full_name


def message_sent(
    conversation: Conversation, row: MessageRow, sealed: bytes, note: SystemNote | None = None
) -> bytes:
    """Return the event of a message; it has the id of the message.

    What the platform says is no secret; all else is sealed.
    """
    assert bool(sealed) != (row.sender_kind == SENDER_KIND_SYSTEM), "sealed is what somebody said"
    return MessageSent(
        event_id=row.message_id,
        conversation_id=row.conversation_id,
        sequence=row.sequence,
        sender=Sender(kind=SenderKind.ValueType(row.sender_kind), id=row.sender_id),
        customer_id=conversation.customer_id,
        sealed_body=sealed,
        system=note,
        handler=Handler.ValueType(conversation.handler),
        bot_id=conversation.bot_id,
        hand_off=conversation.hand_off,
        agent_id=conversation.current_agent_id,
        recorded_us=row.create_us,
    ).SerializeToString()


def message_read(event_id: str, row: MarkRow, now_us: int) -> bytes:
    """Return the event of a reader who read on."""
    return MessageRead(
        event_id=event_id,
        conversation_id=row.conversation_id,
        reader=Sender(kind=SenderKind.ValueType(row.reader_kind), id=row.reader_id),
        read_sequence=row.read_sequence,
        recorded_us=now_us,
    ).SerializeToString()
