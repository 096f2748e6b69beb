"""The WebSocket server: who may open a socket, and who is told to come later."""

import asyncio
import logging
from urllib.parse import urlsplit

import structlog
from picows import (
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_create_server,
)

from services.common.errors import InterchangeError, Unauthenticated
from services.gateway.gateway import Gateway
from services.gateway.socket import Socket
from services.gateway.tokens import PROTOCOL, from_headers, protocols

PATH = "/v1/ws"
READ_BUFFER_BYTES = 2048
"""Most frames are small; the buffer of a socket grows when one is not."""
BACKLOG = 4096
log = structlog.get_logger()
# Its lines say what strangers sent, and it must not make a logger for each socket:
# only a Logger has children.
_quiet = logging.LoggerAdapter(logging.getLogger("picows"), {})
logging.getLogger("picows").setLevel(logging.CRITICAL)


class Door:
    """Listens for clients."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._server: asyncio.Server | None = None
        self.port = 0

    async def open(self) -> None:
        """Listen where the settings say."""
        settings = self._gateway.settings
        host, _, port = settings.websocket_listen.rpartition(":")
        self._server = await ws_create_server(
            self._take,
            host,
            int(port),
            logger_name=_quiet,
            enable_auto_pong=False,
            # Above our own limit, so that a client is told the reason up to here.
            max_frame_size=2 * settings.gateway_frame_bytes_max,
            read_buffer_init_size=READ_BUFFER_BYTES,
            websocket_handshake_timeout=settings.gateway_hello_timeout_ms / 1000,
            backlog=BACKLOG,
        )
        self.port = self._server.sockets[0].getsockname()[1]
        log.info("listening", port=self.port)

    async def close(self) -> None:
        """Listen no more; open sockets stay."""
        if self._server is not None:
            self._server.close()

    def _take(self, request: WSUpgradeRequest) -> WSUpgradeResponseWithListener | None:
        """Answer a handshake. Who has no good token is told by a frame: browsers show no status."""
        if urlsplit(request.path.decode("latin-1")).path != PATH:
            return None
        if self._gateway.full:
            response = WSUpgradeResponse.create_error_response(
                503, b"come back later", {"Retry-After": "1"}
            )
            return WSUpgradeResponseWithListener(response, None)
        headers = request.headers
        # The library wants the one word, and browsers say `keep-alive, Upgrade`.
        words = [word.strip().lower() for word in headers.get("connection", "").split(",")]
        if "upgrade" in words:
            headers["connection"] = "upgrade"
        socket = Socket(self._gateway)
        ours, token = protocols(headers)
        try:
            claims = from_headers(headers)
            if claims is None and token:
                claims = self._gateway.verifier.verify(token)
            if claims is not None:
                socket.identify(claims)
        except Unauthenticated as error:
            socket.problem = error
        except InterchangeError as error:
            response = WSUpgradeResponse.create_error_response(503, error.message.encode())
            return WSUpgradeResponseWithListener(response, None)
        # The transport keeps the request as long as the socket lives: nobody needs its headers.
        kept = {name: headers[name] for name in KEPT if name in headers}
        headers.clear()
        headers.update(kept)
        chosen = {"Sec-WebSocket-Protocol": PROTOCOL} if ours else None
        return WSUpgradeResponseWithListener(WSUpgradeResponse.create_101_response(chosen), socket)


KEPT = ("upgrade", "connection", "sec-websocket-version", "sec-websocket-key")
"""Headers that the library still looks at."""
