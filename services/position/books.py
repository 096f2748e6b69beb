"""The books: where positions are kept, and how a batch of fills gets into them."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from services.position import domain
from services.position.domain import Accounts, Folded, Positions
from services.position.fills import AccountId, Fills
from services.position.lots import Flags, Int64s, Lots


class Books(Protocol):
    """The port to the positions; the rebuild and the unit tests keep them in memory."""

    async def lock(
        self, accounts: Sequence[AccountId], methods: Mapping[AccountId, bool]
    ) -> Accounts:
        """Lock accounts until the end of the transaction; open those that are new.

        Raises Unappliable for an account whose cost method is not known, or is
        another than `methods` says.
        """
        ...

    async def positions(self, fills: Fills) -> Positions:
        """Return the state of the positions of locked accounts."""
        ...

    async def lots(self, fills: Fills, fifo: Flags) -> Lots:
        """Return the open lots of the positions whose flag in `fifo` is set."""
        ...

    async def save(
        self, fills: Fills, accounts: Accounts, before: tuple[Positions, Lots], after: Folded
    ) -> None:
        """Write the changes, the positions, the lots and how far the accounts are."""
        ...


async def post(fills: Fills, accounts: Accounts, books: Books) -> Folded:
    """Apply fills to the positions of accounts that are locked; return what they did."""
    before = await books.positions(fills)
    fifo = accounts.fifo[fills.owner]
    lots = await books.lots(fills, fifo) if fifo.any() else Lots.none(len(fills.instruments))
    after = domain.fold(fills, accounts, before, lots)
    await books.save(fills, accounts, (before, lots), after)
    return after


def trade_sequences(fills: Fills, accounts: Accounts) -> Int64s:
    """Return the number of the last applied trade of each account after the batch."""
    last = accounts.trade_sequence.copy()
    trades = fills.transfer == 0
    np.maximum.at(last, fills.account[trades], fills.source_sequence[trades])
    return last
