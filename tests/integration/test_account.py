"""The account service on real Postgres and Kafka, called over gRPC."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import grpc
import pytest
from confluent_kafka import Consumer
from google.rpc import error_details_pb2, status_pb2
from google.type.date_pb2 import Date
from google.type.decimal_pb2 import Decimal
from google.type.money_pb2 import Money
from interchange.account.v1 import account_pb2
from interchange.account.v1 import account_service_pb2 as pb
from interchange.account.v1.account_events_pb2 import AccountChanged, TransferRecorded
from interchange.account.v1.account_service_pb2_grpc import AccountServiceStub

from services.account.__main__ import wire
from services.common import kafka
from services.common.config import Settings
from services.common.events import Event
from services.common.host import Host
from services.stack.stack import Stack

DEPOSIT = account_pb2.TRANSFER_DIRECTION_DEPOSIT
WITHDRAWAL = account_pb2.TRANSFER_DIRECTION_WITHDRAWAL


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
    servers.migrate(["account"])
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
        yield AccountServiceStub(channel)
    await host.leave()


@pytest.fixture
def call(stub: Any) -> Caller:
    return Caller(stub, f"t{uuid4().hex[:12]}")


@pytest.fixture
async def api(servers: Stack, settings: Settings) -> AsyncIterator[Any]:
    """A connection as the role that serves requests."""
    connection = await asyncpg.connect(servers.database_url("account_api"))
    yield connection
    await connection.close()


@pytest.fixture
async def owner(servers: Stack, settings: Settings) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(servers.database_url())
    yield connection
    await connection.close()


def new(account_id: str = "A-1", request_id: str = "", **changes: Any) -> pb.CreateAccountRequest:
    values: dict[str, Any] = {"account_id": account_id, "base_currency": "USD"}
    account = account_pb2.Account(**(values | changes))
    return pb.CreateAccountRequest(account=account, request_id=request_id)


def cash(
    request_id: str, units: int = 100, nanos: int = 0, currency: str = "USD", **changes: Any
) -> pb.CreateTransferRequest:
    money = Money(currency_code=currency, units=units, nanos=nanos)
    values: dict[str, Any] = {"direction": DEPOSIT, "cash": money}
    return pb.CreateTransferRequest(
        account_id="A-1",
        transfer=account_pb2.Transfer(**(values | changes)),
        request_id=request_id,
    )


async def refused(calling: Awaitable[Any]) -> tuple[str, str, list[str]]:
    """Return code, reason and the fields of the error of a call."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await calling
    metadata = dict(caught.value.trailing_metadata() or ())
    status = status_pb2.Status.FromString(metadata["grpc-status-details-bin"])
    return caught.value.code().name, *described(status)


def described(status: Any) -> tuple[str, list[str]]:
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    status.details[0].Unpack(info)
    if len(status.details) > 1:
        status.details[1].Unpack(bad)
    return info.reason, [violation.field for violation in bad.field_violations]


def published(settings: Settings, key: str, count: int) -> list[Event]:
    """Read the events of a key from Kafka."""
    consumer = Consumer(
        {
            "bootstrap.servers": settings.kafka_bootstrap,
            "group.id": uuid4().hex,
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe(["account-events"])
    found: list[Event] = []
    expiry = time.monotonic() + 20
    while len(found) < count and time.monotonic() < expiry:
        message = consumer.poll(0.1)
        if message is None or message.error() or message.key() != key.encode():
            continue
        found.append(kafka.read(message, "account-events"))
    consumer.close()
    return found


async def test_created_account_is_returned_read_and_listed(call: Caller) -> None:
    created = await call("CreateAccount", new(display_name="Ann", kind=2, cost_method=2))

    assert created.kind == account_pb2.ACCOUNT_KIND_HOUSE
    assert created.cost_method == account_pb2.COST_METHOD_FIFO
    assert created.status == account_pb2.ACCOUNT_STATUS_OPEN
    assert created.version == 1
    assert await call("GetAccount", pb.GetAccountRequest(account_id="A-1")) == created
    assert list((await call("ListAccounts", pb.ListAccountsRequest())).accounts) == [created]


async def test_account_that_exists_is_refused_without_its_key(call: Caller) -> None:
    first = await call("CreateAccount", new(request_id="key-1"))

    assert await call("CreateAccount", new(request_id="key-1")) == first
    assert (await refused(call("CreateAccount", new())))[:2] == ("ALREADY_EXISTS", "ACCOUNT_EXISTS")
    assert await refused(call("CreateAccount", new("A-2", "key-1"))) == (
        "ALREADY_EXISTS",
        "IDEMPOTENCY_KEY_REUSED",
        ["request_id"],
    )


async def test_each_request_of_a_batch_has_its_own_result(call: Caller) -> None:
    await call("CreateAccount", new("A-0"))
    requests = [
        new("A-0"),
        new("A-1", "key-1"),
        new("A-1", "key-1"),
        new("A-1"),
        new("A-2", "key-1"),
        new("bad id", base_currency="XXX"),
        new("A-3"),
    ]

    answer = await call("BatchCreateAccounts", pb.BatchCreateAccountsRequest(requests=requests))

    results = [one.account.account_id or described(one.error)[0] for one in answer.results]
    assert results == [
        "ACCOUNT_EXISTS",
        "A-1",
        "A-1",
        "ACCOUNT_EXISTS",
        "IDEMPOTENCY_KEY_REUSED",
        "INVALID_ACCOUNT_ID",
        "A-3",
    ]
    assert described(answer.results[5].error)[1] == ["account.account_id", "account.base_currency"]
    listed = await call("ListAccounts", pb.ListAccountsRequest())
    assert [one.account_id for one in listed.accounts] == ["A-0", "A-1", "A-3"]


async def test_batch_of_a_thousand_can_be_repeated(call: Caller) -> None:
    request = pb.BatchCreateAccountsRequest(
        requests=[new(f"A-{number}", f"key-{number}") for number in range(1000)]
    )

    first = await call("BatchCreateAccounts", request)
    again = await call("BatchCreateAccounts", request)

    assert first == again
    assert all(result.HasField("account") for result in first.results)


async def test_overlapping_batches_in_opposite_order_do_not_wait_for_each_other(
    call: Caller,
) -> None:
    """Locks and keys are taken in one order, whatever the order of the requests."""
    requests = [new(f"A-{number}", f"key-{number}") for number in range(200)]
    orders = [requests, requests[::-1]] * 3

    answers = await asyncio.gather(
        *(call("BatchCreateAccounts", pb.BatchCreateAccountsRequest(requests=o)) for o in orders)
    )

    for order, answer in zip(orders, answers, strict=True):
        ids = [result.account.account_id for result in answer.results]
        assert ids == [request.account.account_id for request in order]


async def test_a_key_taken_by_another_transaction_refuses_one_and_numbers_stay_whole(
    call: Caller,
) -> None:
    """Many accounts race for one key while each records transfers of its own."""
    names = [f"A-{number}" for number in range(6)]
    await call("BatchCreateAccounts", pb.BatchCreateAccountsRequest(requests=map(new, names)))

    def transfer(name: str, key: str) -> pb.CreateTransferRequest:
        request = cash(key)
        request.account_id = name
        return request

    keys = ["shared", "own-1", "own-2"]
    outcomes = await asyncio.gather(
        *(
            call("CreateTransfer", transfer(name, key if key == "shared" else f"{name}-{key}"))
            for name in names
            for key in keys
        ),
        return_exceptions=True,
    )

    recorded = [one for one in outcomes if isinstance(one, account_pb2.Transfer)]
    assert len(recorded) == 13
    for name in names:
        sequences = sorted(one.sequence for one in recorded if one.account_id == name)
        assert sequences == list(range(2, 2 + len(sequences)))


async def test_cash_keeps_the_exponent_of_its_currency(call: Caller) -> None:
    await call("CreateAccount", new())

    dollars = await call("CreateTransfer", cash("1", 12, 340_000_000))
    yen = await call("CreateTransfer", cash("2", 1200, currency="JPY", direction=WITHDRAWAL))

    assert (dollars.cash.units, dollars.cash.nanos) == (12, 340_000_000)
    assert (yen.cash.units, yen.cash.currency_code) == (1200, "JPY")
    assert yen.direction == WITHDRAWAL
    assert await refused(call("CreateTransfer", cash("3", 1, 500_000_000, "JPY"))) == (
        "INVALID_ARGUMENT",
        "INVALID_AMOUNT",
        ["transfer.cash"],
    )


async def test_security_comes_in_at_cost_and_is_read_as_it_was(call: Caller) -> None:
    await call("CreateAccount", new())
    security = account_pb2.SecurityAmount(
        instrument_id="IBM",
        quantity=Decimal(value="10.5"),
        cost=Money(currency_code="USD", units=1500),
    )
    request = pb.CreateTransferRequest(
        account_id="A-1",
        transfer=account_pb2.Transfer(
            direction=DEPOSIT,
            security=security,
            value_date=Date(year=2013, month=9, day=30),
            description="opening position",
        ),
        request_id="1",
    )

    recorded = await call("CreateTransfer", request)

    assert recorded.security == security
    assert recorded.value_date == Date(year=2013, month=9, day=30)
    assert recorded.sequence == 2
    assert UUID(recorded.transfer_id).version == 7
    get = pb.GetTransferRequest(transfer_id=recorded.transfer_id)
    assert await call("GetTransfer", get) == recorded
    assert await call("CreateTransfer", request) == recorded


async def test_transfers_are_listed_newest_first(call: Caller) -> None:
    await call("CreateAccount", new())
    for number in range(5):
        await call("CreateTransfer", cash(f"key-{number}"))

    found, token = [], ""
    while True:
        request = pb.ListTransfersRequest(account_id="A-1", page_size=2, page_token=token)
        page = await call("ListTransfers", request)
        found += [one.sequence for one in page.transfers]
        if not (token := page.next_page_token):
            break

    assert found == [6, 5, 4, 3, 2]


async def test_concurrent_transfers_are_numbered_without_gaps(call: Caller) -> None:
    await call("CreateAccount", new())

    answers = await asyncio.gather(
        *(call("CreateTransfer", cash(f"key-{number % 40}")) for number in range(80))
    )

    assert sorted({one.sequence for one in answers}) == list(range(2, 42))
    assert len({one.transfer_id for one in answers}) == 40


async def test_transfer_of_an_account_that_is_missing_or_closed_is_refused(
    call: Caller, owner: Any
) -> None:
    assert (await refused(call("CreateTransfer", cash("1"))))[:2] == (
        "NOT_FOUND",
        "ACCOUNT_NOT_FOUND",
    )
    await call("CreateAccount", new())
    query = "UPDATE account.accounts SET status = 'CLOSED' WHERE tenant_id = $1"
    await owner.execute(query, call.tenant)

    assert (await refused(call("CreateTransfer", cash("1"))))[:2] == (
        "FAILED_PRECONDITION",
        "ACCOUNT_CLOSED",
    )
    keys = await owner.fetchval(
        "SELECT count(*) FROM account.request_keys WHERE tenant_id = $1", call.tenant
    )
    assert keys == 0


async def test_events_of_both_kinds_share_one_numbering(call: Caller, settings: Settings) -> None:
    account = await call("CreateAccount", new())
    transfer = await call("CreateTransfer", cash("1", 12, 340_000_000, direction=WITHDRAWAL))

    events = await asyncio.to_thread(published, settings, f"{call.tenant}:A-1", 2)

    assert [event.sequence for event in events] == [1, 2]
    assert AccountChanged.FromString(events[0].payload).account == account
    recorded = TransferRecorded.FromString(events[1].payload)
    assert recorded.event_id == transfer.transfer_id == events[1].event_id
    assert (recorded.asset, recorded.is_cash, recorded.amount) == ("USD", True, -1234)
    assert recorded.recorded_us == transfer.create_time.ToMicroseconds()


async def test_transfer_lies_in_the_partition_of_its_month(call: Caller, owner: Any) -> None:
    await call("CreateAccount", new())
    transfer = await call("CreateTransfer", cash("1"))

    table = await owner.fetchval(
        "SELECT tableoid::regclass::text FROM account.transfers WHERE transfer_id = $1",
        transfer.transfer_id,
    )

    month = transfer.create_time.ToDatetime().strftime("%Y_%m")
    assert table == f"account.transfers_{month}"


async def test_other_tenant_sees_nothing(call: Caller, stub: Any) -> None:
    await call("CreateAccount", new())
    transfer = await call("CreateTransfer", cash("1"))
    other = Caller(stub, f"t{uuid4().hex[:12]}")

    get = pb.GetTransferRequest(transfer_id=transfer.transfer_id)
    assert (await refused(other("GetTransfer", get)))[:2] == ("NOT_FOUND", "TRANSFER_NOT_FOUND")
    for rpc, request in (
        ("GetAccount", pb.GetAccountRequest(account_id="A-1")),
        ("ListTransfers", pb.ListTransfersRequest(account_id="A-1")),
        ("CreateTransfer", cash("1")),
    ):
        assert (await refused(other(rpc, request)))[1] == "ACCOUNT_NOT_FOUND"
    assert not (await other("ListAccounts", pb.ListAccountsRequest())).accounts


@pytest.mark.parametrize("table", ["accounts", "transfers", "request_keys"])
async def test_role_of_requests_sees_no_row_without_its_tenant(
    call: Caller, api: Any, table: str
) -> None:
    await call("CreateAccount", new())
    await call("CreateTransfer", cash("1"))

    async def visible(tenant: str) -> int:
        async with api.transaction():
            await api.execute("SELECT set_config('app.tenant_id', $1, true)", tenant)
            return int(await api.fetchval(f"SELECT count(*) FROM account.{table}"))

    assert await api.fetchval(f"SELECT count(*) FROM account.{table}") == 0
    assert await visible("nobody") == 0
    assert await visible(call.tenant) == 1


async def test_role_of_requests_cannot_rewrite_what_was_recorded(call: Caller, api: Any) -> None:
    await call("CreateAccount", new())
    for statement in (
        "DELETE FROM account.accounts",
        "UPDATE account.accounts SET account_id = 'x'",
        "UPDATE account.transfers SET amount = 1",
        "DELETE FROM account.transfers",
        "TRUNCATE account.transfers",
        "SELECT * FROM account.transfers_default",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await api.execute(statement)
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        async with api.transaction():
            await api.execute("SET LOCAL app.tenant_id = 'nobody'")
            await api.execute(
                "INSERT INTO account.accounts SELECT $1, 'A-9', '', 'CLIENT', 'USD', 'AVERAGE', "
                "'OPEN', 1, 1, now()",
                call.tenant,
            )
