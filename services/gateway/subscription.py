"""One socket's place in one conversation: what it was sent, and what waits for it."""

import asyncio
from typing import TYPE_CHECKING, Protocol

from services.common.identity import Caller

if TYPE_CHECKING:
    from services.gateway.feed import Feed

HELD_MAX = 500
"""Live messages kept while history is on its way; later ones are read as history, too."""


class Reader(Protocol):
    """What a conversation needs of a socket."""

    caller: Caller
    subscriptions: "dict[str, Subscription]"

    @property
    def closed(self) -> bool:
        """True once nothing reaches the client any more."""

    def send(self, data: bytes) -> None:
        """Send the bytes of a frame; do nothing once closed."""

    async def room(self) -> None:
        """Wait until the client has read most of what it was sent; return at once if it did."""


class Subscription:
    """A socket follows a conversation.

    While history is on its way, or the right to read is in doubt, live messages
    are held. Then they follow, and each number goes out once.
    """

    __slots__ = (
        "checking",
        "feed",
        "following",
        "held",
        "last",
        "reader",
        "task",
        "told",
        "typed_at",
        "typing",
    )

    def __init__(self, reader: Reader, feed: "Feed") -> None:
        self.reader = reader
        self.feed = feed
        self.last = 0
        """Number of the last message that was sent."""
        self.held: list[tuple[int, bytes]] | None = []
        self.told = False
        """True once the client was told that it follows."""
        self.checking = False
        """True while it is in doubt whether the reader may still read."""
        self.following = False
        self.task: asyncio.Task[None] | None = None
        self.typing = False
        self.typed_at = 0.0

    @property
    def live(self) -> bool:
        """True while news go straight to the client."""
        return self.told and self.held is None

    def offer(self, sequence: int, data: bytes) -> None:
        """Send a live message, or hold it back. They come in order, without holes."""
        if self.held is None:
            if sequence > self.last:
                self.last = sequence
                self.reader.send(data)
        elif len(self.held) < HELD_MAX:
            # What does not fit is newer than all that is held: it is found missing then.
            self.held.append((sequence, data))

    def hold(self) -> None:
        """Hold back what comes from now on."""
        if self.held is None:
            self.held = []

    def release(self) -> bool:
        """Send what was held and go live; False when messages are missing before."""
        for sequence, data in self.held or ():
            if sequence == self.last + 1:
                self.last = sequence
                self.reader.send(data)
        known = self.feed.order.last
        complete = known is None or self.last >= known
        self.held = None if complete else []
        return complete
