"""The gateway of one process: its sockets, and all that they share."""

import asyncio
import random

import structlog
from interchange.gateway.v1 import gateway_pb2
from interchange.session.v1.session_service_pb2 import AttachResult

from services.common.config import Settings
from services.common.identity import AGENT
from services.gateway import frames_out, metrics
from services.gateway.codec import encode
from services.gateway.conduct import Conduct
from services.gateway.desks import Desks
from services.gateway.feeds import Feeds, Follows
from services.gateway.marking import MarkSink
from services.gateway.presence import Presences, Pushes
from services.gateway.reading import Reading
from services.gateway.sending import Sends
from services.gateway.sessions import Sessions
from services.gateway.socket import Socket
from services.gateway.starting import Starts
from services.gateway.tails import Tails
from services.gateway.tokens import Verifier
from services.gateway.upstream import Upstream
from services.gateway.wheel import Wheel

WAVES = 10
"""Steps in which sockets are closed when the process leaves."""
WAVES_S = 1.0
"""Time for all steps: within the notice that a leaving process gives."""
SETTLE_S = 2.0
"""How long what was taken may need to reach its service when the process leaves."""
log = structlog.get_logger()


class Gateway:
    """What sockets share. It has no database: all it knows can be asked for again."""

    def __init__(
        self, settings: Settings, upstream: Upstream, followers: Follows, pusher: Pushes
    ) -> None:
        self.settings = settings
        self.upstream = upstream
        self.pusher = pusher
        self.verifier = Verifier(settings.jwks_file)
        self.wheel: Wheel[Socket] = Wheel(Socket.look)
        self.sockets: set[Socket] = set()
        self.presences = Presences(upstream, pusher, settings)
        self.desks = Desks(upstream, followers, settings)
        self.feeds = Feeds(Reading(upstream, self.desks.has), followers, self.presences.joined)
        self.tails = Tails(self.feeds, upstream, settings)
        self.starts = Starts(upstream)
        self.sends = Sends(upstream, self.feeds.learn)
        self.marks = MarkSink(upstream, settings)
        self.sessions = Sessions(upstream, settings)
        self.conduct = Conduct(self)
        self.draining = False

    @property
    def full(self) -> bool:
        """True when no further socket is taken."""
        return self.draining or len(self.sockets) >= self.settings.gateway_sockets_max

    def receive(self, push: gateway_pb2.Push) -> None:
        """Take what was pushed to this instance."""
        if push.conversation_id:
            self.feeds.receive(push)
        else:
            self.desks.receive(push)

    def entered(self, socket: Socket) -> None:
        """Take a socket whose handshake is done."""
        self.sockets.add(socket)
        metrics.SOCKETS.inc()

    def welcome(self, socket: Socket, result: AttachResult, ref: str) -> None:
        """Let a client in whose session is open."""
        settings = self.settings
        limits = frames_out.Limits(
            settings.gateway_frame_bytes_max,
            settings.gateway_frames_per_second,
            settings.gateway_subscriptions_max,
        )
        frame = frames_out.Welcome(
            result.session.session_id,
            result.secret,
            result.resumed,
            socket.caller.subject,
            settings.gateway_heartbeat_ms,
            limits,
            ref=ref,
        )
        socket.send(encode(frame))
        if AGENT in socket.caller.roles:
            self.desks.join(socket)

    def left(self, socket: Socket, *, ended: bool) -> None:
        """Let go of all that a socket held; a second time does nothing."""
        if socket not in self.sockets:
            return
        self.sockets.remove(socket)
        metrics.SOCKETS.dec()
        for conversation_id in tuple(socket.subscriptions):
            self.feeds.unsubscribe(socket, conversation_id)
        self.desks.leave(socket)
        self.sessions.leave(socket, socket.caller.tenant_id, ended=ended)

    async def drain(self) -> None:
        """Send all clients away, in waves, each with its own moment to come back."""
        self.draining = True
        waiting = list(self.sockets)
        random.shuffle(waiting)
        size = max(1, -(-len(waiting) // WAVES))
        log.info("sockets are closed", count=len(waiting))
        for start in range(0, len(waiting), size):
            for socket in waiting[start : start + size]:
                self._send_away(socket)
            await asyncio.sleep(WAVES_S / WAVES)

    async def close(self) -> None:
        """Close what is left, and see that what was taken reaches its service."""
        self.draining = True
        for socket in tuple(self.sockets):
            self._send_away(socket)
        await asyncio.gather(self.starts.settled(SETTLE_S), self.sends.settled(SETTLE_S))
        await self.marks.settled(SETTLE_S / 4)
        await self.sessions.waiting.settled(SETTLE_S / 2)
        self.feeds.close()
        self.conduct.close()

    def _send_away(self, socket: Socket) -> None:
        retry_after_ms = random.randint(0, self.settings.gateway_drain_spread_ms)
        socket.send(encode(frames_out.Closing(1012, "DRAINING", retry_after_ms)))
        socket.close(1012, "DRAINING")
