"""What one transaction appends to conversations, as columns."""

from collections.abc import Iterable

from interchange.gateway.v1.gateway_pb2 import Push
from interchange.message.v1.message_pb2 import SystemNote

from services.common.events import EventColumns
from services.message import events, responses
from services.message.domain import Conversation, MessageRow


class Appended:
    """Messages of a transaction, with their events."""

    def __init__(self) -> None:
        self.tenant_ids: list[str] = []
        self.rows: list[MessageRow] = []
        self._events: dict[str, EventColumns] = {}

    def add(
        self,
        tenant_id: str,
        conversation: Conversation,
        row: MessageRow,
        sealed: bytes,
        note: SystemNote | None = None,
    ) -> None:
        """Take a message along; the conversation is as it is with this message."""
        self.tenant_ids.append(tenant_id)
        self.rows.append(row)
        columns = self._events.get(tenant_id)
        if columns is None:
            columns = self._events[tenant_id] = EventColumns(tenant_id, events.TOPIC)
        columns.event_ids.append(row.message_id)
        columns.types.append(events.MESSAGE_SENT)
        columns.versions.append(1)
        columns.keys.append(row.conversation_id)
        columns.sequences.append(conversation.next_event())
        columns.payloads.append(events.message_sent(conversation, row, sealed, note))

    @property
    def events(self) -> Iterable[EventColumns]:
        """The events, a tenant at a time."""
        return self._events.values()

    def pushes(self) -> list[Push]:
        """Return what followers are told once this is committed."""
        return [
            Push(
                tenant_id=tenant_id,
                conversation_id=row.conversation_id,
                message=responses.message(row),
            )
            for tenant_id, row in zip(self.tenant_ids, self.rows, strict=True)
        ]
