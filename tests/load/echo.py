"""A trade service that does nothing: `python -m tests.load.echo PORT`.

It answers each chunk with as many receipts and each trade with a trade, so what
it takes is what gRPC, Envoy and Python take without any work: the limit.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import uvloop
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from interchange.trade.v1 import trade_service_pb2 as pb
from interchange.trade.v1.trade_pb2 import Trade
from interchange.trade.v1.trade_service_pb2_grpc import (
    TradeServiceServicer,
    add_TradeServiceServicer_to_server,
)

from services.common.ids import Uuid7
from services.stack.stack import Stack
from tests.load import scene

DATA = scene.ROOT / ".interchange-bench-echo"
PORT_OFFSET_MORE = 600
"""Its Envoy's ports lie so much above those of the benchmark's stack."""
START_S = 20.0


class Echo(TradeServiceServicer):
    """Answers as if it had booked."""

    def __init__(self) -> None:
        self._ids = Uuid7()

    async def CreateTrade(self, request: pb.CreateTradeRequest, context: Any) -> Trade:  # noqa: N802
        """Answer with a trade of the usual size."""
        (name,) = self._ids.batch(1, time.time_ns() // 1000)
        return Trade(
            trade_id=name,
            account_id=request.account_id,
            sequence=1,
            version=1,
            instrument_id=request.instrument_id,
            side=request.side,
            quantity=request.quantity,
            price=request.price,
            trade_time=request.trade_time,
            venue=request.venue,
            create_time=request.trade_time,
        )

    async def StreamTrades(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.StreamTradesRequest], context: Any
    ) -> AsyncIterator[pb.StreamTradesResponse]:
        """Answer each chunk with receipts of the usual size."""
        async for chunk in request_iterator:
            names = self._ids.batch(len(chunk.requests), time.time_ns() // 1000)
            receipts = [pb.TradeReceipt(trade_id=name, sequence=1) for name in names]
            yield pb.StreamTradesResponse(receipts=receipts)


@contextmanager
def echoing(port_offset: int) -> Iterator[Stack]:
    """Run it behind an Envoy of the same configuration; give the stack of that Envoy."""
    stack = Stack(scene.settings(DATA, port_offset + PORT_OFFSET_MORE, hosts="trade"))
    stack.down(wipe=True)
    port = stack.settings.service_ports["trade"]
    process = subprocess.Popen([sys.executable, "-m", "tests.load.echo", str(port)], cwd=scene.ROOT)
    try:
        ends = time.monotonic() + START_S
        while not scene.listens(port):
            if process.poll() is not None or time.monotonic() > ends:
                raise scene.Wrong("the echo did not start")
            time.sleep(0.1)
        stack.up(only=["envoy"])
        yield stack
    finally:
        stack.down(wipe=True)
        process.terminate()
        process.wait()


async def serve(port: int) -> None:
    """Serve until ended."""
    server = grpc.aio.server()
    # The rpcs that it lacks answer UNIMPLEMENTED.
    add_TradeServiceServicer_to_server(Echo(), server)  # type: ignore[abstract]
    # Envoy sends nothing to a service that does not say it is well.
    checks = health.aio.HealthServicer()
    await checks.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
