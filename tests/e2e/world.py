"""A tenant with something of everything, made through the door, and how it is seen whole."""

import asyncio
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import asyncpg
from google.protobuf.message import Message
from google.type.decimal_pb2 import Decimal
from google.type.money_pb2 import Money
from interchange.account.v1.account_pb2 import (
    TRANSFER_DIRECTION_DEPOSIT,
    Account,
    SecurityAmount,
    Transfer,
)
from interchange.account.v1.account_service_pb2 import CreateAccountRequest, CreateTransferRequest
from interchange.instrument.v1.instrument_pb2 import ASSET_CLASS_EQUITY, Instrument
from interchange.instrument.v1.instrument_service_pb2 import CreateInstrumentRequest
from interchange.ledger.v1.ledger_service_pb2 import GetLedgerWatermarkRequest, ListEntriesRequest
from interchange.position.v1.position_service_pb2 import GetPositionWatermarkRequest
from interchange.trade.v1.trade_pb2 import SIDE_BUY
from interchange.trade.v1.trade_service_pb2 import WAIT_FOR_POSTED, CreateTradeRequest

from tests.e2e import talk_world
from tests.e2e.door import Caller, Door

SYSTEM = ("pg_catalog", "information_schema", "pg_toast")
PLAIN = frozenset(
    {
        *("account-events", "trade-events", "default", "billing", "nobody-has-it"),
        *("wished_skills", "response_time", "idle_time", "preference"),
        *("OFFLINE", "NO_CAPACITY", "MISSING_SKILL", "EXCLUDED"),
    }
)
"""Words of answers that are everybody's."""
TELLING_LENGTH = 6
"""Shorter texts, such as USD or 100, could be anybody's."""

Rows: TypeAlias = dict[str, tuple[int, str]]
"""Count and hash of a tenant's rows by table."""


@dataclass
class World:
    """What a tenant has, as far as it was made here."""

    caller: Caller
    mark: str
    """In every name and text of this tenant, and in nothing else."""
    instruments: list[str] = field(default_factory=list)
    accounts: list[str] = field(default_factory=list)
    trades: list[Any] = field(default_factory=list)
    transfers: list[Any] = field(default_factory=list)
    journals: list[str] = field(default_factory=list)
    agents: list[str] = field(default_factory=list)
    bots: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    conversations: list[str] = field(default_factory=list)
    """One that the bot answers, one that an agent answers, one that waits."""
    offers: list[str] = field(default_factory=list)
    sessions: list[tuple[str, str]] = field(default_factory=list)
    """Ids and secrets."""
    rows: Rows = field(default_factory=dict)
    """What the tables hold of it, as long as nothing changes."""

    @property
    def tenant(self) -> str:
        return self.caller.tenant

    async def add_instrument(self, name: str, request_id: str = "", **changes: Any) -> Any:
        """Create an instrument of lot 1 and tick 0.01, in dollars."""
        instrument = Instrument(
            instrument_id=name,
            symbol=name[:16],
            name=f"Holdings of {self.mark}",
            asset_class=ASSET_CLASS_EQUITY,
            isin="US0378331005",
            mic="XNAS",
            currency="USD",
            lot_size=Decimal(value="1"),
            tick_size=Decimal(value="0.01"),
        )
        instrument.MergeFrom(Instrument(**changes))
        request = CreateInstrumentRequest(instrument=instrument, request_id=request_id)
        self.instruments.append(name)
        return await self.caller.call("CreateInstrument", request)

    async def add_account(self, name: str, request_id: str = "") -> Any:
        """Create an account in dollars."""
        account = Account(
            account_id=name, display_name=f"Account of {self.mark}", base_currency="USD"
        )
        request = CreateAccountRequest(account=account, request_id=request_id)
        self.accounts.append(name)
        return await self.caller.call("CreateAccount", request)

    async def deposit(self, account: str, request_id: str, **asset: Any) -> Any:
        """Deposit `cash` or a `security`."""
        transfer = Transfer(
            direction=TRANSFER_DIRECTION_DEPOSIT,
            description=f"Deposit of {self.mark}",
            **asset,
        )
        request = CreateTransferRequest(
            account_id=account, transfer=transfer, request_id=request_id
        )
        self.transfers.append(await self.caller.call("CreateTransfer", request))
        return self.transfers[-1]

    async def buy(self, account: str, instrument: str, request_id: str, **changes: Any) -> Any:
        """Buy, and wait until position and ledger hold it."""
        request = trade_request(account, instrument, request_id, wait_for=WAIT_FOR_POSTED)
        request.MergeFrom(CreateTradeRequest(**changes))
        self.trades.append(await self.caller.call("CreateTrade", request))
        return self.trades[-1]

    async def posted(self) -> None:
        """Wait until position and ledger hold every trade and transfer."""
        for account in self.accounts:
            marks = {
                "min_sequence": _last(self.trades, account),
                "min_transfer_sequence": _last(self.transfers, account),
                "account_id": account,
            }
            await self.caller.call("GetPositionWatermark", GetPositionWatermarkRequest(**marks))
            await self.caller.call("GetLedgerWatermark", GetLedgerWatermarkRequest(**marks))


def trade_request(
    account: str, instrument: str, request_id: str, **changes: Any
) -> CreateTradeRequest:
    """Return the request of a good trade: 10 at 101.25 dollars, fee 1."""
    request = CreateTradeRequest(
        request_id=request_id,
        account_id=account,
        instrument_id=instrument,
        side=SIDE_BUY,
        quantity=Decimal(value="10"),
        price=Decimal(value="101.25"),
        currency="USD",
        fees=Money(currency_code="USD", units=1),
    )
    request.MergeFrom(CreateTradeRequest(**changes))
    return request


def _last(things: list[Any], account: str) -> int:
    return max((one.sequence for one in things if one.account_id == account), default=0)


async def full(door: Door) -> World:
    """Make a tenant that has at least two of everything that is listed."""
    mark = f"Q{uuid.uuid4().hex[:8].upper()}"
    world = World(door.caller(subject=f"clerk-{mark}"), mark)
    for number in (1, 2):
        await world.add_instrument(f"{mark}-{number}", f"{mark}-i{number}")
        await world.add_account(f"{mark}.{number}", f"{mark}-a{number}")
    for account in world.accounts:
        await world.deposit(account, f"{mark}-c{account}", cash=dollars(765_432))
        bonds = SecurityAmount(
            instrument_id=world.instruments[1],
            quantity=Decimal(value="7351"),
            cost=dollars(81_237),
        )
        await world.deposit(account, f"{mark}-s{account}", security=bonds)
    keys = iter(range(100))
    trades = [
        world.buy(
            account,
            instrument,
            f"{mark}-t{number}",
            quantity=Decimal(value="7919"),
            external_source=f"{mark}-oms",
            external_id=f"{mark}-x{number}",
        )
        for account in world.accounts
        for instrument in world.instruments
        for number in (next(keys), next(keys))
    ]
    await asyncio.gather(*trades)
    await world.posted()
    for account in world.accounts:
        entries = await world.caller.call("ListEntries", ListEntriesRequest(account_id=account))
        world.journals += sorted({entry.journal_id for entry in entries.entries})
    await talk_world.add(world)
    return world


async def namesake(door: Door, of: World) -> World:
    """Make a tenant that gave its own things the names that another tenant gave."""
    mark = f"N{uuid.uuid4().hex[:8].upper()}"
    world = World(door.caller(), mark)
    await asyncio.gather(
        *(
            world.add_instrument(name, symbol=f"{mark}{number}", isin="US5949181045")
            for number, name in enumerate(of.instruments)
        ),
        *(world.add_account(name) for name in of.accounts),
        *(talk_world.create_agent(world, name) for name in of.agents),
        *(talk_world.put_bot(world, name, name) for name in of.bots),
    )
    return world


def dollars(units: int) -> Money:
    return Money(currency_code="USD", units=units)


def texts(message: Message) -> Iterator[str]:
    """Yield every text in a message, however deep."""
    for descriptor, value in message.ListFields():
        many = value if descriptor.is_repeated else (value,)
        for one in many:
            if isinstance(one, Message):
                yield from texts(one)
            elif isinstance(one, bytes):
                yield one.decode(errors="replace")
            elif isinstance(one, str):
                yield one


def telling(message: Message) -> set[str]:
    """Return the texts of a message that tell whose it is."""
    return {text for text in texts(message) if len(text) >= TELLING_LENGTH} - PLAIN


async def tables(database: asyncpg.Connection, *, with_tenant: bool) -> list[str]:
    """Return all tables of all schemas, by whether they hold a tenant_id; no partitions."""
    rows = await database.fetch(
        """
        SELECT format('%I.%I', n.nspname, c.relname) AS name
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname <> ALL ($1)
          AND $2 = EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid
                           AND a.attname = 'tenant_id' AND NOT a.attisdropped)
        ORDER BY name
        """,
        list(SYSTEM),
        with_tenant,
    )
    return [row["name"] for row in rows]


async def rows_of(database: asyncpg.Connection, tenant: str) -> Rows:
    """Return count and hash of a tenant's rows in every table."""
    names = await tables(database, with_tenant=True)
    parts = [
        f"SELECT '{name}' AS name, count(*) AS count, "
        f"coalesce(md5(string_agg(t::text, ';' ORDER BY t::text)), '') AS hash "
        f"FROM {name} AS t WHERE tenant_id = $1"
        for name in names
    ]
    rows = await database.fetch(" UNION ALL ".join(parts), tenant)
    return {row["name"]: (row["count"], row["hash"]) for row in rows}
