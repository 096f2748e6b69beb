"""Use cases of instances: that they live, and what they hold."""

from collections.abc import Collection, Iterable
from datetime import timedelta

from services.common.work import WorkUnits
from services.session import domain, events
from services.session.domain import Session, Timings
from services.session.repository import Sessions
from services.session.writing import Push, open_register, save

SILENCE = timedelta(seconds=60)
"""How long an instance may leave a session unnamed that it was given."""
DETACHED_MAX = 1_000
"""Sessions that one transaction detaches, at most."""


async def heartbeat(
    tenant_id: str, instance_id: str, *, uow: WorkUnits[Sessions], timings: Timings
) -> list[str]:
    """Let an instance live on; return what it lost.

    One that was dead lives again only when all that it held has ended: until then
    nothing happens, and a later heartbeat tells. Instances and what they lost are of
    no tenant; the transaction has one all the same.
    """
    async with uow.tenant(tenant_id) as work:
        now = await work.repository.now()
        await work.repository.renew(instance_id, now + timings.lease, now - timings.resume)
        return await work.repository.tell_losses(instance_id)


async def detach(
    tenant_id: str,
    instance_id: str,
    ended: Collection[str],
    broken: Collection[str],
    *,
    uow: WorkUnits[Sessions],
    timings: Timings,
    pusher: Push,
) -> int:
    """End sessions, or leave them to be resumed; return how many were the instance's."""
    # Whose they are never changes, so it may be read before those are locked.
    async with uow.reading(tenant_id) as repository:
        sessions = await repository.find(tenant_id, {*ended, *broken})
    mine = [one for one in sessions if one.instance_id == instance_id]
    goodbye = set(ended)
    count = 0
    for at in range(0, len(mine), DETACHED_MAX):
        part = mine[at : at + DETACHED_MAX]
        count += await _release(
            tenant_id, instance_id, part, goodbye, uow=uow, timings=timings, pusher=pusher
        )
    return count


async def _release(
    tenant_id: str,
    instance_id: str,
    sessions: Collection[Session],
    goodbye: Collection[str],
    *,
    uow: WorkUnits[Sessions],
    timings: Timings,
    pusher: Push,
) -> int:
    subjects = sorted({one.subject for one in sessions})
    async with uow.tenant(tenant_id, lock=subjects) as work:
        known = await work.repository.find(tenant_id, [one.session_id for one in sessions])
        keys = [(tenant_id, subject) for subject in subjects]
        register = await open_register(work.repository, known, keys, timings, len(known))
        # One that is over is the sweep's: it must not live again, nor have said goodbye.
        mine = [
            one
            for one in known
            if one.instance_id == instance_id and not one.is_over(register.now, timings)
        ]
        for session in mine:
            if session.session_id in goodbye:
                register.close(session)
            else:
                register.release(domain.broken(session, register.now, timings))
        await save(register, work)
    pusher.push(events.presences(register.moves))
    return len(mine)


async def confirm(
    tenant_id: str,
    instance_id: str,
    session_ids: Iterable[str],
    *,
    uow: WorkUnits[Sessions],
    timings: Timings,
    pusher: Push,
) -> list[str]:
    """Take the sessions that an instance names for all that it holds of a tenant.

    Others that it was given a while ago are left to be resumed. Returns those
    that it names and does not hold.
    """
    named = set(session_ids)
    async with uow.reading(tenant_id) as repository:
        given_before = await repository.now() - SILENCE
        held = await repository.find_held(tenant_id, instance_id)
    forgotten = [
        one.session_id
        for one in held
        if one.session_id not in named and one.held_time and one.held_time <= given_before
    ]
    await detach(tenant_id, instance_id, (), forgotten, uow=uow, timings=timings, pusher=pusher)
    return sorted(named - {one.session_id for one in held})
