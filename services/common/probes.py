"""Probes: /health and /metrics over plain HTTP, for the kubelet and Prometheus.

Forty lines of asyncio and no web framework: two paths, GET only, one request a
connection, each read bounded in time and size.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

Check = Callable[[], Awaitable[None]]

REQUEST_BYTES_MAX = 8192
READ_TIMEOUT = 5.0
CHECK_TIMEOUT = 2.0
"""Seconds a check may take; a kubelet waits no longer."""
CONNECTIONS_MAX = 64
JSON = "application/json"
_PHRASES = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    503: "Service Unavailable",
}


class Probes:
    """Answers liveness, readiness and metrics."""

    def __init__(self) -> None:
        self.port = 0
        self._checks: dict[str, Check] = {}
        self._server: asyncio.Server | None = None
        self._slots = asyncio.Semaphore(CONNECTIONS_MAX)

    def add(self, name: str, check: Check) -> None:
        """Ask `check()` for readiness; it raises while not ready."""
        self._checks[name] = check

    async def start(self, address: str) -> None:
        """Listen on `host:port`; port 0 takes a free one."""
        host, _, port = address.rpartition(":")
        self._server = await asyncio.start_server(
            self._serve, host.strip("[]"), int(port), limit=REQUEST_BYTES_MAX
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()

    async def readiness(self) -> tuple[bool, dict[str, str]]:
        """Return whether every check passes, and what each says."""
        results = await asyncio.gather(*(_result(check) for check in self._checks.values()))
        return all(result == "ok" for result in results), dict(
            zip(self._checks, results, strict=True)
        )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(TimeoutError, ConnectionError, asyncio.IncompleteReadError):
            async with self._slots, asyncio.timeout(READ_TIMEOUT):
                status, kind, body = await self._answer(reader)
                writer.write(
                    f"HTTP/1.1 {status} {_PHRASES[status]}\r\nContent-Type: {kind}\r\n"
                    f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
                    + body
                )
                await writer.drain()
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[int, str, bytes]:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return 400, JSON, b"{}"
        words = head.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3:
            return 400, JSON, b"{}"
        if words[0] != b"GET":
            return 405, JSON, b"{}"
        path = words[1].split(b"?", 1)[0]
        if path == b"/metrics":
            return 200, CONTENT_TYPE_LATEST, generate_latest()
        if path == b"/health/liveness":
            return 200, JSON, b'{"status":"ok","checks":{}}'
        if path in (b"/health", b"/health/readiness"):
            ready, checks = await self.readiness()
            body = {"status": "ok" if ready else "failing", "checks": checks}
            return 200 if ready else 503, JSON, json.dumps(body).encode()
        return 404, JSON, b"{}"


async def _result(check: Check) -> str:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT):
            await check()
    except TimeoutError:
        return "timed out"
    except Exception as error:
        return str(error)[:200] or type(error).__name__
    return "ok"
