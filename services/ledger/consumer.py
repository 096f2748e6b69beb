"""Kafka in: trades and transfers become journals."""

from collections.abc import Sequence

from interchange.account.v1.account_events_pb2 import TransferRecorded
from interchange.trade.v1.trade_events_pb2 import TradeBooked

from services.common.clock import BusinessClock
from services.common.events import Event
from services.common.handling import Handler
from services.common.ids import Uuid7
from services.common.work import Work
from services.ledger import handlers
from services.ledger.repository import Books

TRADES = "trade-events"
TRANSFERS = "account-events"
TOPICS = (TRADES, TRANSFERS)
MESSAGES = (TradeBooked, TransferRecorded)


def posting(clock: BusinessClock, ids: Uuid7) -> Handler[Books]:
    """Return what posts the events of a batch."""

    async def on_booked(events: Sequence[Event], *, work: Work[Books]) -> None:
        await handlers.post_journals(events, work=work, clock=clock, ids=ids)

    return on_booked
