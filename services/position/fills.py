"""Fills as columns, out of a batch of events: trades, and securities that were moved."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from interchange.account.v1.account_events_pb2 import AccountChanged, TransferRecorded
from interchange.account.v1.account_pb2 import COST_METHOD_FIFO
from interchange.trade.v1.trade_events_pb2 import TradeBooked
from interchange.trade.v1.trade_pb2 import SIDE_BUY, SIDE_SELL

from services.common.events import Event
from services.position.domain import Unappliable
from services.position.lots import Int64s, UInt8s

AccountId: TypeAlias = tuple[str, str]
"""Tenant and account."""

TRADES = "trade-events"
TRANSFERS = "account-events"
TOPICS = (TRADES, TRANSFERS)

SIGNS = {SIDE_BUY: 1, SIDE_SELL: -1}


@dataclass(frozen=True, slots=True)
class Fills:
    """Fills of k accounts and m positions in the order in which they are applied."""

    accounts: list[AccountId]
    instruments: list[str]
    """Of each position."""
    owner: Int64s
    """Index of the account of each position."""
    account: Int64s
    """Index of the account of each fill."""
    position: Int64s
    """Index of the position of each fill."""
    quantity: Int64s
    amount: Int64s
    transfer: UInt8s
    """1 for a transfer; the index of the topic in TOPICS too."""
    currency: list[str]
    source_sequence: Int64s
    event_ids: list[str]
    recorded_us: Int64s

    def __len__(self) -> int:
        return len(self.event_ids)

    def describe(self, index: int) -> str:
        """Name the event of a fill."""
        tenant_id, account_id = self.accounts[self.account[index]]
        return (
            f"event {self.source_sequence[index]} of {TOPICS[self.transfer[index]]} "
            f"of {tenant_id}:{account_id}"
        )

    @classmethod
    def of(cls, rows: "FillRows") -> "Fills":
        """Number the accounts and positions of n fills in the order of their first fill."""
        accounts: dict[AccountId, int] = {}
        account = [
            accounts.setdefault(key, len(accounts))
            for key in zip(rows.tenant, rows.account, strict=True)
        ]
        positions: dict[tuple[int, str], int] = {}
        position = [
            positions.setdefault(key, len(positions))
            for key in zip(account, rows.instrument, strict=True)
        ]
        return cls(
            list(accounts),
            [instrument for _, instrument in positions],
            np.array([owner for owner, _ in positions], np.int64),
            np.array(account, np.int64),
            np.array(position, np.int64),
            np.array(rows.quantity, np.int64),
            np.array(rows.amount, np.int64),
            np.array(rows.transfer, np.uint8),
            list(rows.currency),
            np.array(rows.source_sequence, np.int64),
            list(rows.event_id),
            np.array(rows.recorded_us, np.int64),
        )


class FillRows(NamedTuple):
    """The columns of n fills as lists, before they are numbered."""

    tenant: Sequence[str]
    account: Sequence[str]
    instrument: Sequence[str]
    quantity: Sequence[int]
    amount: Sequence[int]
    transfer: Sequence[int]
    currency: Sequence[str]
    source_sequence: Sequence[int]
    event_id: Sequence[str]
    recorded_us: Sequence[int]


@dataclass(frozen=True, slots=True)
class Batch:
    """What a batch of events says: its fills, and the cost method of its accounts."""

    fills: Fills
    methods: dict[AccountId, bool]
    """True for first in, first out."""


def read(events: Sequence[Event]) -> Batch:
    """Return what events say; raise Unappliable when they contradict each other.

    Trades and transfers keep the order of the batch: it is the order in which
    they are applied.
    """
    trades = [event for event in events if isinstance(event.message, TradeBooked)]
    rows, methods = _trade_rows(trades), _trade_methods(trades)
    if len(trades) == len(events):
        return Batch(Fills.of(rows), methods)
    transfers = []
    for event in events:
        if isinstance(event.message, AccountChanged):
            fifo = event.message.account.cost_method == COST_METHOD_FIFO
            _learn(methods, (event.tenant_id, event.key), fifo)
        elif isinstance(event.message, TransferRecorded) and not event.message.is_cash:
            transfers.append(event)
    place = {id(event): at for at, event in enumerate(events)}
    order = np.argsort([place[id(event)] for event in (*trades, *transfers)]).tolist()
    both = zip(rows, _transfer_rows(transfers), strict=True)
    merged = ([*first, *second] for first, second in both)
    return Batch(Fills.of(FillRows(*([column[at] for at in order] for column in merged))), methods)


def _trade_rows(events: list[Event]) -> FillRows:
    trades = [e.message for e in events if isinstance(e.message, TradeBooked)]
    try:
        signs = [SIGNS[trade.side] for trade in trades]
    except KeyError as error:
        raise Unappliable(f"side of a trade was {error}, expected buy or sell") from None
    return FillRows(
        [event.tenant_id for event in events],
        [event.key for event in events],
        [trade.instrument_id for trade in trades],
        [sign * trade.quantity_micros for sign, trade in zip(signs, trades, strict=True)],
        [sign * trade.gross_minor for sign, trade in zip(signs, trades, strict=True)],
        [0] * len(trades),
        [trade.currency for trade in trades],
        [event.sequence for event in events],
        [event.event_id for event in events],
        [trade.recorded_us for trade in trades],
    )


def _transfer_rows(events: list[Event]) -> FillRows:
    transfers = [e.message for e in events if isinstance(e.message, TransferRecorded)]
    return FillRows(
        [event.tenant_id for event in events],
        [event.key for event in events],
        [transfer.asset for transfer in transfers],
        [transfer.amount for transfer in transfers],
        [transfer.cost_minor for transfer in transfers],
        [1] * len(transfers),
        [transfer.cost_currency for transfer in transfers],
        [event.sequence for event in events],
        [event.event_id for event in events],
        [transfer.recorded_us for transfer in transfers],
    )


def _trade_methods(trades: list[Event]) -> dict[AccountId, bool]:
    named = {
        (event.tenant_id, event.key, event.message.fifo)
        for event in trades
        if isinstance(event.message, TradeBooked)
    }
    methods: dict[AccountId, bool] = {}
    for tenant_id, account_id, fifo in named:
        _learn(methods, (tenant_id, account_id), fifo)
    return methods


def _learn(methods: dict[AccountId, bool], key: AccountId, fifo: bool) -> None:
    if methods.setdefault(key, fifo) != fifo:
        raise Unappliable(f"events of {key[0]}:{key[1]} name two cost methods")
