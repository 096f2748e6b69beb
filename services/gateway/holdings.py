"""Which sockets here hold which sessions of a tenant, and which sessions are on their way."""

import time
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from interchange.session.v1.session_service_pb2 import AttachResult

from services.gateway import frames_out

QUIET_S = 90.0
"""How long after its last attachment a tenant without sockets is confirmed.

The session service leaves alone what it gave within the last minute, and a call that
nobody waits for any more may end somewhat later.
"""


class Attached(Protocol):
    """A socket that has, or wants, a session."""

    session_id: str

    def attached(self, result: AttachResult) -> bool:
        """Take the session; False when the socket is gone."""

    def not_attached(self, error: frames_out.Error) -> None:
        """Take why there is none."""

    def lost(self, reason: str) -> None:
        """Take that the session is gone."""


class _Held(NamedTuple):
    socket: Attached
    since: float


class Holding:
    """The sessions of one tenant. Times are of the monotonic clock."""

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}
        self._moving: Counter[str] = Counter()
        self._asked_at = time.monotonic()

    def hold(self, session_id: str, socket: Attached) -> Attached | None:
        """Give a session to a socket; return another one that had it."""
        before = self._held.get(session_id)
        self._held[session_id] = _Held(socket, time.monotonic())
        return before.socket if before and before.socket is not socket else None

    def release(self, session_id: str, socket: Attached) -> bool:
        """Take a session from a socket; False when it is not, or no longer, that one's."""
        held = self._held.get(session_id)
        if held is None or held.socket is not socket:
            return False
        del self._held[session_id]
        return True

    def lose(self, session_ids: Iterable[str], asked_at: float) -> list[Attached]:
        """Forget sessions that are gone; return their sockets.

        What was attached after the question was asked is none of those, even if it
        is named: it was away when the question was answered.
        """
        gone = [
            session_id
            for session_id in session_ids
            if (held := self._held.get(session_id)) and held.since < asked_at
        ]
        return [self._held.pop(session_id).socket for session_id in gone]

    def depart(self, session_id: str) -> None:
        """Note that a session is about to be taken up or left."""
        self._moving[session_id] += 1

    def arrive(self, session_id: str) -> None:
        """Note that this has been answered, or has failed."""
        self._moving[session_id] -= 1
        if not self._moving[session_id]:
            del self._moving[session_id]

    def asked(self) -> None:
        """Note that attaching has ended: it may have given what nobody here knows of."""
        self._asked_at = time.monotonic()

    def named(self) -> set[str]:
        """Return what is to be confirmed.

        What is on its way counts as held: it is decided where it goes. A session left
        to be resumed by not being named would forget its goodbye, or be taken from a
        client that is just coming back.
        """
        return {*self._held, *self._moving} - {""}

    def is_over(self, asked_at: float) -> bool:
        """Tell whether a confirmation asked for at that time was the last that is needed."""
        return not self._held and not self._moving and self._asked_at + QUIET_S < asked_at
