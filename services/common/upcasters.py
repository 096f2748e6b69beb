"""One step per version of an event: old events are lifted when they are read.

The store keeps what was written; nothing is ever rewritten.
"""

from collections.abc import Mapping

import numpy as np
from google.protobuf.message import Message
from interchange.trade.v1.trade_events_pb2 import TradeBooked

from native import money
from services.common import currencies
from services.common.events import Undecodable, Upcaster

VERSIONS: Mapping[str, int] = {TradeBooked.DESCRIPTOR.full_name: 2}
"""Newest version of each event; 1 where it is not named."""


def trade_booked_1_to_2(message: Message) -> None:
    """Compute gross_minor, which version 1 left to its readers."""
    assert isinstance(message, TradeBooked)
    exponent = currencies.exponent(message.currency)
    if exponent is None:
        raise Undecodable(f"currency of trade {message.trade_id} is {message.currency!r}")
    amount, status = money.notional(
        np.array([message.quantity_micros], np.int64),
        np.array([message.price_e8], np.int64),
        np.array([exponent], np.uint8),
    )
    if status[0] != money.OK:
        raise Undecodable(f"gross amount of trade {message.trade_id} is out of range")
    message.gross_minor = int(amount[0])


UPCASTERS: Mapping[tuple[str, int], Upcaster] = {
    (TradeBooked.DESCRIPTOR.full_name, 1): trade_booked_1_to_2,
}
