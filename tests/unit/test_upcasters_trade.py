"""Old events are lifted to the newest version, and what can't be read says so."""

import pytest
from interchange.trade.v1.trade_events_pb2 import TradeBooked

from services.common import upcasters
from services.common.events import Event, EventTypes, Undecodable

TYPE = TradeBooked.DESCRIPTOR.full_name
TYPES = EventTypes([TradeBooked], upcasters.UPCASTERS, upcasters.VERSIONS)


def event(version: int, payload: bytes, type_name: str = TYPE) -> Event:
    return Event("demo", "trade-events", "A1", 1, "id", type_name, version, payload)


def booked(**changes: object) -> bytes:
    values = {"trade_id": "T1", "currency": "USD", "quantity_micros": 1_000_000, **changes}
    return TradeBooked(**values).SerializeToString()


def lifted(version: int = 1, **changes: object) -> TradeBooked:
    found = event(version, booked(**changes))
    TYPES.decode(found)
    assert isinstance(found.message, TradeBooked)
    return found.message


@pytest.mark.parametrize(
    ("currency", "price_e8", "gross_minor"),
    [
        ("USD", 10_00000000, 1000),
        ("USD", 500_000, 0),  # 0.005: half a cent goes to the even 0.00
        ("USD", 1_500_000, 2),  # 0.015 to the even 0.02
        ("USD", 2_500_000, 2),  # 0.025 to the even 0.02
        ("USD", 2_500_001, 3),
        ("JPY", 50_000_000, 0),  # no minor unit: 0.5
        ("JPY", 150_000_000, 2),
        ("KWD", 50_000, 0),  # three decimals: 0.0005
        ("KWD", 150_000, 2),
    ],
)
def test_gross_amount_of_an_old_trade_is_rounded_half_even(
    currency: str, price_e8: int, gross_minor: int
) -> None:
    assert lifted(currency=currency, price_e8=price_e8).gross_minor == gross_minor


def test_everything_else_of_an_old_trade_stays() -> None:
    message = lifted(price_e8=10_00000000)

    message.ClearField("gross_minor")
    assert message == TradeBooked.FromString(booked(price_e8=10_00000000))


def test_newest_version_passes_untouched() -> None:
    assert lifted(2, price_e8=10_00000000, gross_minor=7).gross_minor == 7


@pytest.mark.parametrize("version", [0, -1, 3])
def test_unknown_version_is_undecodable(version: int) -> None:
    with pytest.raises(Undecodable, match=f"was {version}, expected 1..2"):
        TYPES.decode(event(version, booked()))


@pytest.mark.parametrize("currency", ["", "XXQ", "usd"])
def test_old_trade_in_no_currency_is_undecodable(currency: str) -> None:
    with pytest.raises(Undecodable, match="currency of trade T1"):
        lifted(currency=currency, price_e8=1)


def test_old_trade_beyond_the_range_of_money_is_undecodable() -> None:
    with pytest.raises(Undecodable, match="out of range"):
        lifted(quantity_micros=2**62, price_e8=2**62)


@pytest.mark.parametrize("version", [1, 2])
def test_broken_payload_is_undecodable(version: int) -> None:
    with pytest.raises(Undecodable, match="payload is no"):
        TYPES.decode(event(version, b"\xff\xff\xff"))


def test_type_that_nobody_wants_is_left_alone() -> None:
    other = event(99, b"\xff", "interchange.other.v1.Other")

    TYPES.decode(other)

    assert other.message is None


def test_each_step_up_to_the_newest_version_exists() -> None:
    steps = {
        (name, version)
        for name, newest in upcasters.VERSIONS.items()
        for version in range(1, newest)
    }

    assert set(upcasters.UPCASTERS) == steps
