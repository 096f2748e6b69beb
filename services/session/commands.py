"""What is asked of one session, and what comes of it.

Each command decides by itself, on a register whose subjects are locked.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypeAlias

from services.common.errors import Unavailable
from services.session import domain
from services.session.domain import End, Kind, Session
from services.session.register import Register

SECRET_BYTES = 32
Leases: TypeAlias = Mapping[str, datetime]
NO_TIME = datetime.min


def new_secret() -> str:
    """Return a secret that nobody guesses: 256 bits."""
    return secrets.token_urlsafe(SECRET_BYTES)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a session."""

    session: Session
    secret: str = ""
    """What resumes it, for who may know."""
    resumed: bool = False
    """True for one that was there before."""


class Command(Protocol):
    """Something asked of one session of a tenant."""

    @property
    def subject(self) -> str:
        """Whose session it is."""
        ...

    @property
    def session_id(self) -> str:
        """Which session; empty for a new one."""
        ...

    def decide(self, tenant_id: str, register: Register, leases: Leases) -> Outcome:
        """Do it or raise its error; `leases` are of the instances that ask and live."""
        ...


@dataclass(frozen=True, slots=True)
class Open:
    """A new session, without a socket."""

    subject: str
    kind: Kind
    client: str
    secret: str = field(default_factory=new_secret, repr=False)
    session_id: str = ""

    def decide(self, tenant_id: str, register: Register, leases: Leases) -> Outcome:
        """Open it."""
        expire_time = register.now + register.timings.keep
        return Outcome(register.open(self.session(tenant_id, expire_time)), self.secret)

    def session(self, tenant_id: str, expire_time: datetime | None) -> Session:
        """Return the session, which has no id as yet."""
        return Session(
            tenant_id=tenant_id,
            session_id="",
            subject=self.subject,
            kind=self.kind,
            client=self.client,
            secret_hash=domain.hash_of(self.secret),
            open_time=NO_TIME,
            expire_time=expire_time,
        )


@dataclass(frozen=True, slots=True)
class Keep:
    """A sign of life of a session."""

    subject: str
    session_id: str

    def decide(self, tenant_id: str, register: Register, leases: Leases) -> Outcome:
        """Let it live longer."""
        session = domain.owned(register.find(self.session_id), self.subject)
        return Outcome(register.change(domain.kept(session, register.now, register.timings)))


@dataclass(frozen=True, slots=True)
class Resume:
    """A session taken up again, without a socket."""

    subject: str
    session_id: str
    secret: str = field(repr=False)

    def decide(self, tenant_id: str, register: Register, leases: Leases) -> Outcome:
        """Take it up."""
        session = domain.proven(register.find(self.session_id), self.subject, self.secret)
        return Outcome(register.change(domain.taken_up(session, register.now, register.timings)))


@dataclass(frozen=True, slots=True)
class Close:
    """The end of a session; a second time nothing happens."""

    subject: str
    session_id: str

    def decide(self, tenant_id: str, register: Register, leases: Leases) -> Outcome:
        """End it."""
        session = domain.owned(register.find(self.session_id), self.subject)
        return Outcome(session if session.end else register.end(session, End.CLOSED))


@dataclass(frozen=True, slots=True)
class Attach:
    """A socket that an instance holds, and the session to take up for it, if any."""

    new: Open
    instance_id: str
    session_id: str = ""
    secret: str = field(default="", repr=False)

    @property
    def subject(self) -> str:
        """Whose session it is."""
        return self.new.subject

    def decide(self, tenant_id: str, register: Register, leases: Leases) -> Outcome:
        """Take the session up, or open one when there is none or it is over."""
        now = register.now
        lease_time = leases.get(self.instance_id)
        if lease_time is None:
            text = "the instance was dead, and what it held has not ended yet; try again"
            raise Unavailable("INSTANCE_DEAD", text)
        if self.session_id:
            session = domain.proven(register.find(self.session_id), self.subject, self.secret)
            if not session.is_over(now, register.timings):
                taken = domain.taken_up(session, now, register.timings)
                held = domain.held(taken, self.instance_id, lease_time, now)
                return Outcome(register.change(held), self.secret, resumed=True)
        fresh = domain.held(self.new.session(tenant_id, None), self.instance_id, lease_time, now)
        return Outcome(register.open(fresh), self.new.secret)
