"""The errors of Interchange: one tree, each with its status and reason.

    InterchangeError
    ├── InvalidArgument      400  a field is wrong
    ├── FailedPrecondition   400  the state does not allow it
    ├── Unauthenticated      401  no caller
    ├── PermissionDenied     403  the caller may not
    ├── NotFound             404  nothing there, or not the caller's
    ├── AlreadyExists        409  taken, or the key was used for something else
    ├── Aborted              409  somebody else was faster; read and try again
    ├── ResourceExhausted    429  a limit is reached
    ├── Internal             500  a fault of ours
    ├── Unavailable          503  try again
    └── DeadlineExceeded     504  not in time

On the wire each is a google.rpc.Status with an ErrorInfo (AIP-193) and, where
fields are to blame, a BadRequest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import grpc
from google.protobuf.any_pb2 import Any
from google.rpc import error_details_pb2, status_pb2

DOMAIN = "interchange"


@dataclass(frozen=True, slots=True)
class Violation:
    """One wrong field: its path in the request and what was expected."""

    field: str
    description: str
    reason: str = ""


class InterchangeError(Exception):
    """Base of all errors that a caller sees.

    `reason` is UPPER_SNAKE and stable; `metadata` names what was involved.
    """

    status: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        violations: Sequence[Violation] = (),
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.violations = tuple(violations)
        self.metadata = dict(metadata or {})

    def to_status(self) -> status_pb2.Status:
        """Return the error as google.rpc.Status."""
        status = status_pb2.Status(code=self.status.value[0], message=self.message)
        info = error_details_pb2.ErrorInfo(
            reason=self.reason, domain=DOMAIN, metadata=self.metadata
        )
        status.details.append(_packed(info))
        if self.violations:
            bad_request = error_details_pb2.BadRequest()
            for violation in self.violations:
                bad_request.field_violations.add(
                    field=violation.field,
                    description=violation.description,
                    reason=violation.reason or self.reason,
                )
            status.details.append(_packed(bad_request))
        return status


def _packed(detail: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest) -> Any:
    packed = Any()
    packed.Pack(detail)
    return packed


class InvalidArgument(InterchangeError):
    """A field of the request is wrong."""

    status = grpc.StatusCode.INVALID_ARGUMENT

    @classmethod
    def of(cls, field: str, reason: str, description: str) -> "InvalidArgument":
        """Return the error of one wrong field."""
        violation = Violation(field, description, reason)
        return cls(reason, f"{field}: {description}", violations=[violation])


class FailedPrecondition(InterchangeError):
    """The state of what is named does not allow it."""

    status = grpc.StatusCode.FAILED_PRECONDITION


class Unauthenticated(InterchangeError):
    """The call names no caller."""

    status = grpc.StatusCode.UNAUTHENTICATED


class PermissionDenied(InterchangeError):
    """The caller may not do this."""

    status = grpc.StatusCode.PERMISSION_DENIED


class NotFound(InterchangeError):
    """There is no such thing, or it is not the caller's: the two look alike."""

    status = grpc.StatusCode.NOT_FOUND


class AlreadyExists(InterchangeError):
    """The name is taken, or the idempotency key was used for something else."""

    status = grpc.StatusCode.ALREADY_EXISTS


class Aborted(InterchangeError):
    """Somebody else changed it first; read it again."""

    status = grpc.StatusCode.ABORTED


class ResourceExhausted(InterchangeError):
    """A limit is reached."""

    status = grpc.StatusCode.RESOURCE_EXHAUSTED


class Internal(InterchangeError):
    """A fault of ours."""

    status = grpc.StatusCode.INTERNAL


class Unavailable(InterchangeError):
    """Not now; the same call may succeed later."""

    status = grpc.StatusCode.UNAVAILABLE


class DeadlineExceeded(InterchangeError):
    """Not done before the caller's deadline."""

    status = grpc.StatusCode.DEADLINE_EXCEEDED
