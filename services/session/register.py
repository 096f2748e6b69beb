"""The sessions of some subjects within a transaction: what changes, and what follows.

All subjects are locked, so what is decided here is decided once: the number of
open sessions, the order of events, and who has come or gone.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple, TypeAlias

from services.common.errors import ResourceExhausted
from services.session import domain
from services.session.domain import End, Session, Timings

Subject: TypeAlias = tuple[str, str]
"""A tenant and a subject of it."""


class Standing(NamedTuple):
    """What is known of a subject."""

    open_count: int
    last_sequence: int


NEW = Standing(0, 0)


@dataclass(frozen=True, slots=True)
class Happening:
    """That a session opened or ended: what becomes an event."""

    event_id: str
    session: Session
    sequence: int
    open_count: int


class Register:
    """Decides over sessions, and keeps what is to be written."""

    def __init__(
        self,
        now: datetime,
        timings: Timings,
        sessions: Iterable[Session],
        standings: Mapping[Subject, Standing],
        ids: Iterator[str],
    ) -> None:
        self.now = now
        self.timings = timings
        self.happenings: list[Happening] = []
        self.standings: dict[Subject, Standing] = {}
        """Of the subjects that changed."""
        self.lost: set[tuple[str, str]] = set()
        """Instances and sessions that they hold no longer, without having said so."""
        self.regained: set[tuple[str, str]] = set()
        """Instances and sessions that they hold."""
        self._before = standings
        self._sessions = {session.session_id: session for session in sessions}
        self._opened: set[str] = set()
        self._changed: set[str] = set()
        self._ids = ids

    def find(self, session_id: str) -> Session | None:
        """Return a session as it is by now."""
        return self._sessions.get(session_id)

    @property
    def opened(self) -> list[Session]:
        """New sessions."""
        return [self._sessions[session_id] for session_id in sorted(self._opened)]

    @property
    def changed(self) -> list[Session]:
        """Sessions that were there before, and changed."""
        changed = sorted(self._changed - self._opened)
        return [self._sessions[session_id] for session_id in changed]

    @property
    def moves(self) -> list[tuple[Subject, bool]]:
        """Subjects who came, True, or went, False."""
        return [
            (subject, after.open_count > 0)
            for subject, after in self.standings.items()
            if (after.open_count > 0) != (self._before.get(subject, NEW).open_count > 0)
        ]

    def open(self, session: Session) -> Session:
        """Add a session, under an id of its own."""
        if self._standing(session).open_count >= domain.OPEN_MAX:
            raise ResourceExhausted(
                "TOO_MANY_SESSIONS", f"{domain.OPEN_MAX} sessions of this subject are open"
            )
        session = replace(session, session_id=next(self._ids), open_time=self.now)
        self._put(session)
        self._opened.add(session.session_id)
        self._happened(session.session_id, session, +1)
        return session

    def change(self, session: Session) -> Session:
        """Take what became of a session; whoever loses its socket by that is told."""
        before = self._sessions[session.session_id]
        if session != before:
            if before.instance_id and before.instance_id != session.instance_id:
                self.lost.add((before.instance_id, before.session_id))
            self._put(session)
            self._changed.add(session.session_id)
        return session

    def release(self, session: Session) -> Session:
        """Take what became of a session whose instance itself says so."""
        holder = self._sessions[session.session_id].instance_id
        self.change(session)
        self.lost.discard((holder, session.session_id))
        return session

    def end(self, session: Session, reason: End) -> Session:
        """End a session that is open; whoever holds its socket is told."""
        return self._ended(self.change(domain.ended(session, reason, self.now)))

    def close(self, session: Session) -> Session:
        """End a session whose instance itself says so."""
        return self._ended(self.release(domain.ended(session, End.CLOSED, self.now)))

    def _ended(self, session: Session) -> Session:
        self._happened(next(self._ids), session, -1)
        return session

    def _put(self, session: Session) -> None:
        self._sessions[session.session_id] = session
        if session.instance_id:
            holder = session.instance_id, session.session_id
            self.lost.discard(holder)
            self.regained.add(holder)

    def _standing(self, session: Session) -> Standing:
        subject = session.tenant_id, session.subject
        return self.standings.get(subject) or self._before.get(subject, NEW)

    def _happened(self, event_id: str, session: Session, step: int) -> None:
        before = self._standing(session)
        after = Standing(before.open_count + step, before.last_sequence + 1)
        assert after.open_count >= 0, "no more sessions end than were opened"
        self.standings[session.tenant_id, session.subject] = after
        self.happenings.append(Happening(event_id, session, after.last_sequence, after.open_count))
