"""A connection that comes back by itself, with the session that it had."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Literal, Protocol, TypeAlias

from picows import WSError, WSHandshakeError

from services.gateway import frames_in, frames_out
from services.gateway.client.backoff import Backoff
from services.gateway.client.connection import ABNORMAL, Connection, Ending
from services.gateway.client.errors import ClientError, Refused
from services.gateway.client.events import Disconnected
from services.gateway.frames_in import ClientFrame
from services.gateway.frames_out import ServerFrame

Token: TypeAlias = str | Callable[[], str | Awaitable[str]]
"""A token, or what makes one: asked at each connection and before one runs out."""
TokenPlace: TypeAlias = Literal["header", "protocol", "hello"]

SILENCE_S = 10.0
"""How long an answer to a heartbeat may take."""
FAREWELL_S = 1.0
REFUSALS_MAX = 3
"""Tokens in a row that may be refused when they are made anew."""
PERMISSION_MISSING = 4403
SESSION_GONE = 4410
TOKEN_REFUSED = 4401
UNAUTHORIZED = 401


class Owner(Protocol):
    """Who has a link: told what comes, and what becomes of the connection."""

    def heard(self, frame: ServerFrame) -> None:
        """Take a frame."""

    def welcomed(self, frame: frames_out.Welcome) -> None:
        """Take that frames reach the gateway again."""

    def went(self, event: Disconnected) -> None:
        """Take that they don't, for a while."""

    def refused(self, error: ClientError) -> None:
        """Take that they never will."""

    async def renew(self, frame: frames_in.RenewToken) -> None:
        """Ask the gateway to take a newer token."""


class Link:
    """Holds one connection at a time, for as long as somebody wants it."""

    def __init__(
        self,
        owner: Owner,
        url: str,
        token: Token,
        name: str,
        token_in: TokenPlace,
        backoff: Backoff,
    ) -> None:
        self._owner = owner
        self._url = url
        self._token = token
        self._name = name
        self._token_in = token_in
        self._backoff = backoff
        self._connection: Connection | None = None
        self._running: asyncio.Task[None] | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._secret = ""
        self._retry_after_s: float | None = None
        self._refusals = 0
        self._closing = False
        self._heartbeat_s = SILENCE_S
        self.session_id = ""
        self.up = False
        """True while frames reach the gateway."""

    def start(self) -> None:
        """Connect, and stay so."""
        self._running = asyncio.create_task(self._run())

    async def close(self) -> None:
        """End the session and the connection."""
        self._closing = True
        if self._connection is not None and self.up:
            self._connection.send(frames_in.Bye())
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._connection.ended), FAREWELL_S)
        for task in (self._running, self._renewing):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
                await asyncio.wait([task])

    def send(self, frame: ClientFrame) -> None:
        """Send a frame; do nothing while there is no connection."""
        if self.up and self._connection is not None:
            self._connection.send(frame)

    def hold(self, *, reading: bool) -> None:
        """Read on, or stop reading."""
        if self._connection is not None:
            self._connection.hold(reading=reading)

    def drop(self) -> None:
        """Break the connection, as a fault would."""
        if self._connection is not None:
            self._connection.abort("DROPPED")

    async def _run(self) -> None:
        while not self._closing:
            ending = await self._connect_once()
            self.up, self._connection = False, None
            if self._closing or self._is_final(ending):
                return
            pause = self._retry_after_s
            pause = self._backoff.pause() if pause is None else pause
            self._retry_after_s = None
            self._owner.went(Disconnected(ending.code, ending.reason, pause))
            await asyncio.sleep(pause)

    async def _connect_once(self) -> Ending:
        """Hold one connection until it ends; return how it did."""
        try:
            token = await self._current_token()
            connection = await Connection.open(self._url, self._headers(token), self._take)
        except WSHandshakeError as error:
            status = int(error.response.status) if error.response is not None else 0
            code = TOKEN_REFUSED if status == UNAUTHORIZED else ABNORMAL
            return Ending(code, f"HTTP_{status}")
        except (OSError, TimeoutError, WSError) as error:
            return Ending(ABNORMAL, str(error))
        self._connection = connection
        in_hello = token if self._token_in == "hello" else ""
        connection.send(frames_in.Hello(in_hello, self._name, self.session_id, self._secret))
        watching = asyncio.create_task(self._watch(connection))
        try:
            return await asyncio.shield(connection.ended)
        finally:
            watching.cancel()
            connection.abort("CLOSED")

    def _headers(self, token: str) -> dict[str, str]:
        if self._token_in == "header":
            return {"Authorization": f"Bearer {token}"}
        if self._token_in == "protocol":
            return {"Sec-WebSocket-Protocol": f"interchange.v1, bearer.{token}"}
        return {}

    async def _watch(self, connection: Connection) -> None:
        """Say that the client lives, and notice when the gateway does not."""
        while True:
            await asyncio.sleep(self._heartbeat_s if self.up else SILENCE_S)
            if not self.up:
                connection.abort("NO_WELCOME")
                return
            asked_at = time.monotonic()
            connection.send(frames_in.Ping())
            await asyncio.sleep(min(SILENCE_S, self._heartbeat_s))
            # Nothing is heard either while the user holds the gateway back.
            if connection.heard_at < asked_at and not connection.held:
                connection.abort("NO_PONG")
                return

    def _take(self, frame: ServerFrame) -> None:
        if isinstance(frame, frames_out.Welcome):
            self._take_welcome(frame)
        elif isinstance(frame, frames_out.Closing):
            self._retry_after_s = frame.retry_after_ms / 1000
        elif isinstance(frame, frames_out.TokenExpiring):
            if callable(self._token):
                self._renewing = asyncio.create_task(self._renew_token())
        else:
            self._owner.heard(frame)

    def _take_welcome(self, frame: frames_out.Welcome) -> None:
        if self._connection is None:
            return
        self.session_id, self._secret = frame.session_id, frame.secret or self._secret
        self._backoff.reset()
        self._refusals = 0
        self._retry_after_s = None
        self._heartbeat_s = frame.heartbeat_ms / 1000
        self._connection.keep_pace(frame.limits.frames_per_second)
        self.up = True
        self._owner.welcomed(frame)

    def _is_final(self, ending: Ending) -> bool:
        """Tell whether there is no use in coming back; change what must change if there is."""
        if ending.code == SESSION_GONE:
            self.session_id = self._secret = ""
            self._retry_after_s = 0.0
        if ending.code == PERMISSION_MISSING:
            self._owner.refused(Refused("PERMISSION_DENIED", ending.reason))
            return True
        if ending.code == TOKEN_REFUSED and not self._may_try_another_token(ending.reason):
            self._owner.refused(Refused("UNAUTHENTICATED", ending.reason or "TOKEN_REFUSED"))
            return True
        return False

    def _may_try_another_token(self, reason: str) -> bool:
        """Tell so where tokens are made anew: the same one would be refused again."""
        if not callable(self._token):
            return False
        if reason != "TOKEN_EXPIRED":
            self._refusals += 1
        return self._refusals < REFUSALS_MAX

    async def _current_token(self) -> str:
        if isinstance(self._token, str):
            return self._token
        made = self._token()
        return await made if inspect.isawaitable(made) else made

    async def _renew_token(self) -> None:
        with suppress(ClientError, TimeoutError):
            await self._owner.renew(frames_in.RenewToken(await self._current_token()))
