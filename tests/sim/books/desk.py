"""The callers' side: the real handlers of trade and account, without gRPC."""

from collections.abc import Sequence

from google.type.decimal_pb2 import Decimal
from interchange.account.v1 import account_pb2
from interchange.account.v1.account_service_pb2 import (
    CreateAccountRequest,
    CreateTransferRequest,
)
from interchange.instrument.v1.instrument_events_pb2 import InstrumentChanged
from interchange.instrument.v1.instrument_pb2 import Instrument
from interchange.trade.v1.trade_service_pb2 import CreateTradeRequest

from services.account import commands
from services.account import handlers as account_handlers
from services.account import transfer_handlers as transfers
from services.account.repository import Accounts, PostgresAccounts
from services.common.clock import ManualClock
from services.common.events import EventColumns
from services.common.ids import Uuid7
from services.common.work import UnitOfWork, Work
from services.trade import handlers as trades
from services.trade.booking import Outcome
from services.trade.commands import columns
from services.trade.references import References
from services.trade.repository import PostgresTrades, TradeRepository
from tests.sim.house import House

TENANT = "sim"


class NoReferences(References):
    """Copies come when the simulation delivers them: there is nothing to wait for."""

    async def appear(
        self, tenant_id: str, accounts: Sequence[str], instruments: Sequence[str]
    ) -> bool:
        return False


class Desk:
    """Takes commands as the servicers do."""

    def __init__(self, house: House, clock: ManualClock, ids: Uuid7) -> None:
        self.clock = clock
        self._ids = ids
        settings, databases = house.settings, house.databases
        self._trades: UnitOfWork[TradeRepository] = UnitOfWork(
            databases["trade"], settings, PostgresTrades, []
        )
        self._accounts: UnitOfWork[Accounts] = UnitOfWork(
            databases["account"], settings, PostgresAccounts, []
        )
        self._instruments = UnitOfWork(databases["instrument"], settings, lambda _: None, [])

    async def book(self, requests: Sequence[CreateTradeRequest]) -> list[Outcome]:
        """Book trades in one transaction."""
        # The columns take parts of the requests away.
        copies = [CreateTradeRequest.FromString(r.SerializeToString()) for r in requests]
        prepared = trades.prepare(columns(copies), ["sim"] * len(copies), self.clock)
        return await trades.create_trades(
            TENANT, prepared, uow=self._trades, ids=self._ids, references=NoReferences()
        )

    async def transfer(self, requests: Sequence[CreateTransferRequest]) -> list[transfers.Outcome]:
        """Record transfers in one transaction."""
        batch = [commands.create_transfer(request) for request in requests]
        return await transfers.create_transfers(TENANT, batch, uow=self._accounts, clock=self.clock)

    async def open_accounts(self, fifo: dict[str, bool]) -> None:
        """Create accounts with their cost methods."""
        batch = [
            commands.create_account(
                CreateAccountRequest(
                    account=account_pb2.Account(
                        account_id=name,
                        base_currency="USD",
                        cost_method=account_pb2.COST_METHOD_FIFO
                        if by_lots
                        else account_pb2.COST_METHOD_AVERAGE,
                    ),
                    request_id=f"open-{name}",
                )
            )
            for name, by_lots in fifo.items()
        ]
        outcomes = await account_handlers.create_accounts(
            TENANT, batch, uow=self._accounts, clock=self.clock
        )
        assert all(isinstance(one, account_pb2.Account) for one in outcomes), outcomes

    async def change_instrument(self, instrument: Instrument) -> None:
        """Announce a version of an instrument; its own service is not simulated."""
        async with self._instruments.tenant(TENANT) as work:
            announce(work, self._ids.batch(1, self.clock.now_us())[0], instrument)


def announce(work: Work[None], event_id: str, instrument: Instrument) -> None:
    """Add the event of a change to its transaction."""
    columns_of_events = EventColumns(TENANT, "instrument-events")
    columns_of_events.extend(
        InstrumentChanged.DESCRIPTOR.full_name,
        1,
        [event_id],
        [instrument.instrument_id],
        [instrument.version],
        [InstrumentChanged(instrument=instrument).SerializeToString()],
    )
    work.outbox.add(columns_of_events)


def decimal(text: str) -> Decimal:
    """Return a decimal number as a message."""
    return Decimal(value=text)
