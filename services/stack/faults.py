"""Trades that must be refused, and the reason that each must be given."""

from collections.abc import Sequence
from typing import NamedTuple

from services.stack.day import Trade

DAY_US = 86_400 * 1_000_000


class Fault(NamedTuple):
    """A bad trade: what is wrong with it, and what must be answered."""

    description: str
    reason: str
    trade: Trade
    external_id: str


def faults(good: Trade, external_id: str, other: str, now_us: int) -> Sequence[Fault]:
    """Return bad versions of a good trade; `other` is the external id of a booked one."""
    made = (
        ("quantity zero", "QUANTITY_NOT_POSITIVE", good._replace(quantity="0")),
        ("half a share", "QUANTITY_OFF_LOT", good._replace(quantity="0.5")),
        ("price off tick", "PRICE_OFF_TICK", good._replace(price="10.00005")),
        ("price is a word", "PRICE_NOT_A_NUMBER", good._replace(price="ten")),
        ("price with 9 decimals", "PRICE_TOO_MANY_DECIMALS", good._replace(price="1.000000001")),
        ("neither bought nor sold", "SIDE_MISSING", good._replace(side=0)),
        ("no such account", "ACCOUNT_NOT_FOUND", good._replace(account="NOBODY")),
        ("no such instrument", "INSTRUMENT_NOT_FOUND", good._replace(instrument="NOTHING")),
        ("another currency", "CURRENCY_MISMATCH", good._replace(currency="GBP", fees="")),
        ("a negative fee", "FEES_NEGATIVE", good._replace(fees="-1.00")),
        ("traded tomorrow", "TRADE_TIME_IN_FUTURE", good._replace(time_us=now_us + DAY_US)),
    )
    found = [
        Fault(text, reason, trade, f"{external_id}-{at}")
        for at, (text, reason, trade) in enumerate(made)
    ]
    reused = good._replace(quantity=str(int(good.quantity) + 1))
    return [*found, Fault("external id of another trade", "EXTERNAL_ID_REUSED", reused, other)]
