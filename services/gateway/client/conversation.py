"""One conversation as a client has it: what it was given, and what waits to be sent."""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto

from services.gateway.frames_in import Send, Subscribe
from services.gateway.frames_out import Message, Subscribed

FOLLOW = "follow:"


class Verdict(Enum):
    """What to do with a message."""

    DELIVER = auto()
    REPEATED = auto()
    HOLE = auto()
    """Something is missing before it: it must be asked for again."""


@dataclass(slots=True, eq=False)
class Conversation:
    """A conversation that the client follows, or sends to."""

    conversation_id: str
    last_sequence: int = 0
    """Number of the last message that was delivered."""
    epoch: str = ""
    followed: bool = False
    """True while the client wants to follow it."""
    live: bool = False
    """True while this connection follows it."""
    outbox: deque[Send] = field(default_factory=deque)
    """Messages to send; the first is on its way, which keeps their order."""
    waiting: list[asyncio.Future[Subscribed]] = field(default_factory=list)
    """Who waits until it is followed."""
    acknowledged: int = 0
    """Number of the last message that the user took."""
    acknowledging: bool = False

    @property
    def ref(self) -> str:
        """What names a wish to follow it."""
        return f"{FOLLOW}{self.conversation_id}"

    @property
    def wish(self) -> Subscribe:
        """The frame that asks to follow it, from where the user is."""
        return Subscribe(self.conversation_id, self.last_sequence, self.epoch, ref=self.ref)

    def begin(self, frame: Subscribed) -> None:
        """Take from where messages come."""
        self.live = True
        self.epoch = frame.epoch
        if not frame.recovered:
            self.last_sequence = frame.after_sequence
        for future in self.waiting:
            if not future.done():
                future.set_result(frame)

    def fail(self, error: Exception) -> bool:
        """Tell those who wait that it can't be followed; False when nobody does."""
        waiting = [future for future in self.waiting if not future.done()]
        for future in waiting:
            future.set_exception(error)
        return bool(waiting)

    def judge(self, message: Message) -> Verdict:
        """Tell what to do with a message, and note it when it is to be delivered."""
        if not self.live:
            return Verdict.REPEATED
        if message.sequence <= self.last_sequence:
            return Verdict.REPEATED
        if message.sequence != self.last_sequence + 1:
            return Verdict.HOLE
        self.last_sequence = message.sequence
        return Verdict.DELIVER
