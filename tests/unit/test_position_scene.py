"""Events for tests of positions, and books in memory."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from uuid import UUID

import numpy as np
from interchange.account.v1.account_events_pb2 import AccountChanged, TransferRecorded
from interchange.account.v1.account_pb2 import COST_METHOD_AVERAGE, COST_METHOD_FIFO, Account
from interchange.trade.v1.trade_events_pb2 import TradeBooked
from interchange.trade.v1.trade_pb2 import SIDE_BUY, SIDE_SELL

from services.common import upcasters
from services.common.clock import ManualClock
from services.common.events import Event, EventColumns, EventTypes
from services.common.outbox import Outbox
from services.common.work import Work
from services.position import consumer, copied, encoding, handlers
from services.position.books import Books, trade_sequences
from services.position.domain import Accounts, Folded, Positions, Unappliable
from services.position.fills import TRADES, TRANSFERS, AccountId, Fills
from services.position.lots import Flags, Lots

MICROS = 1_000_000
RECORDED_US = 1_767_225_600_000_000
START = datetime(2026, 1, 1, tzinfo=UTC)
TYPES = EventTypes(consumer.MESSAGES, upcasters.UPCASTERS, upcasters.VERSIONS)


class Feed:
    """Makes the events of accounts, numbered as their services number them."""

    def __init__(self, fifo: frozenset[str] = frozenset()) -> None:
        self.fifo = fifo
        self._last: dict[tuple[str, str, str], int] = {}
        self._made = 0

    def trade(
        self,
        quantity: int,
        gross: int,
        account: str = "A",
        instrument: str = "XYZ",
        *,
        tenant: str = "demo",
        currency: str = "USD",
    ) -> Event:
        """Buy (+) or sell (-) units for an amount in minor units."""
        message = TradeBooked(
            account_id=account,
            instrument_id=instrument,
            side=SIDE_BUY if quantity > 0 else SIDE_SELL,
            quantity_micros=abs(quantity) * MICROS,
            currency=currency,
            gross_minor=abs(gross),
            fifo=account in self.fifo,
        )
        return self._event(tenant, TRADES, account, message)

    def account(self, account: str = "A", *, tenant: str = "demo") -> Event:
        """Create an account."""
        method = COST_METHOD_FIFO if account in self.fifo else COST_METHOD_AVERAGE
        message = AccountChanged(account=Account(account_id=account, cost_method=method))
        return self._event(tenant, TRANSFERS, account, message)

    def transfer(
        self,
        quantity: int,
        cost: int = 0,
        account: str = "A",
        instrument: str = "XYZ",
        *,
        tenant: str = "demo",
        currency: str = "",
        is_cash: bool = False,
    ) -> Event:
        """Deposit (+) or withdraw (-) units at a cost in minor units."""
        message = TransferRecorded(
            account_id=account,
            asset=instrument,
            is_cash=is_cash,
            amount=quantity * MICROS,
            cost_currency=currency,
            cost_minor=cost,
        )
        return self._event(tenant, TRANSFERS, account, message)

    def _event(
        self,
        tenant: str,
        topic: str,
        account: str,
        message: TradeBooked | TransferRecorded | AccountChanged,
    ) -> Event:
        self._made += 1
        key = (tenant, topic, account)
        self._last[key] = self._last.get(key, 0) + 1
        if not isinstance(message, AccountChanged):
            message.recorded_us = RECORDED_US + self._made
        return Event(
            tenant,
            topic,
            account,
            self._last[key],
            str(UUID(int=self._made)),
            message.DESCRIPTOR.full_name,
            upcasters.VERSIONS.get(message.DESCRIPTOR.full_name, 1),
            message.SerializeToString(),
        )


class MemoryBooks(Books):
    """The books of tests: what Postgres would hold, in dicts."""

    def __init__(self) -> None:
        self.accounts: dict[AccountId, tuple[bool, int, int, int]] = {}
        self.held: dict[tuple[str, str, str], tuple[str, int, int, int, int]] = {}
        self.open: dict[tuple[str, str, str], list[tuple[int, int, int]]] = {}
        self.changes: list[copied.Row] = []

    async def lock(
        self, accounts: Sequence[AccountId], methods: Mapping[AccountId, bool]
    ) -> Accounts:
        for key in accounts:
            if key not in self.accounts:
                if key not in methods:
                    raise Unappliable(f"cost method of account {key[1]} is not known")
                self.accounts[key] = (methods[key], 0, 0, 0)
        rows = [self.accounts[key] for key in accounts]
        return Accounts(
            np.array([row[0] for row in rows], np.bool_),
            *(np.array([row[at] for row in rows], np.int64) for at in (1, 2, 3)),
        )

    async def positions(self, fills: Fills) -> Positions:
        rows = [self.held.get(key, ("", 0, 0, 0, 0)) for key in _keys(fills)]
        return Positions(
            [row[0] for row in rows],
            *(np.array([row[at] for row in rows], np.int64) for at in (1, 2, 3, 4)),
        )

    async def lots(self, fills: Fills, fifo: Flags) -> Lots:
        wanted = zip(_keys(fills), fifo, strict=True)
        lots = [self.open.get(key, []) if flag else [] for key, flag in wanted]
        offsets = np.concatenate([[0], np.cumsum([len(one) for one in lots])]).astype(np.int64)
        flat = [lot for one in lots for lot in one]
        return Lots(offsets, *(np.array([lot[at] for lot in flat], np.int64) for at in range(3)))

    async def save(
        self, fills: Fills, accounts: Accounts, before: tuple[Positions, Lots], after: Folded
    ) -> None:
        self.changes += copied.rows(encoding.changes(fills, after))
        state, lots = after.positions, after.lots
        for at, key in enumerate(_keys(fills)):
            numbers = (state.quantity, state.cost, state.realized, state.version)
            self.held[key] = (state.currency[at], *(int(column[at]) for column in numbers))  # type: ignore[assignment]
            rows = range(lots.offsets[at], lots.offsets[at + 1])
            self.open[key] = [
                (int(lots.quantity[row]), int(lots.cost[row]), int(lots.opened[row]))
                for row in rows
            ]
        trades = trade_sequences(fills, accounts)
        for at, account in enumerate(fills.accounts):
            fifo, sequence, events, _ = self.accounts[account]
            sequence += int((fills.account == at).sum())
            events += int((fills.owner == at).sum())
            self.accounts[account] = (fifo, sequence, events, int(trades[at]))


async def apply(books: MemoryBooks, events: Sequence[Event]) -> list[EventColumns]:
    """Apply a batch; return the events that it causes."""
    for event in events:
        TYPES.decode(event)
    work: Work[Books] = Work(books, Outbox("position", 1))
    await handlers.apply_fills(events, work=work, clock=ManualClock(START))
    return list(work.outbox.columns)


def _keys(fills: Fills) -> list[tuple[str, str, str]]:
    return [
        (*fills.accounts[owner], instrument)
        for owner, instrument in zip(fills.owner, fills.instruments, strict=True)
    ]
