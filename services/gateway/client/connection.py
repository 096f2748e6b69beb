"""One WebSocket of a client."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec
from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from services.gateway.allowance import Allowance
from services.gateway.codec import decode_answer, encode
from services.gateway.frames_in import ClientFrame
from services.gateway.frames_out import ServerFrame

ABNORMAL = 1006
NO_CODE = 1005
CONNECT_TIMEOUT_S = 10.0


class Ending(NamedTuple):
    """How a connection ended."""

    code: int
    reason: str


class Connection(WSListener):
    """A socket that is open: frames in, frames out at the pace that the gateway takes."""

    def __init__(self, receive: Callable[[ServerFrame], None]) -> None:
        self._receive = receive
        self._transport: WSTransport | None = None
        self._allowance: Allowance | None = None
        self._waiting: deque[ClientFrame] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self.heard_at = time.monotonic()
        self.held = False
        """True while it is not read."""
        self.ended: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()

    @classmethod
    async def open(
        cls, url: str, headers: Mapping[str, str], receive: Callable[[ServerFrame], None]
    ) -> "Connection":
        """Connect. Raises OSError, TimeoutError or picows.WSError."""
        connection = cls(receive)
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await ws_connect(lambda: connection, url, extra_headers=headers)
        return connection

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Begin."""
        self._transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take a frame."""
        self.heard_at = time.monotonic()
        if frame.msg_type == WSMsgType.TEXT:
            try:
                answer = decode_answer(frame.get_payload_as_memoryview())
            except msgspec.DecodeError:
                self.abort("NOT_JSON")
                return
            if answer is not None:
                self._receive(answer)
        elif frame.msg_type == WSMsgType.CLOSE:
            data = frame.get_payload_as_bytes()
            code = int.from_bytes(data[:2], "big") or NO_CODE
            self._end(code, data[2:].decode(errors="replace"))
            transport.send_close(WSCloseCode.OK)
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """End."""
        self._end(ABNORMAL, "")

    def pause_writing(self) -> None:
        """Let it be: what waits is bounded by what the client wants answered."""

    def resume_writing(self) -> None:
        """Let it be."""

    def keep_pace(self, frames_per_second: int) -> None:
        """Send at most so many frames a second from now on."""
        pace = max(1.0, 0.9 * frames_per_second)
        self._allowance = Allowance(pace, frames_per_second)

    def send(self, frame: ClientFrame) -> None:
        """Send a frame, now or as soon as the pace allows; do nothing once ended."""
        self._waiting.append(frame)
        if self._timer is None:
            self._flush()

    def hold(self, *, reading: bool) -> None:
        """Read on, or stop reading: then the gateway holds back."""
        if self._transport is None or self.ended.done():
            return
        self.held = not reading
        if reading:
            self.heard_at = time.monotonic()
            self._transport.underlying_transport.resume_reading()
        else:
            self._transport.underlying_transport.pause_reading()

    def abort(self, reason: str) -> None:
        """Drop the connection at once."""
        self._end(ABNORMAL, reason)
        if self._transport is not None:
            self._transport.disconnect(graceful=False)

    def _flush(self) -> None:
        self._timer = None
        while self._waiting and not self.ended.done():
            if self._allowance is not None and not self._allowance.take(time.monotonic()):
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(0.02, self._flush)
                return
            assert self._transport is not None
            self._transport.send(WSMsgType.TEXT, encode(self._waiting.popleft()))

    def _end(self, code: int, reason: str) -> None:
        if not self.ended.done():
            self.ended.set_result(Ending(code, reason))
        self._waiting.clear()
