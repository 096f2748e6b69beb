"""Use cases of positions, one transaction each."""

from collections.abc import Sequence

from services.common.clock import BusinessClock
from services.common.events import Event
from services.common.work import Work
from services.position import books, events, fills
from services.position.books import Books


async def apply_fills(batch: Sequence[Event], *, work: Work[Books], clock: BusinessClock) -> None:
    """Apply the trades and transfers of a batch, and tell which positions changed.

    An event counts for each position that its fills touched together, numbered
    per account. Raises Unappliable for what no position can take.
    """
    read = fills.read(batch)
    keys = list(dict.fromkeys([*read.fills.accounts, *read.methods]))
    accounts = await work.repository.lock(keys, read.methods)
    if not len(read.fills):
        return
    # Accounts of the fills come first: their indexes hold for both.
    touched = accounts.first(len(read.fills.accounts))
    after = await books.post(read.fills, touched, work.repository)
    for columns in events.position_changed(read.fills, touched, after, clock.now_us()):
        work.outbox.add(columns)
