"""Use cases of the ledger, one transaction each."""

from collections.abc import Sequence
from typing import TypeAlias

from services.common.clock import BusinessClock
from services.common.errors import NotFound
from services.common.events import Event
from services.common.ids import Uuid7
from services.common.work import Work, WorkUnits
from services.ledger import bookings, events
from services.ledger.repository import Books
from services.ledger.rows import JournalRow

Units: TypeAlias = WorkUnits[Books]


async def post_journals(
    batch: Sequence[Event], *, work: Work[Books], clock: BusinessClock, ids: Uuid7
) -> None:
    """Post one journal for each event of a batch, and tell each account.

    The database checks the journals and adds them to the balances. Raises
    Unpostable for an event that no journal can hold, and what Postgres says of a
    journal that exists or of a balance that would overflow.
    """
    posted = bookings.read(batch)
    now_us = clock.now_us()
    notices = [notice for journals in posted for notice in events.notices(journals)]
    if not notices:
        return
    # The account's lock comes first, so that balances are never waited for.
    last = await work.repository.number([notice.account for notice in notices])
    for journals in posted:
        await work.repository.post(journals, now_us)
    for columns in events.journals_posted(notices, last, ids.batch(len(notices), now_us)):
        work.outbox.add(columns)


async def get_journal(tenant_id: str, journal_id: str, *, uow: Units) -> JournalRow:
    """Return a journal with its entries; raises NotFound."""
    async with uow.reading(tenant_id) as repository:
        found = await repository.journal(tenant_id, journal_id)
    if found is None:
        raise NotFound("JOURNAL_NOT_FOUND", f"there is no journal {journal_id}")
    return found
