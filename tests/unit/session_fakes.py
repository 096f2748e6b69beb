"""Sessions in memory, a clock that stands still and a pusher that remembers."""

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from interchange.gateway.v1 import gateway_pb2

from services.common.events import EventColumns
from services.common.outbox import Outbox
from services.common.work import Work, WorkUnits
from services.session.commands import Attach, Open
from services.session.domain import Kind, Session, Timings
from services.session.register import Standing, Subject
from services.session.repository import Sessions
from services.session.writing import Push

START = datetime(2026, 5, 1, 12, tzinfo=UTC)
TIMINGS = Timings(
    heartbeat_ms=5_000,
    lease=timedelta(seconds=15),
    resume=timedelta(seconds=30),
    keep=timedelta(seconds=60),
)


class FakeSessions(Sessions):
    """Sessions, subjects and instances of all tenants in memory."""

    def __init__(self) -> None:
        self.time = START
        self.sessions: dict[str, Session] = {}
        self.known: dict[Subject, Standing] = {}
        self.leases: dict[str, datetime] = {}
        self.losses: dict[tuple[str, str], int] = {}

    async def now(self) -> datetime:
        return self.time

    async def find(self, tenant_id: str, session_ids: Collection[str]) -> list[Session]:
        return [
            one
            for one in self._all()
            if one.tenant_id == tenant_id and one.session_id in session_ids
        ]

    async def find_held(self, tenant_id: str, instance_id: str) -> list[Session]:
        return [
            one
            for one in self._all()
            if one.tenant_id == tenant_id and one.instance_id == instance_id
        ]

    async def list_open(
        self, tenant_id: str, subject: str, before: str, limit: int
    ) -> list[Session]:
        found = [
            one
            for one in self._all()
            if one.tenant_id == tenant_id
            and one.end is None
            and subject in ("", one.subject)
            and one.session_id < before
        ]
        return sorted(found, key=lambda one: one.session_id, reverse=True)[:limit]

    async def standings(self, subjects: Collection[Subject]) -> dict[Subject, Standing]:
        return {one: self.known[one] for one in subjects if one in self.known}

    async def insert(self, sessions: Sequence[Session]) -> None:
        for session in sessions:
            assert session.session_id not in self.sessions
            self.sessions[session.session_id] = session

    async def update(self, sessions: Sequence[Session]) -> None:
        for session in sessions:
            assert session.session_id in self.sessions
            self.sessions[session.session_id] = session

    async def save_standings(self, standings: dict[Subject, Standing]) -> None:
        self.known |= standings

    async def lease(self, instance_id: str) -> datetime | None:
        return self.leases.get(instance_id)

    async def renew(
        self, instance_id: str, lease_time: datetime, dead_since: datetime
    ) -> datetime | None:
        holds = any(one.instance_id == instance_id for one in self.sessions.values())
        if self.leases.get(instance_id, lease_time) <= dead_since and holds:
            return None
        self.leases[instance_id] = lease_time
        return lease_time

    async def lose(self, holders: Iterable[tuple[str, str]], now: datetime) -> None:
        self.losses |= dict.fromkeys(holders, 0)

    async def regain(self, holders: Iterable[tuple[str, str]]) -> None:
        for holder in holders:
            self.losses.pop(holder, None)

    async def tell_losses(self, instance_id: str) -> list[str]:
        mine = [each for each in self.losses if each[0] == instance_id]
        return [session_id for _, session_id in mine]

    def _all(self) -> list[Session]:
        """Return all sessions, with the leases of who holds them."""
        return [
            replace(one, lease_time=self.leases[one.instance_id]) if one.instance_id else one
            for one in self.sessions.values()
        ]


class FakeUnits(WorkUnits[Sessions]):
    """Units of work over one fake; what a failed one wrote is forgotten."""

    def __init__(self) -> None:
        self.repository = FakeSessions()
        self.events: list[EventColumns] = []
        self.locked: list[Sequence[str]] = []

    @asynccontextmanager
    async def tenant(
        self, tenant_id: str, lock: Sequence[str] = ()
    ) -> AsyncIterator[Work[Sessions]]:
        saved, outbox = deepcopy(vars(self.repository)), Outbox("session", 1)
        self.locked.append(lock)
        try:
            yield Work(self.repository, outbox)
        except BaseException:
            vars(self.repository).update(saved)
            raise
        self.events += outbox.columns

    @asynccontextmanager
    async def reading(self, tenant_id: str) -> AsyncIterator[Sessions]:
        yield self.repository

    def sequences(self, subject: str) -> list[int]:
        """Return the numbers of a subject's events, in the order in which they were added."""
        return [
            sequence
            for columns in self.events
            for key, sequence in zip(columns.keys, columns.sequences, strict=True)
            if key == subject
        ]


class FakePusher(Push):
    """What was told, in its order."""

    def __init__(self) -> None:
        self.moves: list[tuple[str, str, bool]] = []

    def push(self, pushes: Iterable[gateway_pb2.Push]) -> None:
        self.moves += [(one.tenant_id, one.presence.subject, one.presence.online) for one in pushes]


def opening(subject: str = "ann", secret: str = "secret") -> Open:
    return Open(subject, Kind.CUSTOMER, "test", secret)


def attaching(
    subject: str = "ann", instance_id: str = "g-1", session_id: str = "", secret: str = "secret"
) -> Attach:
    return Attach(opening(subject, "fresh"), instance_id, session_id, secret)
