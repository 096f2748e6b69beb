"""One socket: its frames in and out, its limits and its end.

What a frame means is decided elsewhere (`conduct`); here is what holds for all.
"""

import asyncio
import time
from enum import Enum, auto
from typing import TYPE_CHECKING, cast

import structlog
from interchange.session.v1.session_service_pb2 import AttachResult
from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

from services.common.errors import (
    FailedPrecondition,
    InvalidArgument,
    ResourceExhausted,
    Unauthenticated,
)
from services.common.identity import Caller
from services.common.tokens import Claims
from services.gateway import frames_out, metrics
from services.gateway.codec import BadFrame, decode, encode, ref_of
from services.gateway.frames_in import Hello
from services.gateway.intake import FragmentsMixed, Intake
from services.gateway.refusals import refusal, refused
from services.gateway.subscription import Subscription

if TYPE_CHECKING:
    from services.gateway.gateway import Gateway

WARNING_S = 60.0
"""How long before its token runs out a client is told."""
FAREWELL_S = 2.0
"""How long a client may take to answer the close of a socket."""
ROOM_BYTES = 256 * 1024
"""Bytes on their way from which on history waits."""
PATIENCE_S = 20.0
"""How long history waits for a client that does not read."""
NOBODY = Caller("", "", ())
log = structlog.get_logger()


class State(Enum):
    """How far a socket is."""

    NEW = auto()
    """Before `hello`."""
    ATTACHING = auto()
    """Its session is being opened."""
    OPEN = auto()
    CLOSED = auto()


NOT_ATTACHED = {"PERMISSION_DENIED": 4403, "SESSION_NOT_FOUND": 4410}
"""Close codes by the reason why there is no session; else the client comes back with it."""


class Socket(WSListener):
    """One client. Everything here happens on the event loop, one call at a time."""

    __slots__ = (
        "_gateway",
        "_heard_at",
        "_hello_ref",
        "_intake",
        "_opened_at",
        "_room",
        "_transport",
        "_warned",
        "caller",
        "expire_s",
        "problem",
        "session_id",
        "state",
        "subscriptions",
    )

    def __init__(self, gateway: "Gateway") -> None:
        settings = gateway.settings
        self._gateway = gateway
        self._transport: WSTransport | None = None
        self._intake = Intake(
            settings.gateway_frame_bytes_max,
            settings.gateway_frames_per_second,
            settings.gateway_frames_burst,
        )
        self._opened_at = self._heard_at = time.monotonic()
        self._hello_ref = ""
        self._room: asyncio.Future[None] | None = None
        self._warned = False
        self.caller = NOBODY
        self.expire_s = 0
        self.session_id = ""
        self.state = State.NEW
        self.subscriptions: dict[str, Subscription] = {}
        self.problem: Unauthenticated | None = None
        """What was wrong with the token of the handshake."""

    @property
    def closed(self) -> bool:
        """True once nothing reaches the client any more."""
        return self.state is State.CLOSED

    def identify(self, claims: Claims) -> None:
        """Take who the client is, or that he is so for longer."""
        self.caller, self.expire_s, self._warned = claims.caller, claims.expire_s, False

    # What picows calls.

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Begin."""
        self._transport = transport
        transport.underlying_transport.set_write_buffer_limits(high=ROOM_BYTES)
        self._gateway.entered(self)
        if self.problem is not None:
            self.reject(self.problem)
            return
        self._plan(self._opened_at + self._gateway.settings.gateway_hello_timeout_ms / 1000)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take what came; nothing that a client sends may end in an exception."""
        try:
            kind = frame.msg_type
            if kind == WSMsgType.TEXT and frame.fin and self._intake.whole:
                self._receive(frame.get_payload_as_memoryview(), frame.payload_size)
            else:
                self._unusual(transport, frame)
        except Exception as error:
            log.exception("frame failed")
            self.send(encode(refusal(error)))

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """End."""
        self._leave(ended=False)
        self._gateway.wheel.drop(self)
        self._transport = None

    def pause_writing(self) -> None:
        """Let history wait."""
        if self._room is None:
            self._room = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """Let history go on."""
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)

    # What the gateway calls.

    def send(self, data: bytes) -> None:
        """Send the bytes of a frame; cut a client off that does not read."""
        transport = self._transport
        if transport is None or self.state is State.CLOSED:
            return
        transport.send(WSMsgType.TEXT, data)
        if self._room is not None:
            waiting = transport.underlying_transport.get_write_buffer_size()
            if waiting > self._gateway.settings.gateway_write_buffer_bytes_max:
                self.close(4408, "SLOW_READER")

    async def room(self) -> None:
        """Wait until most of what was sent is on its way."""
        room = self._room
        if room is None:
            return
        try:
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.shield(room)
        except TimeoutError:
            self.close(4408, "SLOW_READER")

    def close(self, code: int, reason: str) -> None:
        """Close the socket; what was sent before still goes out."""
        transport = self._transport
        if self.state is State.CLOSED or transport is None:
            return
        metrics.CLOSED.labels(reason).inc()
        self.state = State.CLOSED
        transport.send_close(cast(WSCloseCode, code), reason)
        self._leave(ended=reason == "BYE")
        # Whoever closes first waits for the other: what is unread would be lost to a reset.
        self._plan(time.monotonic() + FAREWELL_S)

    def reject(self, error: Exception) -> None:
        """Tell why the client can't be let in, and close."""
        frame = refusal(error, self._hello_ref)
        self.send(encode(frame))
        if frame.code == "UNAUTHENTICATED":
            self.close(4401, frame.reason)
        elif frame.code == "PERMISSION_DENIED":
            self.close(4403, frame.reason)
        else:
            self.close(1013, frame.reason)

    def attaching(self, ref: str) -> None:
        """Note that the session is being opened."""
        self.state, self._hello_ref = State.ATTACHING, ref

    def attached(self, result: AttachResult) -> bool:
        """Take the session; False when the client is gone."""
        self.session_id = result.session.session_id
        if self.state is not State.ATTACHING or self._transport is None:
            return False
        self.state = State.OPEN
        self._gateway.welcome(self, result, self._hello_ref)
        self._plan(self._due())
        return True

    def not_attached(self, error: frames_out.Error) -> None:
        """Take why there is no session."""
        error.ref = self._hello_ref
        self.send(encode(error))
        self.close(NOT_ATTACHED.get(error.reason, 1013), error.reason)

    def lost(self, reason: str) -> None:
        """Take that the session is gone."""
        self.session_id = ""
        text = "the session has ended or was resumed elsewhere"
        self.send(encode(refused(FailedPrecondition, reason, text)))
        self.close(4410, reason)

    def look(self, now: float) -> float | None:
        """See what is due; return when to look again."""
        settings = self._gateway.settings
        if self._transport is None:
            return None
        if self.state is State.CLOSED:
            self._transport.disconnect(graceful=False)
            return None
        if self.state is State.NEW:
            self.close(4408, "HELLO_MISSING")
            return now + FAREWELL_S
        if now - self._heard_at > settings.gateway_heartbeat_missed_ms / 1000:
            self.close(4408, "HEARTBEAT_MISSED")
            return now + FAREWELL_S
        left = self.expire_s - time.time()
        if left <= 0:
            self.reject(Unauthenticated("TOKEN_EXPIRED", "the token has expired"))
            return now + FAREWELL_S
        if left <= WARNING_S and not self._warned:
            self._warned = True
            self.send(encode(frames_out.TokenExpiring(int(left * 1000))))
        return self._due()

    # The rest is its own.

    def _due(self) -> float:
        """Return when to look next."""
        now = time.monotonic()
        left = self.expire_s - time.time()
        token = left if self._warned else max(0.0, left - WARNING_S)
        missed = self._gateway.settings.gateway_heartbeat_missed_ms / 1000
        return min(self._heard_at + missed, now + token)

    def _plan(self, at: float) -> None:
        self._gateway.wheel.plan(self, at)

    def _leave(self, *, ended: bool) -> None:
        self.state = State.CLOSED
        self.resume_writing()
        self._gateway.left(self, ended=ended)

    def _unusual(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take what is no text frame by itself."""
        kind = frame.msg_type
        if kind == WSMsgType.CLOSE:
            transport.send_close(WSCloseCode.OK)
            self._leave(ended=False)
            transport.disconnect()
        elif kind == WSMsgType.PING:
            if self._admit():
                transport.send_pong(frame.get_payload_as_bytes())
        elif kind == WSMsgType.BINARY:
            self._refuse_garbage(BadFrame("NOT_TEXT", "frames are text"))
        elif kind in (WSMsgType.TEXT, WSMsgType.CONTINUATION):
            first, part = kind == WSMsgType.TEXT, frame.get_payload_as_bytes()
            try:
                whole = self._intake.assemble(part, first=first, last=bool(frame.fin))
            except FragmentsMixed:
                self.close(1002, "FRAGMENTS_MIXED")
                return
            if whole is not None:
                self._receive(*whole)

    def _receive(self, payload: bytes | memoryview, size: int) -> None:
        if self.state is State.CLOSED:
            return
        limit = self._gateway.settings.gateway_frame_bytes_max
        if size > limit:
            text = f"the frame has {size} bytes, at most {limit} are taken"
            self._refuse(InvalidArgument("FRAME_TOO_LARGE", text))
            self.close(4409, "FRAME_TOO_LARGE")
            return
        if not self._admit(payload):
            return
        try:
            frame = decode(payload)
            if self.state is not State.OPEN:
                self._before_open(isinstance(frame, Hello), frame.ref)
        except BadFrame as error:
            self._refuse_garbage(error)
            return
        self._intake.note(garbage=False)
        metrics.FRAMES_IN.labels(type(frame).__name__).inc()
        self._gateway.conduct.take(self, frame)

    def _before_open(self, is_hello: bool, ref: str) -> None:
        if self.state is State.ATTACHING:
            raise BadFrame("NOT_READY", "wait for the welcome", ref=ref)
        if not is_hello:
            raise BadFrame("NOT_GREETED", "the first frame must be a hello", ref=ref)

    def _admit(self, payload: bytes | memoryview = b"{}") -> bool:
        """Note a sign of life; refuse it and return False when there are too many of them."""
        if self.state is State.CLOSED:
            return False
        now = self._heard_at = time.monotonic()
        if self._intake.admit(now):
            return True
        text = "too many frames: this one was not taken"
        self._refuse(ResourceExhausted("TOO_MANY_FRAMES", text), ref_of(payload))
        if self._intake.excessive:
            self.close(4429, "TOO_MANY_FRAMES")
        return False

    def _refuse_garbage(self, error: BadFrame) -> None:
        self._refuse(error)
        self._intake.note(garbage=True)
        if self._intake.useless:
            self.close(4400, "TOO_MUCH_GARBAGE")

    def _refuse(self, error: Exception, ref: str = "") -> None:
        frame = refusal(error, ref)
        metrics.REFUSED.labels(frame.reason).inc()
        self.send(encode(frame))
