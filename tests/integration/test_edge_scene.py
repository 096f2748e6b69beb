"""The scene of the edge's tests: a real Envoy, and doubles of services behind it."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from interchange.instrument.v1 import (
    instrument_pb2,
    instrument_service_pb2_grpc,
)
from interchange.position.v1 import position_service_pb2, position_service_pb2_grpc
from interchange.session.v1 import session_pb2, session_service_pb2, session_service_pb2_grpc
from interchange.trade.v1 import trade_pb2, trade_service_pb2, trade_service_pb2_grpc
from interchange_envoy import binary
from interchange_envoy.edge import EdgeSettings, bootstrap
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

from services.common.errors import InterchangeError, InvalidArgument, NotFound

DESCRIPTORS = Path("gen/interchange/descriptors.binpb")
KEY = ECKey.generate_key("P-256", {"kid": "one", "use": "sig", "alg": "ES256"})
FOREIGN_KEY = ECKey.generate_key("P-256", {"kid": "one", "use": "sig", "alg": "ES256"})


def jwks() -> str:
    return json.dumps(KeySet([KEY]).as_dict(private=False))


def token(key: ECKey = KEY, **claims: Any) -> str:
    now = int(time.time())
    body = {
        "iss": "interchange",
        "aud": "interchange",
        "sub": "alice",
        "tenant_id": "acme",
        "roles": "trader auditor",
        "exp": now + 300,
        **claims,
    }
    return jwt.encode({"alg": "ES256", "kid": "one"}, body, key)


def bearer(**claims: Any) -> dict[str, str]:
    return {"authorization": f"Bearer {token(**claims)}"}


@dataclass
class Seen:
    """Calls that reached the services: method, metadata, request."""

    calls: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)

    def add(self, method: str, request: Any, context: Any) -> None:
        self.calls.append((method, dict(context.invocation_metadata()), request))

    @property
    def metadata(self) -> dict[str, str]:
        return self.calls[-1][1]


async def refuse(context: Any, error: InterchangeError) -> None:
    trailer = ("grpc-status-details-bin", error.to_status().SerializeToString())
    await context.abort(error.status, error.message, (trailer,))


class TradeDouble(trade_service_pb2_grpc.TradeServiceServicer):
    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    async def CreateTrade(self, request: Any, context: Any) -> trade_pb2.Trade:  # noqa: N802
        self.seen.add("CreateTrade", request, context)
        if request.instrument_id == "SLOW":
            await asyncio.sleep(5)
        if request.quantity.value == "-1":
            await refuse(context, InvalidArgument.of("quantity", "NOT_POSITIVE", "was -1"))
        return trade_pb2.Trade(trade_id="t-1", account_id=request.account_id, side=request.side)

    async def GetTrade(self, request: Any, context: Any) -> trade_pb2.Trade:  # noqa: N802
        self.seen.add("GetTrade", request, context)
        await refuse(context, NotFound("TRADE_NOT_FOUND", "there is no such trade"))
        raise AssertionError

    async def ListTrades(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.seen.add("ListTrades", request, context)
        if len(self.seen.calls) == 1 and request.account_id == "FLAKY":
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        count = 5000 if request.account_id == "MANY" else 0
        trade = trade_pb2.Trade(trade_id="t-1", venue="x" * 500)
        return trade_service_pb2.ListTradesResponse(trades=[trade] * count)

    async def BatchCreateTrades(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.seen.add("BatchCreateTrades", request, context)
        if request.requests and request.requests[0].account_id == "FLAKY":
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        answer = trade_service_pb2.BatchCreateTradesResponse()
        for _ in request.requests:
            error = InvalidArgument.of("price", "NOT_POSITIVE", "was 0")
            answer.results.add(error=error.to_status())
        return answer

    async def StreamTrades(self, requests: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        self.seen.add("StreamTrades", None, context)
        async for chunk in requests:
            answer = trade_service_pb2.StreamTradesResponse()
            for request in chunk.requests:
                answer.receipts.add(trade_id=request.external_id)
            yield answer


class InstrumentDouble(instrument_service_pb2_grpc.InstrumentServiceServicer):
    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    async def UpdateInstrument(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.seen.add("UpdateInstrument", request, context)
        return instrument_pb2.Instrument(instrument_id=request.instrument_id)

    async def HaltInstrument(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.seen.add("HaltInstrument", request, context)
        return instrument_pb2.Instrument(instrument_id=request.instrument_id)


class PositionDouble(position_service_pb2_grpc.PositionServiceServicer):
    async def WatchPositions(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        for _ in range(3):
            yield position_service_pb2.WatchPositionsResponse()


class SessionDouble(session_service_pb2_grpc.SessionServiceServicer):
    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    async def EndSession(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.seen.add("EndSession", request, context)
        return session_pb2.Session(session_id=request.session_id)

    async def HeartbeatInstance(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.seen.add("HeartbeatInstance", request, context)
        return session_service_pb2.HeartbeatInstanceResponse(interval_ms=5000)


@dataclass(frozen=True)
class Edge:
    """A running Envoy with its callers' tools."""

    seen: Seen
    http: aiohttp.ClientSession
    channel: grpc.aio.Channel
    egress: grpc.aio.Channel
    log: Path

    async def call(self, verb: str, path: str, **options: Any) -> tuple[int, Any]:
        """Call a REST path with a good token; return the status and the JSON."""
        options.setdefault("headers", bearer())
        async with self.http.request(verb, path, **options) as answer:
            return answer.status, await answer.json(content_type="application/json")


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@asynccontextmanager
async def services(seen: Seen) -> AsyncIterator[int]:
    """Serve the doubles, all in one process, as the laptop does."""
    server = grpc.aio.server()
    trade_service_pb2_grpc.add_TradeServiceServicer_to_server(TradeDouble(seen), server)
    instrument_service_pb2_grpc.add_InstrumentServiceServicer_to_server(
        InstrumentDouble(seen), server
    )
    position_service_pb2_grpc.add_PositionServiceServicer_to_server(PositionDouble(), server)
    session_service_pb2_grpc.add_SessionServiceServicer_to_server(SessionDouble(seen), server)
    checks = health.aio.HealthServicer()
    await checks.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    reflection.enable_server_reflection(["interchange.trade.v1.TradeService"], server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


@asynccontextmanager
async def edge(
    scratch: Path, gateway: Sequence[tuple[str, int]] = (), **changes: Any
) -> AsyncIterator[Edge]:
    """Run Envoy in front of the doubles; `account` and `ledger` have no process."""
    seen = Seen()
    edge_port, egress_port, admin_port = free_ports(3)
    async with services(seen) as port:
        here = [("127.0.0.1", port)]
        more = {"gateway": gateway} if gateway else {}
        values: dict[str, Any] = {
            "descriptors": DESCRIPTORS,
            "endpoints": dict.fromkeys(("trade", "instrument", "position", "session"), here) | more,
            "access_log": scratch / "access.log",
            **changes,
        }
        settings = EdgeSettings(
            jwks=jwks(),
            edge_port=edge_port,
            egress_port=egress_port,
            admin_port=admin_port,
            **values,
        )
        config = scratch / "envoy.json"
        config.write_text(json.dumps(bootstrap(settings)))
        command = f"-c {config} --use-dynamic-base-id --concurrency 1 --log-level error"
        command += " --file-flush-interval-msec 50"
        process = await asyncio.create_subprocess_exec(str(binary.path()), *command.split())
        url = f"http://127.0.0.1:{edge_port}"
        try:
            async with (
                aiohttp.ClientSession(url) as http,
                grpc.aio.insecure_channel(f"127.0.0.1:{edge_port}") as channel,
                grpc.aio.insecure_channel(f"127.0.0.1:{egress_port}") as egress,
            ):
                await _ready(http, process)
                yield Edge(seen, http, channel, egress, scratch / "access.log")
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


async def _ready(http: aiohttp.ClientSession, process: asyncio.subprocess.Process) -> None:
    for _ in range(100):
        assert process.returncode is None, "Envoy ended; its message is above"
        try:
            async with http.get("/health") as answer:
                if answer.status == 200:
                    return
        except aiohttp.ClientConnectionError:
            pass
        await asyncio.sleep(0.1)
    raise TimeoutError("Envoy did not open its door in 10 seconds")


async def eventually(look: Callable[[], Any], seconds: float = 5) -> Any:
    """Return what `look` finds, as soon as it finds something."""
    for _ in range(int(seconds * 20)):
        found = look()
        if found is not None:
            return found
        await asyncio.sleep(0.05)
    raise TimeoutError(f"nothing was found in {seconds} seconds")
