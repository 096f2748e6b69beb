"""One conversation as this instance sees it: who follows it here, and what is known."""

from interchange.gateway.v1 import gateway_pb2
from interchange.message.v1 import message_pb2

from services.common import access
from services.gateway import frames_out, translation
from services.gateway.codec import encode
from services.gateway.frames_out import MarkOf
from services.gateway.ordering import Sequencer
from services.gateway.subscription import Subscription

MOVES = frozenset(
    {
        message_pb2.SYSTEM_KIND_QUEUED,
        message_pb2.SYSTEM_KIND_AGENT_JOINED,
        message_pb2.SYSTEM_KIND_REOPENED,
    }
)
"""Messages after which another agent may read, and the one before may not."""


class Feed:
    """A conversation that at least one socket of this instance follows.

    A message is put into its frame once, whoever follows.
    """

    __slots__ = (
        "agent_id",
        "conversation_id",
        "customer_id",
        "doubts",
        "epoch",
        "introduced_at",
        "marks",
        "marks_pushed",
        "marks_version",
        "online",
        "order",
        "repairing",
        "subscriptions",
        "tenant_id",
    )

    def __init__(self, tenant_id: str, conversation_id: str) -> None:
        self.tenant_id = tenant_id
        self.conversation_id = conversation_id
        self.customer_id = ""
        self.agent_id = ""
        self.epoch = ""
        self.subscriptions: list[Subscription] = []
        self.order: Sequencer[tuple[bytes, bool]] = Sequencer()
        """Frames in order, each with whether it moves the conversation to others."""
        self.marks: dict[tuple[str, str], MarkOf] = {}
        self.marks_version = 0
        """Version that belongs to the marks known."""
        self.marks_pushed = 0
        """Moves of marks that were pushed since that version."""
        self.online: set[str] = set()
        """Participants who are known to be there."""
        self.introduced_at = 0.0
        """When a client was last told that it follows, by the clock of the loop."""
        self.doubts = 0
        """How often it came into doubt who may read."""
        self.repairing = False

    def take(self, message: message_pb2.Message) -> bool:
        """Send a message to whom it is new; True when it may change who reads."""
        if self.order.last is not None and message.sequence <= self.order.last:
            return False
        moves = message.WhichOneof("content") == "system" and message.system.kind in MOVES
        data = encode(translation.message(message))
        return self._give(self.order.take(message.sequence, (data, moves)))

    def anchor(self, last: int) -> bool:
        """Begin after `last`, which history reached; True as for `take`."""
        return self._give(self.order.anchor(last))

    def _give(self, found: list[tuple[int, tuple[bytes, bool]]]) -> bool:
        doubtful = False
        for sequence, (data, moves) in found:
            for each in tuple(self.subscriptions):
                each.offer(sequence, data)
                # Only an agent's right to read comes and goes.
                if moves and not access.may_see(each.reader.caller, self.customer_id, ""):
                    each.checking = doubtful = True
                    each.hold()
        return doubtful

    def restart(self) -> None:
        """Forget what was known: the numbers begin anew."""
        self.order = Sequencer()
        self.marks = {}

    def tell(self, frame: frames_out.ServerFrame, but: str = "") -> None:
        """Send news that need no order to those who follow, except the subject `but`."""
        data = encode(frame)
        for each in tuple(self.subscriptions):
            if each.told and not each.checking and each.reader.caller.subject != but:
                each.reader.send(data)

    def move_mark(self, mark: message_pb2.Mark) -> None:
        """Tell of a mark that moved; one that is known already is told to nobody."""
        self.marks_pushed += 1
        moved = self.merge_marks([mark])
        if moved:
            self.tell(frames_out.Marks(self.conversation_id, moved))

    def merge_marks(self, marks: "list[message_pb2.Mark]") -> tuple[MarkOf, ...]:
        """Take marks over where they are further; return those that moved."""
        moved = []
        for mark in map(translation.mark, marks):
            key = mark.reader.kind, mark.reader.id
            known = self.marks.get(key)
            if known is not None:
                mark.delivered = max(mark.delivered, known.delivered)
                mark.read = max(mark.read, known.read)
            if known != mark:
                self.marks[key] = mark
                moved.append(mark)
        return tuple(moved)

    def of_push(self, push: gateway_pb2.Push) -> bool:
        """Take what was pushed; True as for `take`."""
        content = push.WhichOneof("content")
        if content == "message":
            return self.take(push.message)
        if content == "mark":
            self.move_mark(push.mark)
        elif content == "typing":
            sender = translation.sender(push.typing.sender)
            frame = frames_out.Typing(self.conversation_id, sender, push.typing.typing)
            self.tell(frame, but=sender.id)
        elif content == "presence":
            self.saw(push.presence.subject, online=push.presence.online)
        return False

    def saw(self, subject: str, *, online: bool) -> None:
        """Tell of a participant who came or went, once."""
        if subject not in self.participants or online == (subject in self.online):
            return
        if online:
            self.online.add(subject)
            frame = frames_out.Presence(online=(subject,))
        else:
            self.online.discard(subject)
            frame = frames_out.Presence(offline=(subject,))
        self.tell(frame, but=subject)

    @property
    def participants(self) -> tuple[str, ...]:
        """Customer and agent, as far as known."""
        return tuple(filter(None, (self.customer_id, self.agent_id)))
