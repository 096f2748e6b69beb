import asyncio
import re

import asyncpg
import grpc
import pytest
import structlog
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.rpc import error_details_pb2, status_pb2
from interchange.account.v1 import account_service_pb2
from interchange.position.v1 import position_service_pb2
from interchange.trade.v1 import trade_pb2, trade_service_pb2, trade_service_pb2_grpc

from services.common import deadline, errors, identity, telemetry
from services.common.config import Settings
from services.common.interceptors import DETAILS_BYTES_MAX, Guard
from services.common.validation import check, rules_of

TRADE_ID = "01890a5d-ac96-774b-bcce-b302099a8057"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
TRADER = {
    "x-interchange-tenant": "acme",
    "x-interchange-subject": "ann",
    "x-interchange-roles": "trader",
}


class Context:
    """What a handler sees of a call, without a network."""

    def __init__(self, headers=TRADER, remaining=None):
        self._headers = tuple(headers.items())
        self._remaining = remaining
        self.written = []
        self.told = None

    def invocation_metadata(self):
        return self._headers

    def time_remaining(self):
        return self._remaining

    def code(self):
        return self.told.code

    async def write(self, message):
        self.written.append(message)

    async def abort(self, code, details="", trailing_metadata=()):
        self.code = lambda: code
        self.details = details
        for _, value in trailing_metadata:
            self.told = status_pb2.Status.FromString(value)
        raise grpc.aio.AbortError

    @property
    def reason(self):
        info = error_details_pb2.ErrorInfo()
        assert self.told.details[0].Unpack(info)
        assert info.domain == "interchange"
        return info.reason

    @property
    def violations(self):
        bad = error_details_pb2.BadRequest()
        assert self.told.details[1].Unpack(bad)
        return [(one.field, one.reason) for one in bad.field_violations]


class Server:
    """Takes handlers as grpc.aio.Server does."""

    def __init__(self):
        self.handlers = {}

    def add_generic_rpc_handlers(self, handlers):
        pass

    def add_registered_method_handlers(self, service, handlers):
        self.handlers.update(handlers)


class Trades(trade_service_pb2_grpc.TradeServiceServicer):
    """Each rpc does what the test says."""

    def __init__(self, act):
        self.act = act

    async def GetTrade(self, request, context):  # noqa: N802
        return await self.act(request, context)

    async def BatchCreateTrades(self, request, context):  # noqa: N802
        return await self.act(request, context)

    async def StreamTrades(self, request_iterator, context):  # noqa: N802
        async for request in request_iterator:
            yield await self.act(request, context)


def trade_handlers(act, **settings):
    server = Server()
    service = trade_service_pb2.DESCRIPTOR.services_by_name["TradeService"]
    guard = Guard(server, service, Settings(**settings))
    trade_service_pb2_grpc.add_TradeServiceServicer_to_server(Trades(act), guard)
    return server.handlers


async def get_trade(act, context, trade_id=TRADE_ID, **settings):
    serve = trade_handlers(act, **settings)["GetTrade"].unary_unary
    return await serve(trade_service_pb2.GetTradeRequest(trade_id=trade_id), context)


async def refused(act, context=None, **options):
    context = context or Context()
    with pytest.raises(grpc.aio.AbortError):
        await get_trade(act, context, **options)
    return context


async def echo(request, context):
    return trade_pb2.Trade(trade_id=request.trade_id)


def raising(error):
    async def act(request, context):
        raise error

    return act


async def test_handler_sees_caller_deadline_and_trace():
    seen = {}

    async def act(request, context):
        seen.update(caller=identity.current(), left=deadline.remaining(), id=telemetry.trace_id())
        return await echo(request, context)

    context = Context(TRADER | {"traceparent": TRACE}, remaining=5.0)
    await get_trade(act, context)

    assert seen["caller"] == identity.Caller("acme", "ann", ("trader",))
    assert 4.5 < seen["left"] <= 5.0
    assert seen["id"] == "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (errors.NotFound("TRADE_NOT_FOUND", "no"), "NOT_FOUND", "TRADE_NOT_FOUND"),
        (errors.Aborted("VERSION_CHANGED", "no"), "ABORTED", "VERSION_CHANGED"),
        (RuntimeError("secret"), "INTERNAL", "INTERNAL"),
        (asyncpg.InterfaceError("pool closed"), "UNAVAILABLE", "DATABASE_UNAVAILABLE"),
        (asyncpg.ConnectionDoesNotExistError("x"), "UNAVAILABLE", "DATABASE_UNAVAILABLE"),
        (ConnectionRefusedError("x"), "UNAVAILABLE", "DATABASE_UNAVAILABLE"),
        (TimeoutError(), "UNAVAILABLE", "DATABASE_UNAVAILABLE"),
        (asyncpg.QueryCanceledError("x"), "UNAVAILABLE", "DATABASE_UNAVAILABLE"),
        (asyncpg.DeadlockDetectedError("x"), "ABORTED", "TRANSACTION_CONFLICT"),
        (asyncpg.UniqueViolationError("secret"), "INTERNAL", "INTERNAL"),
        (asyncio.CancelledError(), "UNAVAILABLE", "CANCELLED"),
    ],
)
async def test_exception_is_answered_with_code_and_reason(error, code, reason):
    context = await refused(raising(error))

    assert context.code().name == code
    assert context.reason == reason
    assert "secret" not in context.details + str(context.told)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"),
        (grpc.StatusCode.NOT_FOUND, "INTERNAL"),
    ],
)
async def test_error_of_a_called_service_is_told_apart(code, expected):
    meta = grpc.aio.Metadata()
    context = await refused(raising(grpc.aio.AioRpcError(code, meta, meta, details="secret")))

    assert context.code().name == expected
    assert "secret" not in context.details


async def test_unexpected_exception_is_logged_with_its_traceback():
    with structlog.testing.capture_logs() as logs:
        await refused(raising(RuntimeError("the cause")))

    logged = next(one for one in logs if one["event"] == "unexpected exception")
    assert str(logged["exc_info"]) == "the cause"


async def test_call_without_deadline_gets_the_default():
    async def act(request, context):
        await asyncio.sleep(5)

    context = await refused(act, deadline_default_ms=20)

    assert context.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert context.reason == "DEADLINE_EXCEEDED"


async def test_cancelled_call_is_left_to_grpc():
    begun = asyncio.Event()

    async def act(request, context):
        begun.set()
        await asyncio.sleep(5)

    context = Context()
    call = asyncio.create_task(get_trade(act, context))
    await begun.wait()
    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call
    assert context.told is None


@pytest.mark.parametrize(
    "headers",
    [
        {},
        TRADER | {"x-interchange-tenant": ""},
        TRADER | {"x-interchange-tenant": "Acme"},
        TRADER | {"x-interchange-tenant": "a" * 33},
        TRADER | {"x-interchange-tenant": "acme\n"},
        TRADER | {"x-interchange-subject": ""},
        TRADER | {"x-interchange-roles": ""},
    ],
)
async def test_call_without_a_whole_identity_is_unauthenticated(headers):
    context = await refused(echo, Context(headers))

    assert context.code() == grpc.StatusCode.UNAUTHENTICATED


async def test_caller_without_the_permission_is_denied():
    context = await refused(echo, Context(TRADER | {"x-interchange-roles": "guest"}))

    assert context.code() == grpc.StatusCode.PERMISSION_DENIED
    assert context.reason == "PERMISSION_DENIED"


async def test_rpc_without_permission_refuses_to_start():
    file = descriptor_pb2.FileDescriptorProto(name="open.proto", package="open.v1")
    file.message_type.add(name="Empty")
    rpc = file.service.add(name="OpenService").method.add(name="Open")
    rpc.input_type = rpc.output_type = ".open.v1.Empty"
    pool = descriptor_pool.DescriptorPool()
    service = pool.AddSerializedFile(file.SerializeToString()).services_by_name["OpenService"]

    with pytest.raises(ValueError, match=re.escape("open.v1.OpenService/Open declares no")):
        Guard(Server(), service, Settings())


async def test_handler_that_writes_instead_of_yielding_refuses_to_start():
    class Writing(trade_service_pb2_grpc.TradeServiceServicer):
        async def StreamTrades(self, request_iterator, context):  # noqa: N802
            await context.write(trade_service_pb2.StreamTradesResponse())

    service = trade_service_pb2.DESCRIPTOR.services_by_name["TradeService"]
    with pytest.raises(TypeError, match="must be an async generator"):
        trade_service_pb2_grpc.add_TradeServiceServicer_to_server(
            Writing(), Guard(Server(), service, Settings())
        )


async def test_broken_rule_names_the_field():
    context = await refused(echo, trade_id="nope")

    assert context.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert context.reason == "INVALID_FIELD"
    assert context.violations == [("trade_id", "STRING_UUID")]


def listed():
    """Return a message of the tests' own: a list of requests that have rules."""
    file = descriptor_pb2.FileDescriptorProto(
        name="tests/listed.proto",
        package="tests",
        syntax="proto3",
        dependency=[account_service_pb2.DESCRIPTOR.name],
    )
    field = file.message_type.add(name="Listed").field.add(name="requests", number=1)
    field.label = field.LABEL_REPEATED
    field.type = field.TYPE_MESSAGE
    field.type_name = ".interchange.account.v1.CreateAccountRequest"
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tests.Listed"))()


def test_path_of_a_field_in_a_list_has_its_index():
    request = listed()
    for _ in range(2):
        request.requests.add()
    request.requests[1].request_id = "a" * 99

    with pytest.raises(errors.InvalidArgument) as caught:
        check(request)

    violations = {one.field: one.reason for one in caught.value.violations}
    assert violations["requests[0].account"] == "REQUIRED"
    assert violations["requests[1].request_id"] == "STRING_MAX_LEN"


def test_violations_named_are_bounded():
    request = listed()
    for _ in range(500):
        request.requests.add()

    with pytest.raises(errors.InvalidArgument) as caught:
        check(request)

    assert len(caught.value.violations) == 32


def test_types_without_rules_are_not_checked():
    batch = trade_service_pb2.BatchCreateTradesRequest.DESCRIPTOR
    one = trade_service_pb2.GetTradeRequest.DESCRIPTOR

    assert rules_of(batch) is None
    assert rules_of(one) is check


async def test_large_error_is_shortened_to_fit_trailers():
    violations = [errors.Violation(f"f{n}", "x" * 300) for n in range(100)]
    context = await refused(
        raising(errors.InvalidArgument("BAD", "y" * 9000, violations=violations))
    )

    assert context.told.ByteSize() <= DETAILS_BYTES_MAX
    assert len(context.violations) == 4
    assert len(context.details) == 512


async def test_error_in_the_middle_of_a_stream_is_translated():
    async def act(request, context):
        if request.requests:
            raise errors.NotFound("ACCOUNT_NOT_FOUND", "no")
        return trade_service_pb2.StreamTradesResponse()

    async def requests():
        yield trade_service_pb2.StreamTradesRequest()
        yield trade_service_pb2.StreamTradesRequest(
            requests=[trade_service_pb2.CreateTradeRequest()]
        )

    context = Context()
    with pytest.raises(grpc.aio.AbortError):
        await trade_handlers(act)["StreamTrades"].stream_stream(requests(), context)

    assert len(context.written) == 1
    assert context.reason == "ACCOUNT_NOT_FOUND"


async def test_stream_of_a_caller_that_left_is_closed_at_once():
    closed = asyncio.Event()

    async def act(request, context):
        try:
            await asyncio.sleep(5)
        finally:
            closed.set()

    async def requests():
        yield trade_service_pb2.StreamTradesRequest()

    serve = trade_handlers(act)["StreamTrades"].stream_stream
    call = asyncio.create_task(serve(requests(), Context()))
    await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    assert closed.is_set()


async def test_safe_read_is_logged_at_debug_and_a_refusal_at_info():
    with structlog.testing.capture_logs() as logs:
        await get_trade(echo, Context())
        await refused(echo, trade_id="nope")

    levels = [(one["log_level"], one["code"], one["reason"]) for one in logs if "code" in one]
    assert levels == [("debug", "OK", ""), ("info", "INVALID_ARGUMENT", "INVALID_FIELD")]
    assert {one["tenant"] for one in logs if "code" in one} == {"acme"}


def test_services_of_the_mesh_can_all_be_guarded():
    for module in (account_service_pb2, position_service_pb2, trade_service_pb2):
        for service in module.DESCRIPTOR.services_by_name.values():
            Guard(Server(), service, Settings())
