import asyncio
import json
import os
import signal
import sys
from contextlib import asynccontextmanager, suppress

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from interchange.trade.v1 import trade_pb2, trade_service_pb2, trade_service_pb2_grpc

from services.common import clients, deadline, errors, identity
from services.common.config import Settings
from services.common.host import Host, TaskError, serve
from services.common.server import REFLECTION

TRADE_ID = "01890a5d-ac96-774b-bcce-b302099a8057"
ASK = trade_service_pb2.GetTradeRequest(trade_id=TRADE_ID)
HEADERS = (
    ("x-interchange-tenant", "acme"),
    ("x-interchange-subject", "ann"),
    ("x-interchange-roles", "trader"),
)
SERVICE = "interchange.trade.v1.TradeService"
MESH = [
    "interchange.account.v1.AccountService",
    "interchange.instrument.v1.InstrumentService",
    "interchange.ledger.v1.LedgerService",
    "interchange.position.v1.PositionService",
    SERVICE,
]


class Trades(trade_service_pb2_grpc.TradeServiceServicer):
    """A double whose reads take a while."""

    def __init__(self, host):
        self.host = host
        self.pause = 0.0
        self.running = 0
        self.cancelled = 0
        self.ended = lambda: None

    async def GetTrade(self, request, context):  # noqa: N802
        self.running += 1
        try:
            await asyncio.sleep(self.pause)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
            self.ended()
        left = deadline.remaining()
        return trade_pb2.Trade(trade_id=request.trade_id, sequence=int((left or 0) * 1000))

    async def BatchCreateTrades(self, request, context):  # noqa: N802
        return trade_service_pb2.BatchCreateTradesResponse()

    async def ListTrades(self, request, context):  # noqa: N802
        return trade_service_pb2.ListTradesResponse(next_page_token="x" * 200_000)

    async def StreamTrades(self, request_iterator, context):  # noqa: N802
        async for request in request_iterator:
            if len(request.requests) > 1:
                raise errors.ResourceExhausted("CHUNK_TOO_LARGE", "at most one")
            yield trade_service_pb2.StreamTradesResponse()


@asynccontextmanager
async def running(wire_more=None, **options):
    """Host the double; stop it at the end if the test has not."""
    hosts = []

    async def wire(host: Host):
        host.trades = Trades(host)
        service = trade_service_pb2.DESCRIPTOR.services_by_name["TradeService"]
        host.add_service(
            trade_service_pb2_grpc.add_TradeServiceServicer_to_server, host.trades, service
        )
        if wire_more is not None:
            await wire_more(host)
        hosts.append(host)

    settings = Settings(
        **{"listen": "127.0.0.1:0", "drain_ms": 5000, "drain_notice_ms": 0, **options}
    )
    process = asyncio.create_task(serve(settings, [wire]))
    await until(lambda: hosts)
    await hosts[0].serving.wait()
    hosts[0].process = process
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{hosts[0].port}") as channel:
            yield hosts[0], trade_service_pb2_grpc.TradeServiceStub(channel), channel
    finally:
        hosts[0].draining.set()
        with suppress(TaskError):
            await process


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


async def probe(host, request):
    reader, writer = await asyncio.open_connection("127.0.0.1", host.probes.port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


async def get(host, path):
    return await probe(host, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())


async def test_drain_answers_every_call_in_flight():
    async with running() as (host, stub, _):
        host.trades.pause = 0.4
        calls = [asyncio.ensure_future(stub.GetTrade(ASK, metadata=HEADERS)) for _ in range(300)]
        await until(lambda: host.trades.running == 300)

        os.kill(os.getpid(), signal.SIGTERM)
        answers = await asyncio.gather(*calls)
        await host.process

        assert [answer.trade_id for answer in answers] == [TRADE_ID] * 300
        assert host.trades.cancelled == 0


async def test_clients_that_heed_health_lose_no_call_under_load():
    async with running(drain_notice_ms=1500) as (host, stub, channel):
        host.trades.pause = 0.02
        health = health_pb2_grpc.HealthStub(channel)
        leave = asyncio.Event()
        answered = 0

        async def watch():
            async for update in health.Watch(health_pb2.HealthCheckRequest(service=SERVICE)):
                if update.status == health_pb2.HealthCheckResponse.NOT_SERVING:
                    leave.set()

        async def call():
            nonlocal answered
            while not leave.is_set():
                await stub.GetTrade(ASK, metadata=HEADERS)
                answered += 1

        load = [asyncio.create_task(call()) for _ in range(200)]
        watching = asyncio.create_task(watch())
        await until(lambda: answered > 400)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.gather(*load, watching)
        await asyncio.wait_for(host.process, 5)

        assert host.trades.cancelled == 0


async def test_second_signal_cuts_the_drain_short():
    async with running(drain_ms=60_000, drain_notice_ms=20_000) as (host, stub, _):
        host.trades.pause = 60
        call = asyncio.ensure_future(stub.GetTrade(ASK, metadata=HEADERS))
        await until(lambda: host.trades.running == 1)

        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(0.05)
        assert not host.process.done()
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.wait_for(host.process, 5)

        with pytest.raises(grpc.aio.AioRpcError):
            await call
        assert host.trades.cancelled == 1


async def test_caller_deadline_ends_the_work():
    async with running() as (host, stub, _):
        host.trades.pause = 30
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetTrade(ASK, metadata=HEADERS, timeout=0.1)
        await until(lambda: host.trades.cancelled == 1)

        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


async def test_call_without_deadline_ends_by_the_default():
    async with running(deadline_default_ms=100) as (host, stub, _):
        host.trades.pause = 30
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetTrade(ASK, metadata=HEADERS)

        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert host.trades.cancelled == 1


async def test_client_passes_on_caller_and_deadline():
    async with running() as (host, _, _):
        channel = clients.channel(Settings(egress=f"127.0.0.1:{host.port}"))
        stub = channel.stub(trade_service_pb2_grpc.TradeServiceStub)
        identity.enter(identity.Caller("acme", "ann", ("trader",)))
        deadline.enter(3.0)

        answer = await stub.GetTrade(ASK)
        await channel.close()

        # gRPC rounds a time-out up when it writes it into the header.
        assert 2000 < answer.sequence <= 3100


async def test_client_does_not_call_after_the_deadline():
    async with running() as (host, _, _):
        channel = clients.channel(Settings(egress=f"127.0.0.1:{host.port}"))
        stub = channel.stub(trade_service_pb2_grpc.TradeServiceStub)
        deadline.enter(0)

        with pytest.raises(errors.DeadlineExceeded):
            await stub.GetTrade(ASK)
        await channel.close()


@pytest.mark.parametrize("service", REFLECTION)
async def test_reflection_lists_the_services_of_the_whole_mesh(service):
    async with running() as (_, _, channel):
        ask = channel.stream_stream(
            f"/{service}/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        requests = [reflection_pb2.ServerReflectionRequest(list_services="*")] + [
            reflection_pb2.ServerReflectionRequest(file_containing_symbol=name)
            for name in (*MESH, service)
        ]
        answers = [answer async for answer in ask(iter(requests))]

        listed = [one.name for one in answers[0].list_services_response.service]
        assert set(MESH) <= set(listed)
        assert all(answer.HasField("file_descriptor_response") for answer in answers[1:])


async def test_message_too_large_is_refused_both_ways():
    async with running(message_bytes_max=64 * 1024) as (_, stub, _):
        large = trade_service_pb2.BatchCreateTradesRequest()
        large.requests.add(account_id="a" * 100_000)
        with pytest.raises(grpc.aio.AioRpcError) as sent:
            await stub.BatchCreateTrades(large, metadata=HEADERS)
        with pytest.raises(grpc.aio.AioRpcError) as received:
            await stub.ListTrades(trade_service_pb2.ListTradesRequest(), metadata=HEADERS)

        assert sent.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert received.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_stream_that_fails_tells_why_after_its_first_answers():
    async with running() as (_, stub, _):
        chunk = trade_service_pb2.StreamTradesRequest
        trade = trade_service_pb2.CreateTradeRequest()
        call = stub.StreamTrades(iter([chunk(), chunk(requests=[trade] * 2)]), metadata=HEADERS)

        assert await call.read() == trade_service_pb2.StreamTradesResponse()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "grpc-status-details-bin" in caught.value.trailing_metadata()


async def test_health_and_channelz_need_no_caller():
    async with running() as (_, _, channel):
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", SERVICE):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health.Check(health_pb2.HealthCheckRequest(service="nobody"))

        assert caught.value.code() == grpc.StatusCode.NOT_FOUND


async def test_probes_tell_readiness_with_its_reasons():
    broken = []

    async def check():
        if broken:
            raise ConnectionError("no database")

    async def wire_more(host):
        host.add_check("database", check)

    async with running(wire_more) as (host, _, _):
        status, body = await get(host, "/health/readiness")
        assert (status, json.loads(body)["status"]) == (200, "ok")
        broken.append(True)
        status, body = await get(host, "/health")

        assert status == 503
        assert json.loads(body) == {
            "status": "failing",
            "checks": {"serving": "ok", "database": "no database"},
        }
        assert (await get(host, "/health/liveness"))[0] == 200


async def test_probes_fail_readiness_while_draining():
    async with running(drain_notice_ms=500) as (host, _, _):
        host.stop()
        await asyncio.sleep(0.05)

        status, body = await get(host, "/health/readiness")

        assert status == 503
        assert json.loads(body)["checks"]["serving"] == "draining"


async def test_metrics_count_calls_by_method_and_code():
    async with running() as (host, stub, _):
        await stub.GetTrade(ASK, metadata=HEADERS)
        _, body = await get(host, "/metrics")

    text = body.decode()
    assert f'interchange_rpc_requests_total{{code="OK",method="{SERVICE}/GetTrade"}}' in text
    assert f'interchange_rpc_in_flight{{method="{SERVICE}/GetTrade"}} 0.0' in text


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /nothing HTTP/1.1\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.1\r\n\r\n", 405),
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", 400),
    ],
)
async def test_probes_refuse_what_is_not_theirs(request_bytes, status):
    async with running() as (host, _, _):
        assert (await probe(host, request_bytes))[0] == status


async def test_process_fails_when_a_task_dies():
    async def dies():
        await asyncio.sleep(0.05)
        raise RuntimeError("relay lost its lock")

    async def wire_more(host):
        host.add_task("relay", dies)

    async with running(wire_more) as (host, _, _):
        with pytest.raises(TaskError, match="relay") as caught:
            await host.process

        assert str(caught.value.__cause__) == "relay lost its lock"


async def test_tasks_end_after_the_calls_and_before_the_closes():
    order = []

    def task(name):
        async def run():
            try:
                await asyncio.sleep(60)
            finally:
                order.append(name)

        return run

    def close(name):
        async def run():
            order.append(name)

        return run

    async def wire_more(host):
        for name in ("first", "second"):
            host.add_task(name, task(name))
            host.on_close(close(f"close {name}"))

    async with running(wire_more) as (host, stub, _):
        host.trades.pause = 0.2
        host.trades.ended = lambda: order.append("call")
        call = asyncio.ensure_future(stub.GetTrade(ASK, metadata=HEADERS))
        await until(lambda: host.trades.running == 1)
        host.stop()
        await asyncio.gather(call, host.process)

    assert order == ["call", "second", "first", "close second", "close first"]


async def test_failing_close_does_not_stop_the_next():
    closed = []

    async def fails():
        raise RuntimeError("gone already")

    async def closes():
        closed.append(True)

    async def wire_more(host):
        host.on_close(closes)
        host.on_close(fails)

    async with running(wire_more) as (host, _, _):
        host.stop()
        await host.process

    assert closed == [True]


async def test_failing_wire_closes_what_was_opened():
    closed = []

    async def wire(host):
        async def close():
            closed.append(True)

        host.on_close(close)
        raise ConnectionError("no database")

    with pytest.raises(ConnectionError, match="no database"):
        await serve(Settings(listen="127.0.0.1:0"), [wire])

    assert closed == [True]


async def test_signal_ends_a_start_that_waits():
    closed = asyncio.Event()

    async def wire(host):
        async def close():
            closed.set()

        host.on_close(close)
        await asyncio.sleep(60)

    process = asyncio.create_task(serve(Settings(listen="127.0.0.1:0"), [wire]))
    await asyncio.sleep(0.05)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(process, 5)

    assert closed.is_set()


async def test_task_added_while_serving_runs():
    ran = asyncio.Event()

    async def run():
        ran.set()

    async with running() as (host, _, _):
        host.add_task("late", run)
        await asyncio.wait_for(ran.wait(), 5)


async def test_rpc_without_handler_is_unimplemented():
    async with running() as (_, stub, _):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.CreateTrade(trade_service_pb2.CreateTradeRequest(), metadata=HEADERS)

        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("task", "code"), [("await asyncio.sleep(60)", 0), ("raise RuntimeError('lost')", 1)]
)
async def test_process_exits_with_its_fate(task, code):
    program = (
        "import asyncio\n"
        "from services.common.host import main\n"
        f"async def task(): {task}\n"
        "async def wire(host): host.add_task('relay', task)\n"
        "main(wire)\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        stdout=asyncio.subprocess.PIPE,
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join(sys.path),
            "INTERCHANGE_LISTEN": "127.0.0.1:0",
            "INTERCHANGE_DRAIN_NOTICE_MS": "0",
        },
    )
    lines = []
    async with asyncio.timeout(20):
        while line := await process.stdout.readline():
            lines.append(json.loads(line))
            if lines[-1]["event"] == "serving" and code == 0:
                process.terminate()
        assert await process.wait() == code

    events = [line["event"] for line in lines]
    assert "stopped" in events
    assert ("process failed" in events) == bool(code)


async def test_second_process_on_the_port_fails():
    async with running() as (host, _, _):
        with pytest.raises(RuntimeError, match="bind"):
            await serve(Settings(listen=f"127.0.0.1:{host.port}"), [])
