"""Batches of events to journals, column by column."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np
from interchange.account.v1.account_events_pb2 import TransferRecorded
from interchange.trade.v1.trade_events_pb2 import TradeBooked
from interchange.trade.v1.trade_pb2 import SIDE_BUY, SIDE_SELL

from services.common.events import Event
from services.ledger import domain
from services.ledger.domain import (
    CURRENCY,
    KIND_TRADE,
    KIND_TRANSFER,
    NO_ASSET,
    SECURITY,
    Asset,
    Headers,
    Int64s,
    Journals,
    Unpostable,
)

T = TypeVar("T")

SIGNS = {SIDE_BUY: 1, SIDE_SELL: -1}


def read(events: Sequence[Event]) -> list[Journals]:
    """Return the journals that events cause, those of trades and those of transfers.

    Within a kind they keep the order of the events. Raises Unpostable for an
    event that no journal can hold.
    """
    trades = [event for event in events if isinstance(event.message, TradeBooked)]
    transfers = [event for event in events if isinstance(event.message, TransferRecorded)]
    found = []
    if trades:
        found.append(_trades(trades))
    if transfers:
        found.append(_transfers(transfers))
    return found


def _trades(events: Sequence[Event]) -> Journals:
    trades = [event.message for event in events if isinstance(event.message, TradeBooked)]
    try:
        signs = np.array([SIGNS[trade.side] for trade in trades], np.int64)
    except KeyError as error:
        raise Unpostable(f"side of a trade was {error}, expected buy or sell") from None
    quantity = np.array([trade.quantity_micros for trade in trades], np.int64)
    gross = np.array([trade.gross_minor for trade in trades], np.int64)
    # A journal without amounts, or with a sign that contradicts the side, is a fault upstream.
    if quantity.min() <= 0 or gross.min() <= 0:
        raise Unpostable("quantity or gross amount of a trade was not positive")
    assets = _Index[tuple[int, str]]([NO_ASSET])
    security = assets.of((SECURITY, trade.instrument_id) for trade in trades)
    cash = assets.of((CURRENCY, trade.currency) for trade in trades)
    columns = domain.Trades(
        security,
        cash,
        signs * quantity,
        signs * gross,
        np.array([trade.fee_minor for trade in trades], np.int64),
    )
    return _journals(
        KIND_TRADE,
        events,
        [trade.account_id for trade in trades],
        [trade.event_id for trade in trades],
        [trade.trade_id for trade in trades],
        [trade.trade_day for trade in trades],
        _assets(assets),
        domain.trade_legs(columns),
    )


def _transfers(events: Sequence[Event]) -> Journals:
    transfers = [event.message for event in events if isinstance(event.message, TransferRecorded)]
    amount = np.array([transfer.amount for transfer in transfers], np.int64)
    if not amount.all():
        raise Unpostable("amount of a transfer was 0")
    assets = _Index[tuple[int, str]]([NO_ASSET])
    asset = assets.of(
        (CURRENCY if transfer.is_cash else SECURITY, transfer.asset) for transfer in transfers
    )
    is_cash = np.array([transfer.is_cash for transfer in transfers], np.uint8)
    event_ids = [transfer.event_id for transfer in transfers]
    return _journals(
        KIND_TRANSFER,
        events,
        [transfer.account_id for transfer in transfers],
        event_ids,
        # A transfer has no other name than the event that recorded it.
        event_ids,
        [transfer.value_day for transfer in transfers],
        _assets(assets),
        domain.transfer_legs(domain.Transfers(asset, amount, is_cash)),
    )


def _journals(
    kind: int,
    events: Sequence[Event],
    account_ids: list[str],
    event_ids: list[str],
    source_ids: list[str],
    days: list[int],
    assets: list[Asset],
    legs: domain.Legs,
) -> Journals:
    if account_ids != [event.key for event in events]:
        raise Unpostable("account of an event differs from its key")
    accounts = _Index[tuple[str, str]]()
    account = accounts.of((event.tenant_id, event.key) for event in events)
    headers = Headers(
        kind,
        account,
        event_ids,
        source_ids,
        np.array([event.sequence for event in events], np.int64),
        np.array(days, np.int32),
    )
    return Journals(list(accounts), assets, headers, legs)


class _Index(dict[T, int]):
    """Numbers values in the order in which they are first seen."""

    def __init__(self, values: Iterable[T] = ()) -> None:
        super().__init__((value, number) for number, value in enumerate(values))

    def of(self, values: Iterable[T]) -> Int64s:
        """Return the numbers of values."""
        return np.array([self.setdefault(value, len(self)) for value in values], np.int64)


def _assets(index: "_Index[tuple[int, str]]") -> list[Asset]:
    """Return the assets, each of which has a name and a scale."""
    assets = [Asset(*value) for value in index]
    for asset in assets[1:]:
        domain.scale(asset)
        if not asset.name:
            raise Unpostable("an event names no instrument")
    return assets
