"""What a client is told of a failure: the error of a service keeps its reason."""

import grpc
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2

from services.common.errors import InterchangeError
from services.common.translation import translate
from services.gateway.codec import BadFrame
from services.gateway.frames_out import Error

DETAILS = "grpc-status-details-bin"
AWAY = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})


def refusal(error: Exception, ref: str = "") -> Error:
    """Return the frame that tells of an exception."""
    if isinstance(error, BadFrame):
        return Error("INVALID_ARGUMENT", error.reason, error.field, error.message, ref=error.ref)
    if isinstance(error, grpc.aio.AioRpcError):
        return _of_call(error, ref)
    told = translate(error)
    field = told.violations[0].field if told.violations else ""
    return Error(told.status.name, told.reason, field, told.message, ref=ref)


def of_status(status: status_pb2.Status, ref: str = "") -> Error:
    """Return the frame that tells of one result in a batch."""
    code = code_pb2.Code.Name(status.code) if status.code in code_pb2.Code.values() else "UNKNOWN"
    reason, field = code, ""
    info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        if detail.Unpack(info):
            reason = info.reason
        elif detail.Unpack(bad_request) and bad_request.field_violations:
            field = bad_request.field_violations[0].field
    return Error(code, reason, field, status.message, ref=ref)


def is_missing(error: Exception) -> bool:
    """Tell whether a service said that there is no such thing, or that it is not the caller's."""
    return isinstance(error, grpc.aio.AioRpcError) and error.code() is grpc.StatusCode.NOT_FOUND


def refused(kind: type[InterchangeError], reason: str, message: str, ref: str = "") -> Error:
    """Return the frame of a refusal of the gateway's own."""
    return Error(kind.status.name, reason, "", message, ref=ref)


def _of_call(error: grpc.aio.AioRpcError, ref: str) -> Error:
    trailers = error.trailing_metadata() or ()
    for key, value in trailers:
        if key == DETAILS and isinstance(value, bytes):
            try:
                return of_status(status_pb2.Status.FromString(value), ref)
            except DecodeError:
                break
    if error.code() in AWAY:
        text = "a service does not answer; try again"
        return Error("UNAVAILABLE", "DEPENDENCY_UNAVAILABLE", "", text, ref=ref)
    told = translate(error)
    return Error(told.status.name, told.reason, "", told.message, ref=ref)
