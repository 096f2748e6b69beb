"""The access log: one JSON object a call."""

from .config import Config, extension

FIELDS: Config = {
    "time": "%START_TIME%",
    "listener": None,
    "trace_id": "%TRACE_ID%",
    "traceparent": "%REQ(TRACEPARENT)%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    # Transcoding rewrites method and path (trap 7). Queries stay out of the log:
    # they may hold a token.
    "method": "%REQ(X-ENVOY-ORIGINAL-METHOD?:METHOD)%",
    "path": "%PATH(NQ:ORIG_OR_PATH)%",
    "protocol": "%PROTOCOL%",
    "status": "%RESPONSE_CODE%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "flags": "%RESPONSE_FLAGS%",
    "grpc_status": "%GRPC_STATUS%",
    "duration_ms": "%DURATION%",
    "upstream_cluster": "%UPSTREAM_CLUSTER%",
    "upstream": "%UPSTREAM_HOST%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "tenant": "%REQ(X-INTERCHANGE-TENANT)%",
    "subject": "%REQ(X-INTERCHANGE-SUBJECT)%",
}


def access_log(listener: str, path: str | None, *, failures_only: bool = False) -> Config:
    """Return the log of a listener, to a file or, without a path, to standard output."""
    log_format = {
        "json_format": {**FIELDS, "listener": listener},
        "omit_empty_values": True,
    }
    if path is None:
        log = extension(
            "envoy.access_loggers.stdout",
            "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
            log_format=log_format,
        )
    else:
        log = extension(
            "envoy.access_loggers.file",
            "envoy.extensions.access_loggers.file.v3.FileAccessLog",
            path=path,
            log_format=log_format,
        )
    if failures_only:
        log["filter"] = {"grpc_status_filter": {"statuses": ["OK"], "exclude": True}}
    return log
