"""All conversations of a client: what is heard of them, and what they ask for."""

from collections.abc import Callable

from services.gateway import frames_in, frames_out
from services.gateway.client.asking import AGAIN_S
from services.gateway.client.conversation import FOLLOW, Conversation, Verdict
from services.gateway.client.errors import ClientError, Refused
from services.gateway.client.events import Event
from services.gateway.frames_in import ClientFrame
from services.gateway.frames_out import ServerFrame

ACKNOWLEDGE_S = 0.2
"""How long marks of delivery gather."""


class Conversations:
    """Conversations that are followed or sent to, by id."""

    def __init__(
        self,
        write: Callable[[ClientFrame], None],
        emit: Callable[[Event], None],
        later: Callable[[float, Callable[[], None]], None],
    ) -> None:
        self._write = write
        self._emit = emit
        self._later = later
        self._known: dict[str, Conversation] = {}

    def of(self, conversation_id: str) -> Conversation:
        """Return a conversation; a new one is neither followed nor sent to yet."""
        found = self._known.get(conversation_id)
        if found is None:
            found = self._known[conversation_id] = Conversation(conversation_id)
        return found

    def forget(self, conversation: Conversation) -> None:
        """Let go of a conversation that is neither followed nor sent to any more."""
        if not conversation.followed and not conversation.outbox:
            self._known.pop(conversation.conversation_id, None)

    def live(self, conversation_id: str) -> bool:
        """Tell whether this connection follows a conversation."""
        found = self._known.get(conversation_id)
        return found is not None and found.live

    def restore(self) -> set[int]:
        """Follow again what was followed; return the identities of messages that go first."""
        for each in self._known.values():
            if each.followed:
                self._write(each.wish)
        return {id(each.outbox[0]) for each in self._known.values() if each.outbox}

    def pause(self) -> None:
        """Take that nothing is followed for a while."""
        for each in self._known.values():
            each.live = False

    def fail(self, error: ClientError) -> None:
        """Tell all who wait to follow that they won't."""
        for each in self._known.values():
            each.fail(error)

    def take(self, frame: ServerFrame) -> bool:
        """Take a frame of a conversation; False when it is something else."""
        if isinstance(frame, frames_out.Message):
            self._take_message(frame)
        elif isinstance(frame, frames_out.Subscribed):
            self._take_subscribed(frame)
        elif isinstance(frame, frames_out.Unsubscribed) and not frame.ref:
            self._take_unsubscribed(frame)
        elif isinstance(frame, frames_out.Error) and frame.ref.startswith(FOLLOW):
            self._take_not_followed(frame)
        else:
            return False
        return True

    def acknowledge(self, message: frames_out.Message) -> None:
        """Mark a message as delivered, soon and with those that follow."""
        conversation = self._known.get(message.conversation_id)
        if conversation is None:
            return
        conversation.acknowledged = message.sequence
        if conversation.acknowledging:
            return
        conversation.acknowledging = True

        def mark() -> None:
            conversation.acknowledging = False
            if conversation.live:
                frame = frames_in.SetMark(conversation.conversation_id, conversation.acknowledged)
                self._write(frame)

        self._later(ACKNOWLEDGE_S, mark)

    def _take_message(self, frame: frames_out.Message) -> None:
        conversation = self._known.get(frame.conversation_id)
        if conversation is None:
            return
        verdict = conversation.judge(frame)
        if verdict is Verdict.DELIVER:
            self._emit(frame)
        elif verdict is Verdict.HOLE:
            conversation.live = False
            self._write(conversation.wish)

    def _take_subscribed(self, frame: frames_out.Subscribed) -> None:
        conversation = self._known.get(frame.conversation_id)
        if conversation is not None and conversation.followed:
            conversation.begin(frame)
            self._emit(frame)

    def _take_not_followed(self, frame: frames_out.Error) -> None:
        conversation = self._known.get(frame.ref.removeprefix(FOLLOW))
        if conversation is None:
            return
        refused = Refused(frame.code, frame.reason, frame.message, frame.field)
        if refused.passing:
            self._later(AGAIN_S, lambda: self._follow_again(conversation))
            return
        conversation.followed = False
        if not conversation.fail(refused):
            self._emit(frames_out.Unsubscribed(conversation.conversation_id, frame.reason))
            self.forget(conversation)

    def _take_unsubscribed(self, frame: frames_out.Unsubscribed) -> None:
        conversation = self._known.get(frame.conversation_id)
        if conversation is None:
            return
        conversation.live = False
        if frame.reason == "NOT_YOURS":
            conversation.followed = False
            self._emit(frame)
            self.forget(conversation)
        else:
            self._later(AGAIN_S, lambda: self._follow_again(conversation))

    def _follow_again(self, conversation: Conversation) -> None:
        if conversation.followed and not conversation.live:
            self._write(conversation.wish)
