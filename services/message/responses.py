"""Messages and marks as protobuf."""

import json
from collections.abc import Iterable

from interchange.gateway.v1.gateway_pb2 import Push
from interchange.message.v1.message_pb2 import (
    SENDER_KIND_SYSTEM,
    Attachment,
    Mark,
    Message,
    Sender,
    SenderKind,
    SystemNote,
)
from interchange.message.v1.message_service_pb2 import ResumeMessagesResponse

from services.message.domain import MessageRow
from services.message.marks import MarkRow
from services.message.reading import Resumed


def message(row: MessageRow) -> Message:
    """Return a stored message as its resource."""
    found = Message(
        conversation_id=row.conversation_id,
        sequence=row.sequence,
        message_id=row.message_id,
        client_message_id=row.client_message_id,
        sender=Sender(kind=SenderKind.ValueType(row.sender_kind), id=row.sender_id),
    )
    if row.body is not None:
        found.text = row.body
    seconds, micros = divmod(row.create_us, 1_000_000)
    found.create_time.seconds = seconds
    found.create_time.nanos = micros * 1000
    if row.detail is not None:
        fields = json.loads(row.detail)
        if row.sender_kind == SENDER_KIND_SYSTEM:
            found.system.CopyFrom(SystemNote(**fields))
        else:
            found.attachment.CopyFrom(Attachment(**fields))
    return found


def mark(row: MarkRow) -> Mark:
    """Return how far somebody is."""
    return Mark(
        reader=Sender(kind=SenderKind.ValueType(row.reader_kind), id=row.reader_id),
        delivered_sequence=row.delivered_sequence,
        read_sequence=row.read_sequence,
    )


def resumed(found: Resumed) -> ResumeMessagesResponse:
    """Return what a reader missed who comes back."""
    conversation = found.page.conversation
    return ResumeMessagesResponse(
        recovered=found.recovered,
        epoch=conversation.epoch,
        messages=[message(row) for row in found.page.rows],
        last_sequence=conversation.last_sequence,
        more=found.page.more,
        marks=[mark(row) for row in found.marks],
        customer_id=conversation.customer_id,
        agent_id=conversation.agent_id,
        ended=conversation.ended,
    )


def message_pushes(tenant_id: str, messages: Iterable[Message]) -> list[Push]:
    """Return what the followers of the conversations are told."""
    return [
        Push(tenant_id=tenant_id, conversation_id=one.conversation_id, message=one)
        for one in messages
    ]


def mark_pushes(tenant_id: str, rows: Iterable[MarkRow]) -> list[Push]:
    """Return what the followers of the conversations are told."""
    return [
        Push(tenant_id=tenant_id, conversation_id=row.conversation_id, mark=mark(row))
        for row in rows
    ]
