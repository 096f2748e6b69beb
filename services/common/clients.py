"""Calls to other services, through the sidecar's egress listener.

Each carries the caller's identity, what is left of its deadline and its trace.
Nothing here retries: Envoy does, where an rpc is safe to repeat.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import grpc

from services.common import deadline, identity, telemetry
from services.common.config import Settings
from services.common.errors import DeadlineExceeded, Unauthenticated
from services.common.identity import Caller

Metadata = tuple[tuple[str, str | bytes], ...]
Stub = TypeVar("Stub")


def channel(settings: Settings) -> "Channel":
    """Return a channel to the egress listener; one a process is enough, close it at the end."""
    return Channel(
        grpc.aio.insecure_channel(
            settings.egress,
            options=[
                ("grpc.max_receive_message_length", settings.message_bytes_max),
                ("grpc.max_send_message_length", settings.message_bytes_max),
                # Never below what the servers accept, PING_INTERVAL_MIN_MS.
                ("grpc.keepalive_time_ms", 20_000),
                ("grpc.keepalive_timeout_ms", 5_000),
                ("grpc.http2.max_pings_without_data", 0),
                ("grpc.enable_retries", 0),
                # By itself gRPC would wait up to two minutes for an Envoy that restarts.
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 1_000),
            ],
        ),
        settings.deadline_default_ms / 1000,
    )


class Channel:
    """A channel whose calls speak for the caller of the call being served.

    It wraps the four kinds of calls and not, as grpc.aio offers, intercepts
    them: an intercepted call is a task and several futures more.
    """

    def __init__(self, inner: grpc.aio.Channel, deadline_default: float) -> None:
        self._inner = inner
        self._deadline_default = deadline_default

    def stub(self, kind: Callable[[Any], Stub]) -> Stub:
        """Return a generated stub over this channel."""
        return kind(self)

    def unary_unary(self, *args: Any, **options: Any) -> Callable[..., Any]:
        """Return the rpc, as grpc.aio.Channel does; generated stubs call this."""
        return _passing_on(self._inner.unary_unary(*args, **options), self._deadline_default)

    def stream_unary(self, *args: Any, **options: Any) -> Callable[..., Any]:
        """Return the rpc, as grpc.aio.Channel does; generated stubs call this."""
        return _passing_on(self._inner.stream_unary(*args, **options), self._deadline_default)

    def unary_stream(self, *args: Any, **options: Any) -> Callable[..., Any]:
        """Return the rpc, as grpc.aio.Channel does; generated stubs call this."""
        return _passing_on(self._inner.unary_stream(*args, **options), None)

    def stream_stream(self, *args: Any, **options: Any) -> Callable[..., Any]:
        """Return the rpc, as grpc.aio.Channel does; generated stubs call this."""
        return _passing_on(self._inner.stream_stream(*args, **options), None)

    async def close(self) -> None:
        """Close the connection; calls in flight are cancelled."""
        await self._inner.close()


def _passing_on(rpc: Callable[..., Any], deadline_default: float | None) -> Callable[..., Any]:
    def call(
        request: Any = None,
        *,
        timeout: float | None = None,
        metadata: Sequence[tuple[str, str | bytes]] = (),
        **options: Any,
    ) -> Any:
        left = deadline.remaining()
        if left is None:
            left = deadline_default
        elif left == 0:
            raise DeadlineExceeded("DEADLINE_EXCEEDED", "the deadline passed before a call")
        if timeout is None or (left is not None and left < timeout):
            timeout = left
        return rpc(request, timeout=timeout, metadata=(*headers(), *metadata), **options)

    return call


def headers(caller: Caller | None = None) -> Metadata:
    """Return the metadata that names a caller, by default the current one, and the trace."""
    found: Metadata = ()
    if caller is None:
        try:
            caller = identity.current()
        except Unauthenticated:
            caller = None  # a background task; it passes headers(caller) itself
    if caller is not None:
        found = (
            (identity.TENANT_HEADER, caller.tenant_id),
            (identity.SUBJECT_HEADER, caller.subject),
            (identity.ROLES_HEADER, " ".join(caller.roles)),
        )
    trace = telemetry.traceparent()
    return found if trace is None else (*found, (telemetry.TRACEPARENT, trace))
