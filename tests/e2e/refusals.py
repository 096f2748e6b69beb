"""What a refusal says, read alike from gRPC and REST."""

from typing import Any, NamedTuple

import grpc
from google.rpc import error_details_pb2, status_pb2

DETAILS = "grpc-status-details-bin"


class Refusal(NamedTuple):
    """Code of gRPC, reason and the field that is to blame, empty when none is."""

    code: int
    reason: str
    field: str


def of_status(status: status_pb2.Status) -> Refusal:
    """Read a google.rpc.Status."""
    info = error_details_pb2.ErrorInfo()
    bad = error_details_pb2.BadRequest()
    for detail in status.details:
        # Unpacks what it is, and leaves the others alone.
        _ = detail.Unpack(info) or detail.Unpack(bad)
    field = bad.field_violations[0].field if bad.field_violations else ""
    return Refusal(status.code, info.reason, field)


def of_error(error: grpc.aio.AioRpcError) -> Refusal:
    """Read the error of a gRPC call."""
    trailers = dict(error.trailing_metadata() or ())
    if DETAILS not in trailers:
        return Refusal(error.code().value[0], "", "")
    return of_status(status_pb2.Status.FromString(trailers[DETAILS]))


def of_json(problem: Any) -> Refusal:
    """Read the JSON of a REST call."""
    info, *rest = problem["details"]
    assert info["domain"] == "interchange"
    field = rest[0]["fieldViolations"][0]["field"] if rest else ""
    return Refusal(problem["code"], info["reason"], field)
