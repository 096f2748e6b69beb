"""What the use cases and the sweep share: a register of locked subjects, filled and saved."""

from collections.abc import Collection, Iterable
from typing import Protocol

from interchange.gateway.v1 import gateway_pb2

from services.common import ids
from services.common.work import Work
from services.session import events
from services.session.domain import Session, Timings
from services.session.register import Register, Subject
from services.session.repository import Sessions


class Push(Protocol):
    """Tells news at once, and loses them where nobody listens; see common/push.py."""

    def push(self, pushes: Iterable[gateway_pb2.Push]) -> None:
        """Tell them; call after the commit."""
        ...


async def open_register(
    repository: Sessions,
    sessions: Collection[Session],
    subjects: Collection[Subject],
    timings: Timings,
    count: int,
) -> Register:
    """Return the register of `subjects`, all locked, in which `count` things may happen."""
    now = await repository.now()
    standings = await repository.standings(subjects)
    # Of a socket that is to resume an ended session, one happening: the new one.
    made = ids.uuid7_batch(count, events.microseconds(now))
    return Register(now, timings, sessions, standings, iter(made))


async def save(register: Register, work: Work[Sessions]) -> None:
    """Write what changed, and its events."""
    repository = work.repository
    await repository.insert(register.opened)
    await repository.update(register.changed)
    await repository.save_standings(register.standings)
    await repository.regain(register.regained)
    await repository.lose(register.lost, register.now)
    for columns in events.columns(register):
        work.outbox.add(columns)
