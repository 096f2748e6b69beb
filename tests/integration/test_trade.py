"""Booking on real Postgres: keys, sequences, tenants, events."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import pytest
from google.type.decimal_pb2 import Decimal
from interchange.account.v1.account_pb2 import ACCOUNT_STATUS_OPEN, Account
from interchange.instrument.v1.instrument_pb2 import INSTRUMENT_STATUS_ACTIVE, Instrument
from interchange.trade.v1.trade_events_pb2 import TradeBooked
from interchange.trade.v1.trade_service_pb2 import CreateTradeRequest

from services.common.clock import SystemClock
from services.common.db import Database
from services.common.errors import AlreadyExists, InvalidArgument, NotFound
from services.common.event_store import EventStore
from services.common.ids import Uuid7
from services.common.work import UnitOfWork
from services.stack.stack import Stack
from services.trade import handlers
from services.trade.booking import Outcome
from services.trade.commands import Booked, columns
from services.trade.repository import PostgresTrades, TradeFilter
from tests.integration.echo import service_settings
from tests.unit.trade_fakes import NoReferences, order


class Desk:
    """The trade service's handlers on a real database, for one fresh tenant."""

    def __init__(self, database: Database, units: UnitOfWork[PostgresTrades], store: EventStore):
        self.database = database
        self.units = units
        self.store = store
        self.ids = Uuid7()
        self.tenant = f"t-{uuid4().hex[:12]}"

    async def stock(self, tenant: str) -> None:
        async with self.database.pipeline() as connection:
            repository = PostgresTrades(connection)
            names = [f"ACC{n}" for n in range(1, 6)]
            await repository.copy_accounts(
                [tenant] * 5,
                [Account(account_id=n, status=ACCOUNT_STATUS_OPEN, version=1) for n in names],
            )
            instrument = Instrument(
                instrument_id="AIG",
                status=INSTRUMENT_STATUS_ACTIVE,
                currency="USD",
                lot_size=Decimal(value="1"),
                tick_size=Decimal(value="0.01"),
                mic="XNYS",
                version=1,
            )
            await repository.copy_instruments([tenant], [instrument])

    async def book(self, *requests: CreateTradeRequest) -> list[Outcome]:
        prepared = handlers.prepare(columns(requests), ["ann"] * len(requests), SystemClock())
        return await handlers.create_trades(
            self.tenant, prepared, uow=self.units, ids=self.ids, references=NoReferences()
        )

    async def events(self, account_id: str = "ACC1") -> list[TradeBooked]:
        found = await self.store.read((self.tenant, "trade-events", account_id), 1, 10**6)
        assert [event.sequence for event in found] == list(range(1, len(found) + 1))
        return [TradeBooked.FromString(event.payload) for event in found]

    async def count(self) -> int:
        async with self.units.reading(self.tenant) as repository:
            wanted = TradeFilter(None, None, None)
            return len(await repository.list(self.tenant, wanted, None, 100_000))


@pytest.fixture(scope="module")
async def database(servers: Stack) -> AsyncIterator[Database]:
    await asyncio.to_thread(servers.migrate, ["trade"])
    database = await Database.open(_settings(servers), "trade")
    yield database
    await database.close()


def _settings(servers: Stack):  # type: ignore[no-untyped-def]
    url = servers.database_url("nobody").rpartition("@")[2]
    return service_settings(servers, database_url=f"postgresql://{url}")


@pytest.fixture
async def desk(database: Database, servers: Stack) -> Desk:
    settings = _settings(servers)
    units = UnitOfWork(database, settings, PostgresTrades, [])
    desk = Desk(database, units, EventStore(settings))
    await desk.stock(desk.tenant)
    return desk


async def test_trade_and_its_event_are_committed_together(desk: Desk) -> None:
    [booked] = await desk.book(order())

    assert isinstance(booked, Booked)
    [event] = await desk.events()
    assert event.trade_id == booked.row.trade_id
    async with desk.units.reading(desk.tenant) as repository:
        stored = await repository.trades(desk.tenant, [booked.row.trade_id])
    assert stored == {booked.row.trade_id: booked.row}


async def test_fifty_callers_with_one_key_book_once(desk: Desk) -> None:
    outcomes = await asyncio.gather(*(desk.book(order()) for _ in range(50)))

    ids = {outcome.row.trade_id for [outcome] in outcomes if isinstance(outcome, Booked)}
    assert len(ids) == 1
    assert sum(not outcome.repeated for [outcome] in outcomes if isinstance(outcome, Booked)) == 1
    assert await desk.count() == 1
    assert len(await desk.events()) == 1


async def test_one_key_raced_for_different_accounts_books_once(desk: Desk) -> None:
    """Different accounts share no lock: only the key's own uniqueness decides."""
    outcomes = await asyncio.gather(
        *(desk.book(order(account_id=f"ACC{1 + n % 5}")) for n in range(25))
    )

    booked = [o for [o] in outcomes if isinstance(o, Booked)]
    refused = [o for [o] in outcomes if isinstance(o, AlreadyExists)]
    assert len({outcome.row.trade_id for outcome in booked}) == 1
    assert len(booked) + len(refused) == 25
    assert await desk.count() == 1


async def test_bad_trade_in_a_thousand_leaves_999(desk: Desk) -> None:
    outcomes = await desk.book(
        *(
            order(request_id=f"r{n}", account_id=f"ACC{1 + n % 5}", price="x" if n == 7 else "10")
            for n in range(1000)
        )
    )

    assert sum(isinstance(outcome, Booked) for outcome in outcomes) == 999
    assert isinstance(outcomes[7], InvalidArgument)
    assert await desk.count() == 999


async def test_accounts_written_by_many_at_once_have_no_gaps(desk: Desk) -> None:
    await asyncio.gather(
        *(
            desk.book(
                *(
                    order(request_id=f"w{writer}-{n}", account_id=f"ACC{1 + (n + writer) % 5}")
                    for n in range(20)
                )
            )
            for writer in range(10)
        )
    )

    assert await desk.count() == 200
    total = 0
    for account in range(1, 6):
        total += len(await desk.events(f"ACC{account}"))
    assert total == 200


async def test_pages_are_stable_while_trades_are_booked(desk: Desk) -> None:
    await desk.book(*(order(request_id=f"r{n}") for n in range(20)))
    async with desk.units.reading(desk.tenant) as repository:
        wanted = TradeFilter("ACC1", None, None)
        first = await repository.list(desk.tenant, wanted, None, 12)
    await desk.book(*(order(request_id=f"s{n}") for n in range(20)))
    async with desk.units.reading(desk.tenant) as repository:
        rest = await repository.list(desk.tenant, wanted, first[-1].trade_id, 100)

    assert [row.sequence for row in [*first, *rest]] == list(range(20, 0, -1))


async def test_tenants_cannot_see_each_others_trades_even_in_sql(desk: Desk) -> None:
    [booked] = await desk.book(order())
    assert isinstance(booked, Booked)
    mine, desk.tenant = desk.tenant, "stranger"

    with pytest.raises(NotFound):
        await handlers.get_trade("stranger", booked.row.trade_id, uow=desk.units)
    tables = ("trades", "accounts", "instruments", "request_keys", "external_keys")
    async with desk.database.tenant("stranger") as connection:
        for table in tables:
            assert await connection.fetchval(f"SELECT count(*) FROM trade.{table}") == 0
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(
                "INSERT INTO trade.request_keys VALUES ($1, 'k', '\\x00', $2, now())",
                mine,
                booked.row.trade_id,
            )


async def test_partitions_cannot_be_read_around_the_policies(desk: Desk) -> None:
    await desk.book(order())

    async with desk.database.pipeline() as connection:
        partitions = await connection.fetch(
            "SELECT inhrelid::regclass::text AS name FROM pg_inherits "
            "JOIN pg_class ON pg_class.oid = inhrelid WHERE relkind = 'r' "
            "AND inhparent::regclass::text LIKE 'trade.%'"
        )
    assert len(partitions) > 20
    for partition in partitions:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with desk.database.tenant("stranger") as connection:
                await connection.fetch(f"SELECT * FROM {partition['name']}")


async def test_without_a_tenant_there_is_nothing(desk: Desk) -> None:
    await desk.book(order())

    async with desk.database._api.acquire() as connection:
        assert await connection.fetchval("SELECT count(*) FROM trade.trades") == 0
