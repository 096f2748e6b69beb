"""Keeps the local copies of accounts and instruments."""

from collections.abc import Sequence

from interchange.account.v1.account_events_pb2 import AccountChanged
from interchange.instrument.v1.instrument_events_pb2 import InstrumentChanged

from services.common.events import Event
from services.common.work import Work
from services.trade.repository import PostgresTrades

TOPICS = ("account-events", "instrument-events")
MESSAGES = (AccountChanged, InstrumentChanged)


async def on_reference_changed(events: Sequence[Event], *, work: Work[PostgresTrades]) -> None:
    """Store the newest version of each changed account and instrument."""
    accounts = {}
    instruments = {}
    for event in events:
        message = event.message
        if isinstance(message, AccountChanged):
            accounts[event.tenant_id, event.key] = message.account
        elif isinstance(message, InstrumentChanged):
            instruments[event.tenant_id, event.key] = message.instrument
    if accounts:
        tenant_ids = [tenant_id for tenant_id, _ in accounts]
        await work.repository.copy_accounts(tenant_ids, list(accounts.values()))
    if instruments:
        tenant_ids = [tenant_id for tenant_id, _ in instruments]
        await work.repository.copy_instruments(tenant_ids, list(instruments.values()))
