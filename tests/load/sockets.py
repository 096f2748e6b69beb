"""Many sockets open at once on one gateway, through Envoy: what each costs in memory."""

import asyncio
import resource
import sys
import time
from collections.abc import Callable

import psutil
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from services.gateway.client import Client
from services.gateway.codec import decode_answer, encode
from services.gateway.frames_in import ClientFrame, Hello, Ping, Subscribe
from services.gateway.frames_out import Error, Pong, ServerFrame, Subscribed, Welcome
from services.stack.stack import Stack
from tests.load import table
from tests.load.scene import PATIENCE_S, Scene, Wrong
from tests.load.table import Figure, Limit, Report

SOCKETS = 5_000
QUICK_SOCKETS = 1_000
AT_ONCE = 200
CONVERSATIONS = 100
"""Each socket follows one of these."""
TENANT = "sockets"
SETTLE_S = 3.0
KIB_MAX = Limit(most=40)


class Plug(WSListener):
    """A client that keeps its socket open."""

    def __init__(self) -> None:
        self.answered: asyncio.Future[ServerFrame] = asyncio.get_running_loop().create_future()
        self.transport: WSTransport | None = None
        self._wanted: type[ServerFrame] = Welcome

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Begin."""
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take an answer."""
        if frame.msg_type == WSMsgType.TEXT and not self.answered.done():
            answer = decode_answer(frame.get_payload_as_memoryview())
            if isinstance(answer, self._wanted | Error):
                self.answered.set_result(answer)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """End."""
        if not self.answered.done():
            self.answered.set_exception(Wrong("a socket was closed"))
            self.answered.exception()

    async def ask(self, frame: ClientFrame, wanted: type[ServerFrame]) -> None:
        """Send a frame and wait for its answer."""
        self._wanted, self.answered = wanted, asyncio.get_running_loop().create_future()
        assert self.transport is not None
        self.transport.send(WSMsgType.TEXT, encode(frame))
        async with asyncio.timeout(PATIENCE_S):
            answer = await self.answered
        if isinstance(answer, Error):
            raise Wrong(f"{type(frame).__name__} was refused: {answer.reason}")


def run(scene: Scene) -> Report:
    """Measure."""
    scene.start()
    return uvloop.run(_run(scene, QUICK_SOCKETS if scene.quick else SOCKETS))


async def _run(scene: Scene, count: int) -> Report:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gateway = scene.stack.server("gateway").process.find()
    if gateway is None:
        raise Wrong("the gateway does not run")
    url = scene.stack.edge_url.replace("http", "ws", 1) + "/v1/ws"
    # Supervisors may follow what is not theirs, so that few conversations do for all.
    tokens = [scene.stack.token(TENANT, ["supervisor"], f"s{number}") for number in range(count)]
    conversations = await _conversations(url, tokens[0])
    before = await _settled(gateway)
    began = time.perf_counter()
    plugs: list[Plug] = []
    try:
        await _open(url, tokens, plugs)
        opened_s = time.perf_counter() - began
        bare = (await _settled(gateway) - before) / count
        scene.say(f"{count} sockets in {opened_s:.1f} s, {bare:.1f} KiB each")
        await _each(
            plugs,
            lambda index: Subscribe(conversations[index % CONVERSATIONS]),
            Subscribed,
        )
        full = (await _settled(gateway) - before) / count
        scene.say(f"{full:.1f} KiB each when it follows a conversation")
        began = time.perf_counter()
        await _each(plugs, lambda index: Ping(), Pong)
        round_s = time.perf_counter() - began
        scene.say(f"a ping of all in {round_s:.2f} s")
    finally:
        for plug in plugs:
            if plug.transport is not None:
                plug.transport.disconnect(graceful=False)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    how = f"{count} sockets through Envoy on one gateway, growth of its resident memory"
    return Report(
        "sockets",
        [
            Figure("memory a socket", bare, "KiB", how, KIB_MAX),
            Figure("memory a socket that follows", full, "KiB", how, KIB_MAX),
            Figure("sockets opened", count / opened_s, "/s", "handshake, hello and session"),
        ],
    )


async def _conversations(url: str, token: str) -> list[str]:
    async with Client(url, token) as client:
        return [await client.start(follow=False) for _ in range(CONVERSATIONS)]


async def _open(url: str, tokens: list[str], plugs: list[Plug]) -> None:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(token: str) -> None:
        async with gate:
            plug = Plug()
            await ws_connect(
                lambda: plug,
                url,
                extra_headers={"Authorization": f"Bearer {token}"},
                websocket_handshake_timeout=PATIENCE_S,
                read_buffer_init_size=2048,
            )
            plugs.append(plug)
            await plug.ask(Hello(client="load"), Welcome)

    await asyncio.gather(*map(one, tokens))


async def _each(
    plugs: list[Plug], frame: Callable[[int], ClientFrame], wanted: type[ServerFrame]
) -> None:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(index: int, plug: Plug) -> None:
        async with gate:
            await plug.ask(frame(index), wanted)

    await asyncio.gather(*(one(index, plug) for index, plug in enumerate(plugs)))


async def _settled(process: psutil.Process) -> float:
    """Return the resident memory in KiB, once the last batches are over."""
    await asyncio.sleep(SETTLE_S)
    return float(process.memory_info().rss) / 1024


if __name__ == "__main__":
    # By itself it measures the stack that runs; among the others, one of their own.
    print(table.table([run(Scene(Stack(), quick="--quick" in sys.argv))]))
