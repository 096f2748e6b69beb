"""What a session is: how it opens, lives, is taken up again and ends.

A session that an instance holds lives by the lease of that instance, and some
time longer, in which its client may come back. Any other lives until its own
time. Times come in as arguments: they are the database's.
"""

import hashlib
import hmac
import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from services.common.errors import FailedPrecondition, InvalidArgument, NotFound

CLIENT_LENGTH_MAX = 100
OPEN_MAX = 1_000
"""Open sessions of one subject, at most."""

_NAME = re.compile(r"[!-~]{1,128}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Kind(StrEnum):
    """Whose a session is."""

    CUSTOMER = "CUSTOMER"
    AGENT = "AGENT"


class End(StrEnum):
    """Why a session ended."""

    CLOSED = "CLOSED"
    EXPIRED = "EXPIRED"
    VANISHED = "VANISHED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """How long what lives without another sign."""

    heartbeat_ms: int
    """How often an instance says that it lives."""
    lease: timedelta
    """An instance."""
    resume: timedelta
    """A session whose socket broke."""
    keep: timedelta
    """A session without a socket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A session as it is stored."""

    tenant_id: str
    session_id: str
    subject: str
    kind: Kind
    client: str
    secret_hash: bytes
    open_time: datetime
    instance_id: str = ""
    """Holder of its socket; empty without one."""
    held_time: datetime | None = None
    """Since when the instance holds it."""
    expire_time: datetime | None = None
    """Until when it lives; None while an instance holds it."""
    lease_time: datetime | None = None
    """Until when that instance lives."""
    resume_count: int = 0
    end_time: datetime | None = None
    end: End | None = None

    def lives_until(self, timings: Timings) -> datetime:
        """Return when it ends without another sign."""
        if self.expire_time is not None:
            return self.expire_time
        assert self.lease_time is not None, "an instance that holds a session has a lease"
        return self.lease_time + timings.resume

    def is_over(self, now: datetime, timings: Timings) -> bool:
        """Tell whether it has ended, or nobody has got round to end it yet."""
        return self.end is not None or self.lives_until(timings) <= now


def hash_of(secret: str) -> bytes:
    """Return what is stored of a secret: it is random, so one hash is enough."""
    return hashlib.sha256(secret.encode()).digest()


def owned(session: Session | None, subject: str) -> Session:
    """Return a session of a subject; somebody else's is told as one that isn't there."""
    if session is None or session.subject != subject:
        raise NotFound("SESSION_NOT_FOUND", "there is no such session")
    return session


def proven(session: Session | None, subject: str, secret: str) -> Session:
    """Return a session of a subject who knows its secret; a wrong one finds nothing."""
    session = owned(session, subject)
    if not hmac.compare_digest(session.secret_hash, hash_of(secret)):
        raise NotFound("SESSION_NOT_FOUND", "there is no such session")
    return session


def refuse_over(session: Session, now: datetime, timings: Timings) -> None:
    """Raise FailedPrecondition for a session that is over."""
    if session.is_over(now, timings):
        raise FailedPrecondition(
            "SESSION_EXPIRED",
            "the session has ended; open another",
            metadata={"session_id": session.session_id},
        )


def kept(session: Session, now: datetime, timings: Timings) -> Session:
    """Return a session whose client says that it lives.

    Nothing changes while a living instance holds it. Its client took it over from
    one that is gone.
    """
    refuse_over(session, now, timings)
    if session.lease_time is not None and session.lease_time > now:
        return session
    return _without_socket(session, now + timings.keep)


def taken_up(session: Session, now: datetime, timings: Timings) -> Session:
    """Return a session that its client took up again, without a socket."""
    refuse_over(session, now, timings)
    resumed = replace(session, resume_count=session.resume_count + 1)
    return _without_socket(resumed, now + timings.keep)


def held(session: Session, instance_id: str, lease_time: datetime, now: datetime) -> Session:
    """Return a session whose socket an instance holds."""
    return replace(
        session,
        instance_id=instance_id,
        held_time=now,
        lease_time=lease_time,
        expire_time=None,
    )


def broken(session: Session, now: datetime, timings: Timings) -> Session:
    """Return a session whose socket broke: its client may come back for a while."""
    return _without_socket(session, now + timings.resume)


def ended(session: Session, end: End, now: datetime) -> Session:
    """Return a session that ended."""
    return replace(_without_socket(session, now), end_time=now, end=end)


def end_of(session: Session) -> End:
    """Return why a session ends of which nothing was heard in time."""
    return End.VANISHED if session.instance_id else End.EXPIRED


def check_client(client: str) -> None:
    """Raise InvalidArgument for a name of a client that is too long, or no text."""
    if len(client) > CLIENT_LENGTH_MAX or _CONTROL.search(client):
        expected = f"expected at most {CLIENT_LENGTH_MAX} characters, none a control character"
        raise InvalidArgument.of("client", "INVALID_CLIENT", expected)


def is_name(text: str) -> bool:
    """Tell whether it can be the name of a caller, or of an instance."""
    return _NAME.fullmatch(text) is not None


def _without_socket(session: Session, expire_time: datetime) -> Session:
    return replace(
        session, instance_id="", held_time=None, lease_time=None, expire_time=expire_time
    )
