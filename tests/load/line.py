"""WebSockets through the door, as lean as can be: callers share the cores with what is measured."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from services.gateway import frames_in, frames_out
from services.stack.stack import Stack
from tests.load.scene import Wrong

TIMEOUT_S = 30.0
_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(frames_out.AnyServerFrame)

Hear = Callable[["Line", Any], None]


class Line(WSListener):  # type: ignore[misc]
    """One socket of a customer or an agent; `hear` is called with each frame of news."""

    def __init__(self, subject: str, hear: Hear) -> None:
        self.subject = subject
        self._hear = hear
        self._asked: dict[str, asyncio.Future[Any]] = {}
        self._count = 0
        self._transport: WSTransport | None = None
        self.closed: str = ""

    @classmethod
    async def open(cls, stack: Stack, tenant: str, role: str, subject: str, hear: Hear) -> "Line":
        """Connect and say hello."""
        token = stack.token(tenant, [role], subject)
        url = f"ws://127.0.0.1:{stack.settings.edge_port}/v1/ws"
        _, line = await ws_connect(
            lambda: cls(subject, hear),
            url,
            extra_headers={"authorization": f"Bearer {token}"},
            websocket_handshake_timeout=TIMEOUT_S,
            logger_name="line",
        )
        assert isinstance(line, cls)
        await line.ask(frames_in.Hello(client="bench"))
        return line

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Keep the way out."""
        self._transport = transport

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Fail who waits."""
        self._transport = None
        for future in self._asked.values():
            if not future.done():
                future.set_exception(Wrong(f"socket of {self.subject} closed: {self.closed}"))

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Hand a frame to who waits for it, else to `hear`."""
        if frame.msg_type == WSMsgType.CLOSE:
            self.closed = f"{frame.get_close_code()} {frame.get_close_message()}"
            return
        if frame.msg_type != WSMsgType.TEXT:
            return
        told = _DECODER.decode(frame.get_payload_as_memoryview())
        future = self._asked.pop(told.ref, None) if getattr(told, "ref", "") else None
        if future is None:
            self._hear(self, told)
        elif not future.done():
            future.set_result(told)

    def say(self, frame: frames_in.ClientFrame) -> None:
        """Send a frame."""
        if self._transport is None:
            raise Wrong(f"socket of {self.subject} closed: {self.closed}")
        self._transport.send(WSMsgType.TEXT, _ENCODER.encode(frame))

    async def ask(self, frame: frames_in.ClientFrame) -> Any:
        """Send a frame and return its answer; raises Wrong when it is an error."""
        self._count += 1
        frame.ref = str(self._count)
        future = asyncio.get_running_loop().create_future()
        self._asked[frame.ref] = future
        self.say(frame)
        async with asyncio.timeout(TIMEOUT_S):
            answer = await future
        if isinstance(answer, frames_out.Error):
            raise Wrong(f"{type(frame).__name__} was refused: {answer.reason} {answer.message}")
        return answer

    def close(self) -> None:
        """Leave."""
        if self._transport is not None:
            self._transport.disconnect()
