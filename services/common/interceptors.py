"""What surrounds every call: errors, identity, permission, deadline, rules, metrics, log, trace.

The handlers are wrapped once, when a service is added, and not intercepted per
call as grpc.aio offers: what depends on the rpc alone (permission, rules,
labels) is looked up at the start, and a call pays one coroutine, not seven.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import lru_cache
from inspect import isasyncgenfunction, iscoroutinefunction
from typing import Any, TypeAlias

import grpc
import structlog
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError
from grpc._cython import cygrpc  # type: ignore[attr-defined]
from interchange.options.v1 import options_pb2

from services.common import deadline, identity, telemetry
from services.common.config import Settings
from services.common.errors import (
    InterchangeError,
    Internal,
    InvalidArgument,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
)
from services.common.identity import Caller
from services.common.metrics import CallMetrics
from services.common.translation import translate
from services.common.validation import rules_of

STATUS_DETAILS = "grpc-status-details-bin"
DETAILS_BYTES_MAX = 4096
"""Above some 8 KiB of trailers, peers may drop the whole answer."""
MESSAGE_LENGTH_MAX = 512
CALLERS_MAX = 4096
"""Callers remembered, so that their headers are not parsed on each call."""

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Parse: TypeAlias = Callable[[bytes], Any]

_TENANT = re.compile(r"[a-z][a-z0-9-]{0,31}")
_SUBJECT = re.compile(r"[!-~]{1,128}")
_ROLES = re.compile(r"[a-z][a-z0-9_ -]{0,255}")
_GONE = (cygrpc.ExecuteBatchError, cygrpc.UsageError, cygrpc._ServerStoppedError)
"""What grpc.aio raises on a write to a caller that is gone."""


class Rpc:
    """What is known of an rpc before it is called."""

    __slots__ = ("check", "deadline_default", "log", "metrics", "name", "permission", "safe")

    def __init__(self, method: MethodDescriptor, settings: Settings) -> None:
        options = method.GetOptions().Extensions
        assert method.containing_service is not None
        self.name = f"{method.containing_service.full_name}/{method.name}"
        self.permission: str = options[options_pb2.permission]
        if not self.permission:
            raise ValueError(f"rpc {self.name} declares no interchange.options.v1.permission")
        self.safe: bool = options[options_pb2.safe]
        streams = method.client_streaming
        self.check = None if streams else rules_of(method.input_type)
        self.deadline_default = settings.deadline_default_ms / 1000
        self.metrics = CallMetrics(self.name)
        self.log = structlog.get_logger("services.rpc").bind(method=self.name)


class Guard:
    """Stands in for the server while a service is added, and wraps its handlers."""

    def __init__(
        self, server: grpc.aio.Server, descriptor: ServiceDescriptor, settings: Settings
    ) -> None:
        self._server = server
        self._rpcs = {name: Rpc(m, settings) for name, m in descriptor.methods_by_name.items()}

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Do nothing: generated code adds the same handlers once more, by name."""

    def add_registered_method_handlers(
        self, service: str, handlers: "Mapping[str, Handler]"
    ) -> None:
        """Add the wrapped handlers of a service to the server.

        What the servicer does not implement is left to grpc: UNIMPLEMENTED.
        """
        wrapped = {}
        for name, handler in handlers.items():
            if _is_async(handler):
                wrapped[name] = _wrap(self._rpcs[name], handler)
            else:
                self._rpcs[name].log.warning("rpc not implemented")
        generic = grpc.method_handlers_generic_handler(service, wrapped)
        self._server.add_generic_rpc_handlers((generic,))
        self._server.add_registered_method_handlers(service, wrapped)


def _is_async(handler: Any) -> bool:
    """Tell a handler of ours from a generated one, a plain function that only raises."""
    behaviour = (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )
    return iscoroutinefunction(behaviour) or isasyncgenfunction(behaviour)


def _wrap(rpc: Rpc, handler: Any) -> "Handler":
    parse = handler.request_deserializer
    one = {
        "request_deserializer": _parsed_or_error(parse),
        "response_serializer": handler.response_serializer,
    }
    many = {**one, "request_deserializer": _parsed(parse)}
    if handler.unary_unary:
        return grpc.unary_unary_rpc_method_handler(_unary(rpc, handler.unary_unary), **one)
    if handler.stream_unary:
        return grpc.stream_unary_rpc_method_handler(_unary(rpc, handler.stream_unary), **many)
    if handler.unary_stream:
        return grpc.unary_stream_rpc_method_handler(_stream(rpc, handler.unary_stream), **one)
    return grpc.stream_stream_rpc_method_handler(_stream(rpc, handler.stream_stream), **many)


def _parsed(parse: Parse) -> Parse:
    """Return `parse` that raises InvalidArgument for bytes that are no message."""

    def parsed(data: bytes) -> Any:
        try:
            return parse(data)
        except DecodeError:
            raise InvalidArgument("MALFORMED_MESSAGE", "the bytes are not a message") from None

    return parsed


def _parsed_or_error(parse: Parse) -> Parse:
    """Return `parse` that returns the error, for the wrapper to raise.

    What is raised before a handler begins, grpc.aio tells as UNKNOWN, with the
    name of its class.
    """
    parsed = _parsed(parse)

    def parsed_or_error(data: bytes) -> Any:
        try:
            return parsed(data)
        except InvalidArgument as error:
            return error

    return parsed_or_error


def _unary(rpc: Rpc, handler: Callable[[Any, Any], Awaitable[Any]]) -> Any:
    """Wrap a handler with one response."""
    check = rpc.check

    async def serve(request: Any, context: Any) -> Any:
        call = _Call(rpc, context)
        try:
            brought = call.admit()
            if isinstance(request, InvalidArgument):
                raise request
            if check is not None:
                check(request)
            if brought:  # grpc cancels this task when the caller's own deadline passes
                response = await handler(request, context)
            else:
                deadline.enter(rpc.deadline_default)
                async with asyncio.timeout(rpc.deadline_default):
                    response = await handler(request, context)
        except BaseException as error:
            await call.fail(error)
            raise
        call.end("OK")
        return response

    return serve


def _stream(rpc: Rpc, handler: Callable[[Any, Any], AsyncIterator[Any]]) -> Any:
    """Wrap a handler with many responses: an async generator.

    The wrapper itself writes, as a coroutine: of a wrapping generator, grpc.aio
    leaves the end to the garbage collector when a caller goes away.
    """
    if not isasyncgenfunction(handler):
        raise TypeError(f"{rpc.name}: the handler must be an async generator")
    check = rpc.check

    async def serve(request: Any, context: Any) -> None:
        call = _Call(rpc, context)
        try:
            call.admit()
            if isinstance(request, InvalidArgument):
                raise request
            if check is not None:
                check(request)
            async with aclosing(handler(request, context)) as responses:
                async for response in responses:
                    await context.write(response)
        except BaseException as error:
            await call.fail(error)
            raise
        call.end("OK")

    return serve


class _Call:
    """One call being served."""

    __slots__ = ("_began", "_caller", "_context", "_rpc", "_span")

    def __init__(self, rpc: Rpc, context: Any) -> None:
        self._began = time.perf_counter()
        self._rpc = rpc
        self._context = context
        self._caller: Caller | None = None
        self._span: telemetry.Span | None = None
        rpc.metrics.in_flight.inc()

    def admit(self) -> bool:
        """Let the caller in or raise; tell whether it brought a deadline."""
        headers = dict(self._context.invocation_metadata())
        self._span = telemetry.begin(headers.get(telemetry.TRACEPARENT), self._rpc.name)
        remaining = self._context.time_remaining()
        deadline.enter(remaining)
        self._caller = caller = _caller(
            headers.get(identity.TENANT_HEADER, ""),
            headers.get(identity.SUBJECT_HEADER, ""),
            headers.get(identity.ROLES_HEADER, ""),
        )
        identity.enter(caller)
        if not caller.may(self._rpc.permission):
            raise PermissionDenied(
                "PERMISSION_DENIED",
                f"permission {self._rpc.permission} is missing",
                metadata={"permission": self._rpc.permission},
            )
        return remaining is not None

    async def fail(self, error: BaseException) -> None:
        """Answer with what the error means; return where grpc answers by itself."""
        code = self._settled(error)
        if code is not None:
            self.end(code)
            return
        if isinstance(error, asyncio.CancelledError):
            # Something that the handler awaited was cancelled, not the call:
            # grpc would send no answer at all, and the caller would wait.
            error = Unavailable("CANCELLED", "the work was cancelled; try again")
        assert isinstance(error, Exception)
        told = translate(error)
        if isinstance(told, Internal):
            self._rpc.log.error("unexpected exception", exc_info=error)
        self.end(told.status.name, told.reason)
        await self._context.abort(told.status, told.message[:MESSAGE_LENGTH_MAX], _trailers(told))

    def _settled(self, error: BaseException) -> str | None:
        """Return the code of a call that needs no answer of ours, else None."""
        if isinstance(error, asyncio.CancelledError):
            task = asyncio.current_task()
            if task is not None and not task.cancelling():
                return None
            late = self._context.time_remaining() == 0
            return "DEADLINE_EXCEEDED" if late else "CANCELLED"
        if isinstance(error, grpc.aio.AbortError):
            return str(self._context.code().name)
        if isinstance(error, _GONE) or not isinstance(error, Exception):
            return "CANCELLED"
        return None

    def end(self, code: str, reason: str = "") -> None:
        """Count and log the call, and end its span."""
        rpc = self._rpc
        seconds = time.perf_counter() - self._began
        rpc.metrics.done(code, seconds)
        if self._span is not None:
            telemetry.end(self._span, code)
        write = rpc.log.debug if rpc.safe and code == "OK" else rpc.log.info
        caller = self._caller
        write(
            "call",
            code=code,
            reason=reason,
            duration_ms=round(seconds * 1000, 3),
            tenant=caller.tenant_id if caller else "",
            subject=caller.subject if caller else "",
        )


@lru_cache(maxsize=CALLERS_MAX)
def _caller(tenant: str, subject: str, roles: str) -> Caller:
    if not tenant and not subject:
        raise Unauthenticated("CALLER_MISSING", "the call names no caller")
    if not (_TENANT.fullmatch(tenant) and _SUBJECT.fullmatch(subject) and _ROLES.fullmatch(roles)):
        raise Unauthenticated(
            "CALLER_MALFORMED", "the caller's tenant, name or roles are malformed"
        )
    return Caller(tenant, subject, tuple(roles.split()))


def _trailers(error: InterchangeError) -> tuple[tuple[str, bytes], ...]:
    """Return the google.rpc.Status of an error, shortened to what trailers may hold."""
    details = error.to_status().SerializeToString()
    for kept in (4, 0):
        if len(details) <= DETAILS_BYTES_MAX:
            break
        shorter = type(error)(
            error.reason, error.message[:MESSAGE_LENGTH_MAX], violations=error.violations[:kept]
        )
        details = shorter.to_status().SerializeToString()
    return ((STATUS_DETAILS, details),)
