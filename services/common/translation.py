"""What a caller sees of an exception: one InterchangeError for each.

Faults of ours carry no text of the exception: it may hold SQL, rows or secrets.
"""

import asyncpg
import grpc

from services.common import deadline
from services.common.errors import (
    Aborted,
    DeadlineExceeded,
    InterchangeError,
    Internal,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)

DATABASE_AWAY = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the first use of a connection whose server died
    asyncpg.TooManyConnectionsError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.ReadOnlySQLTransactionError,  # a primary that became a standby
    asyncpg.IdleInTransactionSessionTimeoutError,
)
CONFLICTS = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.LockNotAvailableError,
)
PASSED_ON: dict[grpc.StatusCode, tuple[type[InterchangeError], str]] = {
    grpc.StatusCode.UNAVAILABLE: (Unavailable, "DEPENDENCY_UNAVAILABLE"),
    grpc.StatusCode.CANCELLED: (Unavailable, "DEPENDENCY_UNAVAILABLE"),
    grpc.StatusCode.DEADLINE_EXCEEDED: (DeadlineExceeded, "DEADLINE_EXCEEDED"),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (ResourceExhausted, "DEPENDENCY_EXHAUSTED"),
    grpc.StatusCode.PERMISSION_DENIED: (PermissionDenied, "PERMISSION_DENIED"),
}
"""Codes of a called service that mean the same to our caller; others are faults of ours."""
TIMER_SLACK = 0.005
"""Seconds by which a timer of the event loop may ring early."""


def translate(error: Exception) -> InterchangeError:
    """Return what the caller is told about an exception that a handler raised."""
    if isinstance(error, InterchangeError):
        return error
    # TimeoutError is an OSError, and so is every failed connection: it goes first.
    if isinstance(error, (TimeoutError, asyncpg.QueryCanceledError)):
        return timed_out()
    if isinstance(error, (*DATABASE_AWAY, ConnectionError)):
        return Unavailable("DATABASE_UNAVAILABLE", "the database does not answer; try again")
    if isinstance(error, CONFLICTS):
        return Aborted("TRANSACTION_CONFLICT", "another transaction was faster; try again")
    if isinstance(error, grpc.aio.AioRpcError):
        return _called(error)
    return Internal("INTERNAL", "internal error")


def timed_out() -> InterchangeError:
    """Return the error of a time-out: the call's own, or one of what it waited for."""
    remaining = deadline.remaining()
    if remaining is not None and remaining > TIMER_SLACK:
        return Unavailable("DATABASE_UNAVAILABLE", "the database did not answer in time")
    return DeadlineExceeded("DEADLINE_EXCEEDED", "the deadline passed")


def _called(error: grpc.aio.AioRpcError) -> InterchangeError:
    kind, reason = PASSED_ON.get(error.code(), (Internal, "INTERNAL"))
    return kind(reason, "a service that was called failed")
