"""Journals out of events, without a database."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from interchange.account.v1.account_events_pb2 import TransferRecorded
from interchange.trade.v1.trade_events_pb2 import TradeBooked
from interchange.trade.v1.trade_pb2 import SIDE_BUY, SIDE_SELL

from native import journal, money
from services.common.events import Event
from services.ledger import bookings, domain, writing
from services.ledger.domain import (
    CURRENCY,
    KIND_TRADE,
    KIND_TRANSFER,
    SECURITY,
    Asset,
    Journals,
    Unpostable,
)

INT64 = st.integers(-(2**63) + 1, 2**63 - 1)


def booked(sequence: int = 1, account: str = "A1", tenant: str = "acme", **changes: Any) -> Event:
    event_id = f"01930000-0000-7000-8000-{sequence:012}"
    fields: dict[str, Any] = {
        "event_id": event_id,
        "trade_id": event_id,
        "account_id": account,
        "instrument_id": "XYZ",
        "side": SIDE_BUY,
        "quantity_micros": 5_000_000,
        "currency": "USD",
        "gross_minor": 700,
        "trade_day": 20_000,
        **changes,
    }
    message = TradeBooked(**fields)
    name = message.DESCRIPTOR.full_name
    return Event(tenant, "trade-events", account, sequence, event_id, name, 2, b"", None, message)


def recorded(sequence: int = 1, account: str = "A1", **changes: Any) -> Event:
    event_id = f"01930000-0000-7000-9000-{sequence:012}"
    fields: dict[str, Any] = {
        "event_id": event_id,
        "account_id": account,
        "asset": "USD",
        "is_cash": True,
        "amount": 300,
        "value_day": 20_001,
        **changes,
    }
    message = TransferRecorded(**fields)
    name = message.DESCRIPTOR.full_name
    return Event("acme", "account-events", account, sequence, event_id, name, 1, b"", None, message)


def legs(journals: Journals) -> list[tuple[int, int, Asset, int, str]]:
    """Return journal, sub-account, asset, amount and instrument of each entry."""
    found = journals.legs
    return [
        (row, sub, journals.assets[asset], amount, journals.assets[instrument].name)
        for row, sub, asset, amount, instrument in zip(
            found.journal.tolist(),
            found.sub_account.tolist(),
            found.asset.tolist(),
            found.amount.tolist(),
            found.instrument.tolist(),
            strict=True,
        )
    ]


def test_sale_delivers_the_security_and_receives_cash() -> None:
    (journals,) = bookings.read([booked(side=SIDE_SELL, fee_minor=9)])

    security, cash = Asset(SECURITY, "XYZ"), Asset(CURRENCY, "USD")
    assert legs(journals) == [
        (0, journal.PENDING, security, -5_000_000, "XYZ"),
        (0, journal.STREET_PENDING, security, 5_000_000, "XYZ"),
        (0, journal.PENDING, cash, 700, "XYZ"),
        (0, journal.STREET_PENDING, cash, -700, "XYZ"),
        (0, journal.PENDING, cash, -9, "XYZ"),
        (0, journal.FEES, cash, 9, "XYZ"),
    ]


def test_transfers_of_cash_name_no_instrument() -> None:
    (journals,) = bookings.read([recorded(), recorded(2, asset="XYZ", is_cash=False, amount=-4)])

    assert legs(journals) == [
        (0, journal.SETTLED, Asset(CURRENCY, "USD"), 300, ""),
        (0, journal.STREET_SETTLED, Asset(CURRENCY, "USD"), -300, ""),
        (1, journal.SETTLED, Asset(SECURITY, "XYZ"), -4, "XYZ"),
        (1, journal.STREET_SETTLED, Asset(SECURITY, "XYZ"), 4, "XYZ"),
    ]


def test_batch_is_split_by_kind_and_keeps_its_order() -> None:
    trades, transfers = bookings.read(
        [recorded(1), booked(1), booked(1, "A2"), recorded(2), booked(2)]
    )

    assert (trades.headers.kind, transfers.headers.kind) == (KIND_TRADE, KIND_TRANSFER)
    assert trades.accounts == [("acme", "A1"), ("acme", "A2")]
    assert trades.headers.account.tolist() == [0, 1, 0]
    assert trades.headers.source_sequence.tolist() == [1, 1, 2]
    assert transfers.headers.source_sequence.tolist() == [1, 2]
    assert transfers.headers.source_ids == transfers.headers.event_ids


def test_accounts_of_one_name_in_two_tenants_are_two() -> None:
    (journals,) = bookings.read([booked(), booked(tenant="other")])

    assert journals.accounts == [("acme", "A1"), ("other", "A1")]


def test_instrument_that_bears_a_currency_name_is_another_asset() -> None:
    (journals,) = bookings.read([booked(instrument_id="USD")])

    assert {asset.kind for _, _, asset, _, _ in legs(journals)} == {CURRENCY, SECURITY}
    assert not journal.unbalanced(
        journals.legs.journal, journals.legs.asset, journals.legs.amount, 1
    ).any()


def test_events_without_journals_post_nothing() -> None:
    assert bookings.read([]) == []


@pytest.mark.parametrize(
    "event",
    [
        booked(side=0),
        booked(quantity_micros=0),
        booked(gross_minor=-1),
        booked(fee_minor=-1),
        booked(currency="XXX"),
        booked(instrument_id=""),
        booked(account_id="A2"),
        recorded(amount=0),
        recorded(amount=-(2**63)),
        recorded(asset="ZZZ"),
    ],
)
def test_what_no_journal_can_hold_is_refused(event: Event) -> None:
    with pytest.raises(Unpostable):
        bookings.read([booked(7), event])


@given(INT64, st.sampled_from([0, 2, 3, 4, 6]))
def test_decimal_text_is_the_kernels(value: int, decimals: int) -> None:
    expected = money.format_decimals(np.array([value], np.int64), decimals)

    assert [domain.decimal_text(value, decimals)] == expected


def test_decimal_text_has_any_size() -> None:
    assert domain.decimal_text(-(10**40) - 10, 2) == "-1" + "0" * 37 + "0.1"


@pytest.mark.parametrize("wrong", ["", "no-uuid", "0" * 36, "z" * 36, "-" * 36])
def test_what_is_no_uuid_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"UUID|hexadecimal"):
        writing.uuid_bytes(["01930000-0000-7000-8000-000000000000", wrong])
