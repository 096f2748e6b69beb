"""Kafka in: trades and transfers in batches, in the order in which they came."""

from collections.abc import Sequence

from interchange.account.v1.account_events_pb2 import AccountChanged, TransferRecorded
from interchange.trade.v1.trade_events_pb2 import TradeBooked

from services.common.clock import BusinessClock
from services.common.events import Event
from services.common.handling import Handler
from services.common.work import Work
from services.position import handlers
from services.position.books import Books

MESSAGES = (TradeBooked, TransferRecorded, AccountChanged)
"""What positions follow; a change of an account tells its cost method."""


def on_events(clock: BusinessClock) -> Handler[Books]:
    """Return the handler of trade-events and account-events, which go together.

    A batch that holds both is one transaction: the order of its events is the
    order in which they are applied, and is stored.
    """

    async def apply(events: Sequence[Event], *, work: Work[Books]) -> None:
        await handlers.apply_fills(events, work=work, clock=clock)

    return apply
