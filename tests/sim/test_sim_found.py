"""What the simulation found, each in its smallest form."""

import asyncio
from collections.abc import Sequence
from uuid import uuid4

import asyncpg
import grpc
import numpy as np
import pytest
from google.type.money_pb2 import Money
from interchange.account.v1.account_events_pb2 import TransferRecorded

from services.common.applier import Applier
from services.common.db import savepoint
from services.common.errors import NotFound
from services.common.event_store import EventStore
from services.common.events import Event, EventColumns, EventTypes
from services.common.handling import TRANSIENT, Handler
from services.common.relay import NEXT
from services.common.translation import translate
from services.common.work import UnitOfWork, Work
from services.trade.commands import Booked
from services.trade.domain import Instruments
from tests.integration.echo import nothing
from tests.sim.house import House
from tests.unit.trade_fakes import Desk, MemoryTrades, order

RECORDED = TransferRecorded.DESCRIPTOR.full_name
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"


class YenTrades(MemoryTrades):
    """All instruments are quoted in yen, which has no cents."""

    async def instruments(self, tenant_id: str, instrument_ids: Sequence[str]) -> Instruments:
        found = await super().instruments(tenant_id, instrument_ids)
        found.currency = ["JPY"] * len(found.currency)
        found.exponent = np.zeros(len(found.currency), np.uint8)
        return found


async def test_fee_is_not_judged_by_the_currency_of_a_neighbour() -> None:
    """Seed 21: the copy of an instrument was late, and its orders were refused for good.

    Their cents were counted in yen, the currency of another order of the batch.
    What is only not found yet is tried again; what is invalid is not.
    """
    desk = Desk()
    desk.units.repository = YenTrades()
    yen = order(request_id="yen", currency="JPY", fees=Money(currency_code="JPY", units=7))
    cents = Money(currency_code="USD", nanos=250_000_000)
    late = order(request_id="late", instrument_id="LATE", fees=cents)

    booked, refused = await desk.book(yen, late)

    assert isinstance(booked, Booked)
    assert isinstance(refused, NotFound)
    assert [violation.field for violation in refused.violations] == ["instrument_id"]


def test_connection_whose_server_died_is_no_fault_of_ours() -> None:
    """Postgres was killed: relays and consumers died of it, and so did their processes.

    The first use of a connection after that is an InternalClientError of asyncpg,
    which is not one of its InterfaceErrors.
    """
    dead = asyncpg.InternalClientError("cannot switch to state 12; another operation")

    assert isinstance(dead, TRANSIENT)
    assert translate(dead).status is grpc.StatusCode.UNAVAILABLE


async def test_events_leave_in_order_when_transaction_ids_grow_a_digit(house: House) -> None:
    """Kafka was killed, and events of the time without it were never published.

    The backlog began at transaction 959 and went beyond 999. Sorted as texts,
    1000 comes before 959: the relay went on from there, and left out what was between.
    """
    await house.empty()
    ids = [9, 10, 99, 100, 101]
    for transaction_id in reversed(ids):
        await house.owner.execute(
            "INSERT INTO trade.outbox (tenant_id, transaction_id, shard, topic, event_ids, types, "
            "versions, keys, sequences, payloads) VALUES ('sim', $1::text::xid8, 0, "
            "'trade-events', '{}', '{}', '{}', '{}', '{}', '{}')",
            str(transaction_id),
        )

    rows = await house.owner.fetch(NEXT.format(service="trade"), 0, "0", 0, 10)

    assert [int(row["transaction_id"]) for row in rows] == ids


async def test_cancelled_work_within_a_savepoint_ends_as_cancelled(house: House) -> None:
    """A consumer that was stopped while it applied an event parked the event as poison.

    The savepoint was released in a transaction that the cancellation had ended, and
    that error took the place of the cancellation.
    """

    async def work() -> None:
        async with house.databases["trade"].pipeline() as connection, savepoint(connection):
            started.set()
            await connection.execute("SELECT pg_sleep(60)")

    started = asyncio.Event()
    task = asyncio.create_task(work())
    await started.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


def recorded(*numbers: int) -> list[Event]:
    """Return events of one account."""
    return [
        Event("sim", "account-events", "ACC", number, str(uuid4()), RECORDED, 1, b"")
        for number in numbers
    ]


def applier(house: House, handler: Handler[None]) -> Applier[None]:
    """Return an instance of a service that asks the event store at once."""
    database, settings = house.databases["position"], house.settings
    units: UnitOfWork[None] = UnitOfWork(database, settings, lambda _: None, [])
    types = EventTypes([TransferRecorded], {}, {})
    return Applier(database, units, types, handler, EventStore(settings), 0)


async def test_what_waited_together_is_applied_together(house: House) -> None:
    """After an hour without Kafka parked events were applied one by one.

    Thousands of them in one transaction, half a minute long: the relays of all
    services stood still behind it.
    """
    await house.empty()
    calls: list[list[int]] = []

    async def handler(events: Sequence[Event], *, work: Work[None]) -> None:
        calls.append([event.sequence for event in events])

    service = applier(house, handler)
    first, *others = recorded(*range(1, 50))

    await service.apply(others, [], nothing)
    await service.apply([first], [], nothing)
    await service.tend()

    assert calls == [[1], list(range(2, 50))]


async def test_first_event_of_a_key_is_applied_by_one_of_two_instances(house: House) -> None:
    """One took it from Kafka, late; the other one had missed it, and fetched it.

    A key without events had no row to lock: both applied the event, and the key's
    number went back.
    """
    await house.empty()
    applied: list[int] = []
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def slow(events: Sequence[Event], *, work: Work[None]) -> None:
        inside.set()
        await go_on.wait()
        applied.extend(event.sequence for event in events)

    async def quick(events: Sequence[Event], *, work: Work[None]) -> None:
        applied.extend(event.sequence for event in events)

    first, second = recorded(1, 2)
    await store(house, [first, second])
    one, other = applier(house, slow), applier(house, quick)
    await other.apply([second], [], nothing)

    late = asyncio.create_task(one.apply([first], [], nothing))
    await inside.wait()
    fetching = asyncio.create_task(other.tend())
    while not fetching.done() and not await house.owner.fetchval(WAITING):
        await asyncio.sleep(0.01)
    go_on.set()
    await asyncio.gather(late, fetching)
    await other.tend()

    assert applied == [1, 2]


async def store(house: House, events: Sequence[Event]) -> None:
    """Put events into the event store."""
    units: UnitOfWork[None] = UnitOfWork(
        house.databases["account"], house.settings, lambda _: None, []
    )
    async with units.tenant("sim") as work:
        columns = EventColumns("sim", "account-events")
        for event in events:
            columns.extend(
                event.type,
                event.version,
                [event.event_id],
                [event.key],
                [event.sequence],
                [event.payload],
            )
        work.outbox.add(columns)
