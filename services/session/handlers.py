"""Use cases of sessions: a batch of one tenant's commands is one transaction.

Each command has its own outcome, so one that is refused fails nobody else.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import TypeAlias

from services.common import pagination
from services.common.errors import InterchangeError
from services.common.work import WorkUnits
from services.session import domain, events
from services.session.commands import Attach, Command, Outcome
from services.session.domain import Session, Timings
from services.session.register import Register
from services.session.repository import Sessions
from services.session.writing import Push, open_register, save

PAGE_SIZE_MAX = 500
NEWEST = "ffffffff-ffff-ffff-ffff-ffffffffffff"

Result: TypeAlias = Outcome | InterchangeError


async def settle(
    tenant_id: str,
    commands: Sequence[Command],
    *,
    uow: WorkUnits[Sessions],
    timings: Timings,
    pusher: Push,
) -> list[Result]:
    """Do what is asked of sessions; each outcome is the session or why it was refused."""
    if not commands:
        return []
    subjects = sorted({one.subject for one in commands})
    named = {one.session_id for one in commands if one.session_id}
    async with uow.tenant(tenant_id, lock=subjects) as work:
        sessions = await work.repository.find(tenant_id, named)
        keys = [(tenant_id, subject) for subject in subjects]
        register = await open_register(work.repository, sessions, keys, timings, len(commands))
        leases = await _leases(commands, register, work.repository)
        outcomes = [_decided(one, tenant_id, register, leases) for one in commands]
        await save(register, work)
    pusher.push(events.presences(register.moves))
    return outcomes


async def _leases(
    commands: Sequence[Command], register: Register, repository: Sessions
) -> dict[str, datetime]:
    """Return until when the instances live that ask, those that are not dead."""
    now, timings = register.now, register.timings
    leases = {}
    for instance_id in sorted({one.instance_id for one in commands if isinstance(one, Attach)}):
        lease_time = await repository.lease(instance_id)
        # One that lives is only read: written by each, all would wait for each other.
        if lease_time is None or lease_time <= now:
            renewed = now + timings.lease
            lease_time = await repository.renew(instance_id, renewed, now - timings.resume)
        if lease_time is not None:
            leases[instance_id] = lease_time
    return leases


def _decided(
    command: Command, tenant_id: str, register: Register, leases: dict[str, datetime]
) -> Result:
    try:
        return command.decide(tenant_id, register, leases)
    except InterchangeError as error:
        return error


async def list_sessions(
    tenant_id: str, subject: str, size: int, page_token: str, *, uow: WorkUnits[Sessions]
) -> tuple[list[Session], str]:
    """Return a page of open sessions, newest first, and the token of the next."""
    filters = {"list": "sessions", "tenant": tenant_id, "subject": subject}
    size = pagination.page_size(size, max=PAGE_SIZE_MAX)
    last = pagination.keyset(page_token, filters, str)
    before = NEWEST if last is None else pagination.uuid(last[0])
    if subject and not domain.is_name(subject):
        return [], ""
    async with uow.reading(tenant_id) as repository:
        rows = await repository.list_open(tenant_id, subject, before, size + 1)
    page = rows[:size]
    more = len(rows) > size
    return page, pagination.page_token([page[-1].session_id], filters) if more else ""


async def list_presence(
    tenant_id: str, subjects: Collection[str], *, uow: WorkUnits[Sessions]
) -> list[str]:
    """Return those of the subjects who are there, in the order of their names."""
    keys = [(tenant_id, subject) for subject in sorted(set(subjects)) if domain.is_name(subject)]
    async with uow.reading(tenant_id) as repository:
        standings = await repository.standings(keys)
    return [key[1] for key in keys if key in standings and standings[key].open_count]
