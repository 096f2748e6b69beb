"""What conversations and bots do becomes messages: the rules, over one batch of events."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from interchange.bot.v1.bot_events_pb2 import BotReplied
from interchange.conversation.v1.conversation_events_pb2 import (
    ConversationAssigned,
    ConversationEnded,
    ConversationHandedOff,
    ConversationReopened,
    ConversationStarted,
)
from interchange.conversation.v1.conversation_pb2 import (
    STATUS_QUEUED,
    STATUS_WITH_BOT,
    EndReason,
    HandOffReason,
)
from interchange.message.v1.message_events_pb2 import HANDLER_BOT, HANDLER_QUEUE, MessageBody
from interchange.message.v1.message_pb2 import (
    SENDER_KIND_BOT,
    SENDER_KIND_CUSTOMER,
    SENDER_KIND_SYSTEM,
    SYSTEM_KIND_AGENT_JOINED,
    SYSTEM_KIND_ENDED,
    SYSTEM_KIND_QUEUED,
    SYSTEM_KIND_REOPENED,
    SystemNote,
)

from services.common.personal import Seal, Unreadable
from services.message.appended import Appended
from services.message.copies import CopyKey, EarlyReply
from services.message.domain import Conversation, Sender

PLATFORM = Sender(SENDER_KIND_SYSTEM, "")
HANDLERS = {STATUS_WITH_BOT: HANDLER_BOT, STATUS_QUEUED: HANDLER_QUEUE}

SealOf: TypeAlias = Callable[[str, str], Seal | None]
"""Key of a customer by tenant and customer; None once it was destroyed."""


@dataclass(slots=True)
class Following:
    """The conversations that a batch of events is about, and what becomes of them."""

    copies: dict[CopyKey, Conversation]
    """Those that are known, changed in place."""
    seal_of: SealOf
    new_epoch: Callable[[], str]
    ahead: dict[CopyKey, list[EarlyReply]]
    """What bots said in conversations that are not known yet."""
    appended: Appended = field(default_factory=Appended)

    def started(self, tenant_id: str, event: ConversationStarted) -> None:
        """Copy a new conversation, with its first message if it came with one."""
        conversation = Conversation(
            conversation_id=event.conversation_id,
            customer_id=event.customer_id,
            channel=event.channel,
            handler=HANDLERS[event.status],
            bot_id=event.bot_id,
            agent_id="",
            hand_off=0,
            ended=False,
            epoch=self.new_epoch(),
            first_sequence=1,
            last_sequence=0,
            event_sequence=0,
            marks_version=0,
        )
        key = tenant_id, event.conversation_id
        if key in self.copies:
            raise ValueError(f"conversation {event.conversation_id} started twice")
        self.copies[key] = conversation
        if event.message_id:
            sender = Sender(SENDER_KIND_CUSTOMER, event.customer_id)
            what = event.message_id, event.sealed_text, event.recorded_us
            self._say(tenant_id, conversation, sender, *what)
        for _, sequence, reply in self.ahead.pop(key, ()):
            self.replied(tenant_id, sequence, reply)

    def handed_off(self, tenant_id: str, event: ConversationHandedOff) -> None:
        """Let it wait for an agent."""
        conversation = self._known(tenant_id, event.conversation_id)
        conversation.queue(event.hand_off)
        note = SystemNote(kind=SYSTEM_KIND_QUEUED, reason=HandOffReason.Name(event.reason))
        self._note(tenant_id, conversation, event.event_id, note, event.recorded_us)

    def assigned(self, tenant_id: str, event: ConversationAssigned) -> None:
        """Let an agent answer."""
        conversation = self._known(tenant_id, event.conversation_id)
        conversation.assign(event.agent_id, event.hand_off)
        note = SystemNote(
            kind=SYSTEM_KIND_AGENT_JOINED, agent_id=event.agent_id, agent_name=event.agent_name
        )
        self._note(tenant_id, conversation, event.event_id, note, event.recorded_us)

    def ended(self, tenant_id: str, event: ConversationEnded) -> None:
        """End it."""
        conversation = self._known(tenant_id, event.conversation_id)
        conversation.end()
        note = SystemNote(kind=SYSTEM_KIND_ENDED, reason=EndReason.Name(event.reason))
        self._note(tenant_id, conversation, event.event_id, note, event.recorded_us)

    def reopened(self, tenant_id: str, event: ConversationReopened) -> None:
        """Go on."""
        conversation = self._known(tenant_id, event.conversation_id)
        conversation.reopen(HANDLERS[event.status], event.hand_off)
        note = SystemNote(kind=SYSTEM_KIND_REOPENED)
        self._note(tenant_id, conversation, event.event_id, note, event.recorded_us)

    def replied(self, tenant_id: str, sequence: int, event: BotReplied) -> None:
        """Let the bot speak; not in an ended conversation, where nobody listens.

        It may have been handed over meanwhile: what the bot said before, it still says.
        """
        key = tenant_id, event.conversation_id
        conversation = self.copies.get(key)
        if conversation is None:
            self.ahead.setdefault(key, []).append((tenant_id, sequence, event))
        elif not conversation.ended:
            sender = Sender(SENDER_KIND_BOT, event.bot_id)
            what = event.event_id, event.sealed_text, event.recorded_us
            self._say(tenant_id, conversation, sender, *what)

    def _known(self, tenant_id: str, conversation_id: str) -> Conversation:
        conversation = self.copies.get((tenant_id, conversation_id))
        if conversation is None:
            raise ValueError(f"conversation {conversation_id} changed before it started")
        return conversation

    def _say(
        self,
        tenant_id: str,
        conversation: Conversation,
        sender: Sender,
        message_id: str,
        sealed_text: bytes,
        recorded_us: int,
    ) -> None:
        """Append what somebody said, unless his customer's data was destroyed since."""
        seal = self.seal_of(tenant_id, conversation.customer_id)
        if seal is None:
            return
        conversation_id = conversation.conversation_id
        try:
            clear = seal.open(sealed_text, conversation_id)
        except Unreadable as error:
            raise ValueError(f"message {message_id} can't be read: {error}") from None
        # Postgres holds no NUL; whoever let one in, the conversation goes on.
        text = clear.decode().replace("\0", "\ufffd")
        row = conversation.append(message_id, sender, recorded_us, body=text)
        body = MessageBody(text=text).SerializeToString()
        self.appended.add(tenant_id, conversation, row, seal.seal(body, conversation_id))

    def _note(
        self,
        tenant_id: str,
        conversation: Conversation,
        event_id: str,
        note: SystemNote,
        recorded_us: int,
    ) -> None:
        """Append what happened, so that every change is in the one order of messages."""
        fields = {descriptor.name: value for descriptor, value in note.ListFields()}
        detail = json.dumps(fields, separators=(",", ":"))
        row = conversation.append(event_id, PLATFORM, recorded_us, detail=detail)
        self.appended.add(tenant_id, conversation, row, b"", note)
