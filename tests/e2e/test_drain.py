"""An instance leaves by SIGTERM while callers go on: none of them notices."""

import asyncio
import json
import signal
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import grpc
import pytest
from interchange.trade.v1.trade_service_pb2_grpc import TradeServiceStub
from interchange_envoy.edge import EdgeSettings, bootstrap

from services.stack.edge import Edge
from services.stack.envoy import DESCRIPTORS, EnvoyServer
from services.stack.hosts import HostServer
from services.stack.process import Process
from services.stack.server import Port
from services.stack.stack import Stack
from services.stack.waiting import until_posted
from tests.sim.books.sent import Sent, Trade
from tests.sim.chance import Chance
from tests.sim.stream import FIFO, PATIENCE_S, breaches_of, fill, open_tenant, order

CALLERS = 36
BESIDE = 60
"""How much higher the ports of the test's own processes are."""
CALL_TIMEOUT_S = 10.0
LEAVE_S = 30.0


class SecondTrade(HostServer):
    """Another instance of the trade service, with the same surroundings."""

    def __init__(self, stack: Stack) -> None:
        index = stack.settings.groups.index(("trade",))
        super().__init__(stack.settings, index, stack.service_environment)
        self.name = "trade-2"
        self.process = Process(self.name, stack.settings.data_dir)

    @property
    def ports(self) -> Sequence[Port]:
        return [Port(port.number + BESIDE, port.setting) for port in super().ports]


class DoorOfTwo(EnvoyServer):
    """An Envoy of the test, with two instances of trade behind it."""

    name = "envoy-2"

    def __init__(self, stack: Stack, trades: Sequence[int]) -> None:
        super().__init__(stack.settings)
        self.trades = trades

    @property
    def ports(self) -> Sequence[Port]:
        return [Port(port.number + BESIDE, port.setting) for port in super().ports]

    def check(self) -> None:
        """Nothing: callers wait until it takes their calls."""

    def _configuration(self) -> str:
        edge, egress, admin = (port.number for port in self.ports)
        settings = EdgeSettings(
            descriptors=DESCRIPTORS,
            jwks=self.settings.jwks_path,
            endpoints={"trade": [("127.0.0.1", port) for port in self.trades]},
            edge_port=edge,
            egress_port=egress,
            admin_port=admin,
        )
        return json.dumps(bootstrap(settings))


@contextmanager
def door_of_two(stack: Stack) -> Iterator[tuple[DoorOfTwo, SecondTrade]]:
    second = SecondTrade(stack)
    ports = [stack.settings.service_ports["trade"], second.ports[0].number]
    door = DoorOfTwo(stack, ports)
    try:
        second.up(threading.Event())
        door.up(threading.Event())
        yield door, second
    finally:
        door.down()
        second.down()


class Callers:
    """A few dozen callers, each with one call after the other."""

    def __init__(self, edge: Edge, channel: grpc.aio.Channel, sent: Sent) -> None:
        self.failures: list[str] = []
        self._create = TradeServiceStub(channel).CreateTrade
        self._edge, self._sent = edge, sent
        self._chance = Chance(1)
        self._orders = 0
        self._ended = False
        self._answered = asyncio.Event()

    async def call_until_ended(self) -> None:
        while not self._ended:
            request = order(self._chance, self._orders)
            self._orders += 1
            try:
                trade = await self._create(
                    request, timeout=CALL_TIMEOUT_S, metadata=self._edge.metadata()
                )
            except grpc.aio.AioRpcError as error:
                self.failures.append(f"{error.code().name}: {error.details()}")
                continue
            finally:
                self._answered.set()
            name = request.account_id
            self._sent.booked(Trade(trade.trade_id, name, trade.sequence, fill(request)))

    async def go_on(self, calls: int) -> None:
        """Return when so many more calls are answered, well or not."""
        wanted = len(self._sent.trades) + calls
        async with asyncio.timeout(PATIENCE_S):
            while len(self._sent.trades) < wanted and not self.failures:
                self._answered.clear()
                await self._answered.wait()

    def end(self) -> None:
        self._ended = True


@asynccontextmanager
async def calling(stack: Stack, edge: Edge, port: int, sent: Sent) -> AsyncIterator[Callers]:
    """Let callers call for the time of the block, and then finish their calls."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        await asyncio.wait_for(channel.channel_ready(), PATIENCE_S)
        callers = Callers(edge, channel, sent)
        async with asyncio.TaskGroup() as group:
            for _ in range(CALLERS):
                group.create_task(callers.call_until_ended())
            try:
                yield callers
            finally:
                callers.end()


def served(instance: SecondTrade) -> int:
    """Return how many trades an instance has booked, as its log says."""
    return instance.process.log_path.read_text().count("TradeService/CreateTrade")


@pytest.mark.parametrize("departure", range(2))
async def test_no_call_fails_while_an_instance_leaves(stack: Stack, departure: int) -> None:
    await asyncio.to_thread(stack.up)
    tenant, sent = f"drain-{departure}", Sent(fifo=dict(FIFO))
    with door_of_two(stack) as (door, second):
        async with Edge(stack, tenant, "sim", PATIENCE_S) as edge:
            await open_tenant(edge)
            async with calling(stack, edge, door.ports[0].number, sent) as callers:
                await callers.go_on(400)

                leaving = second.process.find()
                assert leaving is not None
                leaving.send_signal(signal.SIGTERM)
                code = await asyncio.to_thread(leaving.wait, LEAVE_S)

                await callers.go_on(400)
            await until_posted(edge, sent.last(), dict.fromkeys(FIFO, 1))

        assert callers.failures == []
        assert code == 0
        assert served(second) > 0
    assert await breaches_of(stack, tenant, sent) == []
