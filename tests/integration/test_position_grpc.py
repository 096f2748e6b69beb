"""The whole position service: events through Kafka, answers over gRPC."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import grpc
import pytest
from interchange.position.v1 import position_service_pb2 as pb
from interchange.position.v1.position_service_pb2_grpc import PositionServiceStub

from services.common.host import Host
from services.common.relay import Relay
from services.position.__main__ import wire
from services.stack import topics
from services.stack.stack import Stack
from tests.integration.test_position_scene import Scene
from tests.unit.test_position_scene import Feed

PARTITIONS = 3
SETTLING_S = 3.0
"""After a topic is created, its partitions may be without a leader for a moment."""


@dataclass
class Service:
    """The service as its callers see it, and the events that it follows."""

    scene: Scene
    host: Host
    stub: Any

    def call(self, rpc: str, request: object, tenant: str = "demo") -> Any:
        headers = (
            ("x-interchange-tenant", tenant),
            ("x-interchange-subject", "ann"),
            ("x-interchange-roles", "trader"),
        )
        return getattr(self.stub, rpc)(request, metadata=headers, timeout=30)


@pytest.fixture
async def service(servers: Stack) -> AsyncIterator[Service]:
    scene = await Scene.open(servers)
    prefix = f"{uuid4().hex[:8]}-"
    names = topics.names(["account", "trade", "position"], prefix)
    topics.create(servers.kafka_bootstrap, names, PARTITIONS, 1)
    await asyncio.sleep(SETTLING_S)
    settings = scene.settings.model_copy(
        update={
            "kafka_bootstrap": servers.kafka_bootstrap,
            "kafka_topic_prefix": prefix,
            "listen": "127.0.0.1:0",
            "drain_notice_ms": 0,
        }
    )
    host = Host(settings)
    await wire(host)
    for name in ("trade", "account"):
        host.add_task(f"{name} relay", Relay(settings, name, 0).run)
    await host.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{host.port}") as channel:
        yield Service(scene, host, PositionServiceStub(channel))
    if not host.draining.is_set():
        await host.leave()
    await scene.database.close()


async def test_trade_reaches_a_reader_who_waits_for_it(service: Service) -> None:
    feed = Feed()
    await service.scene.store([feed.account(), feed.trade(100, 100_000), feed.trade(-40, 50_000)])

    position = await service.call(
        "GetPosition", pb.GetPositionRequest(account_id="A", instrument_id="XYZ", min_sequence=2)
    )

    assert position.quantity.value == "60"
    assert (position.open_cost.units, position.average_cost.value) == (600, "10")
    assert (position.realized_pnl.units, position.sequence) == (100, 2)
    mark = await service.call(
        "GetPositionWatermark",
        pb.GetPositionWatermarkRequest(account_id="A", min_transfer_sequence=1),
    )
    assert (mark.trade_sequence, mark.transfer_sequence) == (2, 1)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await service.call(
            "GetPosition", pb.GetPositionRequest(account_id="A", instrument_id="XYZ"), "other"
        )
    assert raised.value.code() == grpc.StatusCode.NOT_FOUND


async def test_lists_give_every_row_over_their_pages(service: Service) -> None:
    feed = Feed()
    names = [f"I{n:02d}" for n in range(25)]
    await service.scene.store([feed.trade(1, 10, instrument=name) for name in names])
    await service.scene.store([feed.trade(1, 10, instrument="I00") for _ in range(4)])

    found: list[str] = []
    request = pb.ListPositionsRequest(account_id="A", page_size=10, min_sequence=29)
    while not found or request.page_token:
        page = await service.call("ListPositions", request)
        found += [position.instrument_id for position in page.positions]
        request.page_token = page.next_page_token

    history = pb.ListPositionChangesRequest(account_id="A", instrument_id="I00", page_size=3)
    newest = await service.call("ListPositionChanges", history)
    history.page_token = newest.next_page_token
    oldest = await service.call("ListPositionChanges", history)
    assert found == names
    assert [c.sequence for c in (*newest.changes, *oldest.changes)] == [29, 28, 27, 26, 1]
    assert oldest.next_page_token == ""


async def test_watch_follows_trades_and_ends_in_good_order(service: Service) -> None:
    feed = Feed()
    stream = service.call("WatchPositions", pb.WatchPositionsRequest(account_id="A"))
    assert list((await stream.read()).positions) == []

    await service.scene.store([feed.trade(5, 10)])
    (changed,) = (await stream.read()).positions
    await service.host.leave()

    assert changed.quantity.value == "5"
    assert (await stream.read()).end
    assert await stream.read() == grpc.aio.EOF
