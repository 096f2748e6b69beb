"""The instrument service on real Postgres and Kafka, called over gRPC."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import asyncpg
import grpc
import pytest
from confluent_kafka import Consumer
from google.protobuf.field_mask_pb2 import FieldMask
from google.rpc import error_details_pb2, status_pb2
from google.type.decimal_pb2 import Decimal
from interchange.instrument.v1 import instrument_service_pb2 as pb
from interchange.instrument.v1.instrument_events_pb2 import InstrumentChanged
from interchange.instrument.v1.instrument_pb2 import (
    ASSET_CLASS_EQUITY,
    INSTRUMENT_STATUS_ACTIVE,
    INSTRUMENT_STATUS_HALTED,
    Instrument,
)
from interchange.instrument.v1.instrument_service_pb2_grpc import InstrumentServiceStub

from services.common import kafka, requests
from services.common.config import Settings
from services.common.db import Database
from services.common.host import Host
from services.instrument import seed
from services.instrument.__main__ import wire
from services.stack.stack import Stack


@dataclass
class Caller:
    """A tenant of its own that calls the service."""

    stub: Any
    tenant: str

    async def __call__(self, rpc: str, request: Any) -> Any:
        headers = (
            ("x-interchange-tenant", self.tenant),
            ("x-interchange-subject", "ann"),
            ("x-interchange-roles", "operations"),
        )
        return await getattr(self.stub, rpc)(request, metadata=headers, timeout=20)


@pytest.fixture(scope="module")
def settings(servers: Stack) -> Settings:
    servers.migrate(["instrument"])
    servers.create_topics()
    return Settings(
        listen="127.0.0.1:0",
        database_url=f"postgresql://{servers.postgres.address}/interchange",
        database_password=servers.database_password(),
        kafka_bootstrap=servers.kafka_bootstrap,
        drain_notice_ms=0,
    )


@pytest.fixture(scope="module")
async def stub(settings: Settings) -> AsyncIterator[Any]:
    host = Host(settings)
    await wire(host)
    await host.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{host.port}") as channel:
        yield InstrumentServiceStub(channel)
    await host.leave()


@pytest.fixture
def call(stub: Any) -> Caller:
    return Caller(stub, f"t{uuid4().hex[:12]}")


@pytest.fixture
async def api(servers: Stack, settings: Settings) -> AsyncIterator[Any]:
    """A connection as the role that serves requests."""
    connection = await asyncpg.connect(servers.database_url("instrument_api"))
    yield connection
    await connection.close()


def ibm(**changes: Any) -> Instrument:
    values: dict[str, Any] = {
        "instrument_id": "IBM",
        "symbol": "IBM",
        "name": "Intl Business Machines",
        "asset_class": ASSET_CLASS_EQUITY,
        "isin": "US4592001014",
        "mic": "XNYS",
        "currency": "USD",
        "lot_size": Decimal(value="1"),
        "tick_size": Decimal(value="0.0001"),
    }
    return Instrument(**(values | changes))


async def create(call: Caller, request_id: str = "", **changes: Any) -> Instrument:
    request = pb.CreateInstrumentRequest(instrument=ibm(**changes), request_id=request_id)
    created: Instrument = await call("CreateInstrument", request)
    return created


async def refused(calling: Awaitable[Any]) -> tuple[str, str, list[str]]:
    """Return code, reason and the fields of the error of a call."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await calling
    metadata = dict(caught.value.trailing_metadata() or ())
    status = status_pb2.Status.FromString(metadata["grpc-status-details-bin"])  # type: ignore[arg-type]
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    status.details[0].Unpack(info)
    if len(status.details) > 1:
        status.details[1].Unpack(bad)
    fields = [violation.field for violation in bad.field_violations]
    return caught.value.code().name, info.reason, fields


async def test_created_instrument_is_returned_read_and_listed(call: Caller) -> None:
    created = await create(call)

    assert created.status == INSTRUMENT_STATUS_ACTIVE
    assert created.version == 1
    assert created.tick_size.value == "0.0001"
    assert await call("GetInstrument", pb.GetInstrumentRequest(instrument_id="IBM")) == created
    listed = await call("ListInstruments", pb.ListInstrumentsRequest())
    assert list(listed.instruments) == [created]
    assert listed.next_page_token == ""


async def test_seed_is_created_once_however_often_it_is_sent(call: Caller) -> None:
    first = [await call("CreateInstrument", request) for request in seed.requests()]
    again = [await call("CreateInstrument", request) for request in seed.requests()]

    assert first == again
    listed = await call("ListInstruments", pb.ListInstrumentsRequest())
    assert len(listed.instruments) == 20


async def test_pages_hold_every_instrument_once_in_order(call: Caller) -> None:
    for number in range(7):
        await create(call, instrument_id=f"I-{number}", symbol=f"S{number}")
    await call("HaltInstrument", pb.HaltInstrumentRequest(instrument_id="I-3"))

    found, token = [], ""
    while True:
        page = await call(
            "ListInstruments", pb.ListInstrumentsRequest(page_size=3, page_token=token)
        )
        found += [one.instrument_id for one in page.instruments]
        if not (token := page.next_page_token):
            break
    halted = await call(
        "ListInstruments", pb.ListInstrumentsRequest(status=INSTRUMENT_STATUS_HALTED)
    )

    assert found == [f"I-{number}" for number in range(7)]
    assert [one.instrument_id for one in halted.instruments] == ["I-3"]


async def test_page_token_of_another_list_is_refused(call: Caller) -> None:
    for number in range(2):
        await create(call, instrument_id=f"I-{number}", symbol=f"S{number}")
    page = await call("ListInstruments", pb.ListInstrumentsRequest(page_size=1))

    request = pb.ListInstrumentsRequest(
        status=INSTRUMENT_STATUS_HALTED, page_token=page.next_page_token
    )
    assert (await refused(call("ListInstruments", request)))[1] == "INVALID_PAGE_TOKEN"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("ib", ["IBM"]),
        ("us45", ["INTC", "IBM"]),
        ("459200101", ["IBM"]),
        ("bbg000blnnh6", ["IBM"]),
        ("c", ["C", "CSCO", "BAC", "IBM", "INTC"]),
        ("Bank of A", ["BAC"]),
        ("america", ["BAC"]),
        ("merica", []),
        ("a%", []),
        ("_", []),
    ],
)
async def test_search_finds_prefixes_of_symbol_identifier_and_word(
    call: Caller, query: str, expected: list[str]
) -> None:
    wanted = {"IBM", "INTC", "BAC", "C", "CSCO"}
    for request in seed.requests():
        if request.instrument.instrument_id in wanted:
            await call("CreateInstrument", request)

    found = await call("SearchInstruments", pb.SearchInstrumentsRequest(query=query))

    assert [one.instrument_id for one in found.instruments] == expected


async def test_short_prefix_returns_no_more_than_asked_for(call: Caller) -> None:
    for number in range(12):
        await create(call, instrument_id=f"I-{number}", symbol=f"ZZ{number:02}")

    found = await call("SearchInstruments", pb.SearchInstrumentsRequest(query="z", page_size=5))

    assert [one.symbol for one in found.instruments] == ["ZZ00", "ZZ01", "ZZ02", "ZZ03", "ZZ04"]


async def test_search_reads_the_index_under_the_policy(call: Caller, api: Any) -> None:
    await create(call)
    async with api.transaction():
        await api.execute(f"SET LOCAL app.tenant_id = '{call.tenant}'")
        await api.execute("SET LOCAL enable_seqscan = off")
        plan = await api.fetch(
            "EXPLAIN SELECT * FROM instrument.search_terms "
            "WHERE tenant_id = $1 AND rank = 0 AND term >= $2 AND term < $3",
            call.tenant,
            "ib",
            "ib\U0010ffff",
        )
    text = "\n".join(row[0] for row in plan)
    condition = next(line for line in text.splitlines() if "Index Cond" in line)
    assert "term >=" in condition
    assert "term <" in condition


async def test_update_changes_the_named_fields_only(call: Caller) -> None:
    await create(call)
    request = pb.UpdateInstrumentRequest(
        instrument_id="IBM",
        instrument=Instrument(name="Big Blue", tick_size=Decimal(value="0.01"), symbol="X"),
        update_mask=FieldMask(paths=["name", "tick_size"]),
        expected_version=1,
    )

    updated = await call("UpdateInstrument", request)

    assert (updated.name, updated.tick_size.value, updated.symbol) == ("Big Blue", "0.01", "IBM")
    assert updated.version == 2
    assert (await refused(call("UpdateInstrument", request)))[:2] == ("ABORTED", "VERSION_MISMATCH")
    found = await call("SearchInstruments", pb.SearchInstrumentsRequest(query="blue"))
    assert [one.instrument_id for one in found.instruments] == ["IBM"]
    gone = await call("SearchInstruments", pb.SearchInstrumentsRequest(query="machines"))
    assert not gone.instruments


async def test_symbol_of_a_market_belongs_to_one_instrument(call: Caller) -> None:
    await create(call)
    await create(call, instrument_id="IBM-2", symbol="IBM2")
    taken = ("ALREADY_EXISTS", "SYMBOL_TAKEN", ["instrument.symbol"])

    assert await refused(create(call, instrument_id="IBM-3")) == taken
    request = pb.UpdateInstrumentRequest(
        instrument_id="IBM-2",
        instrument=Instrument(symbol="IBM"),
        update_mask=FieldMask(paths=["symbol"]),
    )
    assert await refused(call("UpdateInstrument", request)) == taken
    assert (await refused(create(call)))[1] == "INSTRUMENT_EXISTS"


async def test_halting_twice_and_resuming_make_one_version_each(call: Caller) -> None:
    await create(call)
    halt = pb.HaltInstrumentRequest(instrument_id="IBM")

    versions = [(await call("HaltInstrument", halt)).version for _ in range(2)]
    resumed = await call("ResumeInstrument", pb.ResumeInstrumentRequest(instrument_id="IBM"))

    assert versions == [2, 2]
    assert (resumed.status, resumed.version) == (INSTRUMENT_STATUS_ACTIVE, 3)


async def test_request_id_returns_the_first_answer_and_refuses_another_body(call: Caller) -> None:
    first = await create(call, "key-1")
    await call("HaltInstrument", pb.HaltInstrumentRequest(instrument_id="IBM"))

    assert await create(call, "key-1") == first
    expected = ("ALREADY_EXISTS", "IDEMPOTENCY_KEY_REUSED", ["request_id"])
    assert await refused(create(call, "key-1", name="other")) == expected


async def test_concurrent_repeats_are_one_instrument_with_one_answer(call: Caller) -> None:
    answers = await asyncio.gather(*(create(call, "key-1") for _ in range(10)))

    assert all(answer == answers[0] for answer in answers)


async def test_concurrent_uses_of_a_key_for_two_bodies_leave_one(call: Caller) -> None:
    """Two ids take two locks, so only the key itself can decide."""
    outcomes = await asyncio.gather(
        *(
            create(call, "key-1", instrument_id=f"I-{number}", symbol=f"S{number}")
            for number in range(6)
        ),
        return_exceptions=True,
    )

    assert sum(isinstance(one, Instrument) for one in outcomes) == 1
    listed = await call("ListInstruments", pb.ListInstrumentsRequest())
    assert len(listed.instruments) == 1


async def test_concurrent_updates_make_versions_without_gaps(call: Caller) -> None:
    await create(call)

    async def rename(number: int) -> int:
        request = pb.UpdateInstrumentRequest(
            instrument_id="IBM",
            instrument=Instrument(name=f"Name {number}"),
            update_mask=FieldMask(paths=["name"]),
        )
        return int((await call("UpdateInstrument", request)).version)

    versions = await asyncio.gather(*(rename(number) for number in range(10)))

    assert sorted(versions) == list(range(2, 12))


async def test_other_tenant_sees_nothing(call: Caller, stub: Any) -> None:
    await create(call)
    other = Caller(stub, f"t{uuid4().hex[:12]}")

    get = pb.GetInstrumentRequest(instrument_id="IBM")
    assert (await refused(other("GetInstrument", get)))[:2] == ("NOT_FOUND", "INSTRUMENT_NOT_FOUND")
    assert not (await other("ListInstruments", pb.ListInstrumentsRequest())).instruments
    assert not (
        await other("SearchInstruments", pb.SearchInstrumentsRequest(query="i"))
    ).instruments
    assert (await create(other)).version == 1


async def test_id_that_postgres_cannot_hold_names_nothing(call: Caller) -> None:
    get = pb.GetInstrumentRequest(instrument_id="I\x00")
    search = pb.SearchInstrumentsRequest(query="\x00")

    assert (await refused(call("GetInstrument", get)))[0] == "NOT_FOUND"
    assert (await refused(call("SearchInstruments", search)))[1] == "INVALID_QUERY"


@pytest.mark.parametrize("table", ["instruments", "search_terms", "request_keys"])
async def test_role_of_requests_sees_no_row_without_its_tenant(
    call: Caller, api: Any, table: str
) -> None:
    await create(call, "key-1")

    async def visible(tenant: str) -> int:
        async with api.transaction():
            await api.execute("SELECT set_config('app.tenant_id', $1, true)", tenant)
            return int(await api.fetchval(f"SELECT count(*) FROM instrument.{table}"))

    assert await api.fetchval(f"SELECT count(*) FROM instrument.{table}") == 0
    assert await visible("nobody") == 0
    assert await visible(call.tenant) > 0


async def test_role_of_requests_writes_no_row_of_another_tenant(call: Caller, api: Any) -> None:
    await create(call)
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        async with api.transaction():
            await api.execute("SET LOCAL app.tenant_id = 'nobody'")
            await api.execute(
                "INSERT INTO instrument.request_keys (tenant_id, rpc, key, body_hash, response) "
                "VALUES ($1, 'X', 'k', $2, '')",
                call.tenant,
                bytes(32),
            )
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await api.execute("DELETE FROM instrument.instruments")
    for table in ("request_keys_0", "outbox"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await api.fetch(f"SELECT * FROM instrument.{table}")


async def test_each_change_is_one_event_numbered_by_version(
    call: Caller, settings: Settings
) -> None:
    await create(call)
    await call("HaltInstrument", pb.HaltInstrumentRequest(instrument_id="IBM"))
    await call("HaltInstrument", pb.HaltInstrumentRequest(instrument_id="IBM"))
    last = await call("ResumeInstrument", pb.ResumeInstrumentRequest(instrument_id="IBM"))

    events = await asyncio.to_thread(published, settings, f"{call.tenant}:IBM", 3)

    assert [sequence for sequence, _ in events] == [1, 2, 3]
    assert events[-1][1].instrument == last


def published(settings: Settings, key: str, count: int) -> list[tuple[int, InstrumentChanged]]:
    """Read the events of a key from Kafka."""
    group = uuid4().hex
    consumer = Consumer(
        {
            "bootstrap.servers": settings.kafka_bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe(["instrument-events"])
    found: list[tuple[int, InstrumentChanged]] = []
    expiry = time.monotonic() + 20
    while len(found) < count and time.monotonic() < expiry:
        message = consumer.poll(0.1)
        if message is None or message.error() or message.key() != key.encode():
            continue
        event = kafka.read(message, "instrument-events")
        found.append((event.sequence, InstrumentChanged.FromString(event.payload)))
    consumer.close()
    return found


async def test_purge_deletes_keys_older_than_seven_days_only(
    call: Caller, servers: Stack, settings: Settings
) -> None:
    await create(call, "old")
    await create(call, "new", instrument_id="I-2", symbol="S2")
    owner = await asyncpg.connect(servers.database_url())
    await owner.execute(
        "UPDATE instrument.request_keys SET created_at = now() - interval '7 days 1 minute' "
        "WHERE tenant_id = $1 AND key = 'old'",
        call.tenant,
    )
    database = await Database.open(settings, "instrument")

    purged = await requests.purge(database)

    keys = await owner.fetch(
        "SELECT key FROM instrument.request_keys WHERE tenant_id = $1", call.tenant
    )
    assert purged == 1
    assert [row["key"] for row in keys] == ["new"]
    await owner.close()
    await database.close()
