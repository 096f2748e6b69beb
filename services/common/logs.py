"""Logs: one JSON object a line on stdout, with trace, tenant and no secrets."""

import json
import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

import structlog
from pydantic import SecretStr

from services.common import identity, telemetry
from services.common.errors import Unauthenticated

REDACTED = "[redacted]"
_SECRET = re.compile(r"authorization|password|passwd|secret|token|cookie|credential", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(://[^/\s:@]*):[^/\s@]+@")
_encode = json.JSONEncoder(default=str, separators=(",", ":")).encode

Event = MutableMapping[str, Any]


def configure(level: str, service: str) -> None:
    """Write the logs of structlog and of the standard library as JSON to stdout."""
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        _surroundings(service),
        structlog.processors.format_exc_info,
        redact,
    ]
    structlog.configure(
        processors=[*shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    logging.basicConfig(handlers=[handler], level=number, force=True)
    # asyncio's debug lines and grpc's per call are noise even at DEBUG.
    for noisy in ("asyncio", "grpc", "opentelemetry"):
        logging.getLogger(noisy).setLevel(max(number, logging.INFO))


def redact(_: Any, __: str, event: Event) -> Event:
    """Replace what is secret by its key, SecretStr values and passwords in URLs."""
    for key, value in event.items():
        event[key] = REDACTED if _is_secret(key) else _clean(value)
    return event


def render(_: Any, __: str, event: Event) -> str:
    """Return the event as one line of JSON."""
    return _encode(event)


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return _URL_PASSWORD.sub(r"\1:" + REDACTED + "@", value) if "://" in value else value
    if isinstance(value, SecretStr):
        return REDACTED
    if isinstance(value, Mapping):
        return {k: REDACTED if _is_secret(str(k)) else _clean(v) for k, v in value.items()}
    return value


@lru_cache(maxsize=1024)
def _is_secret(key: str) -> bool:
    return _SECRET.search(key) is not None


def _surroundings(service: str) -> Any:
    """Return the processor that names the service, the trace and the tenant."""

    def add(_: Any, __: str, event: Event) -> Event:
        event["service"] = service
        if trace := telemetry.trace_id():
            event["trace_id"] = trace
        if "tenant" not in event:
            with suppress(Unauthenticated):  # a background task has no caller
                event["tenant"] = identity.current().tenant_id
        return event

    return add
