"""A client that stays connected: what it missed comes first, and each message once.

async with Client("ws://127.0.0.1:8080/v1/ws", token) as client:
    conversation_id = await client.start(text="hello")
    async for event in client:
        ...
"""

import asyncio
import inspect
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeAlias, cast

from picows import WSError, WSHandshakeError

from services.gateway import frames_in, frames_out
from services.gateway.client.backoff import Backoff
from services.gateway.client.connection import ABNORMAL, Connection, Ending
from services.gateway.client.conversation import FOLLOW, Conversation, Verdict
from services.gateway.client.errors import ClientError, Closed, Refused
from services.gateway.client.events import Connected, Disconnected, Event
from services.gateway.codec import encode
from services.gateway.fields import (
    Attachment,
    ChannelName,
    EndReasonName,
    Needs,
    RouteName,
    StatusName,
)
from services.gateway.frames_in import ClientFrame
from services.gateway.frames_out import ServerFrame

Token: TypeAlias = str | Callable[[], str | Awaitable[str]]
"""A token, or what makes one: asked at each connection and before one runs out."""

EVENTS_MAX = 1_000
"""Events that wait for the user before no more is read."""
ACKNOWLEDGE_S = 0.2
SILENCE_S = 10.0
"""How long an answer to a heartbeat may take."""
REFUSALS_MAX = 3
"""Tokens in a row that may be refused when a provider makes them."""
ANSWER_S = 30.0
AGAIN_S = 1.0
FATAL = frozenset({4403})
SESSION_GONE = 4410
TOKEN_REFUSED = 4401


class Client:
    """One connection to the gateway that comes back by itself. Use as `async with`.

    Whatever was asked and not answered is asked again on the next connection; what
    is asked carries a key that makes it harmless to ask twice.
    """

    def __init__(
        self,
        url: str,
        token: Token,
        *,
        name: str = "interchange-python",
        token_in: str = "header",
        acknowledge: bool = True,
        backoff: Backoff | None = None,
    ) -> None:
        """`token_in` says how the token is brought: by `header`, `protocol` or `hello`.

        With `acknowledge`, messages are marked as delivered when the user has them.
        """
        self._url = url
        self._token = token
        self._name = name
        self._token_in = token_in
        self._acknowledge = acknowledge
        self._backoff = backoff or Backoff()
        self._connection: Connection | None = None
        self._welcomed = False
        self._session = ("", "")
        self._conversations: dict[str, Conversation] = {}
        self._asked: dict[str, tuple[ClientFrame, asyncio.Future[Any]]] = {}
        self._events: deque[Event] = deque()
        self._heard = asyncio.Event()
        self._started: asyncio.Future[None] | None = None
        self._running: asyncio.Task[None] | None = None
        self._timers: set[asyncio.TimerHandle] = set()
        self._retry_after_s: float | None = None
        self._failure: ClientError | None = None
        self._refusals = 0
        self._refs = 0
        self._frame_bytes = 64 * 1024
        self.heartbeat_s = 30.0

    # Life.

    async def __aenter__(self) -> Self:
        """Connect; raises Refused when the gateway will never let this client in."""
        self._started = asyncio.get_running_loop().create_future()
        self._running = asyncio.create_task(self._run())
        try:
            await self._started
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Say goodbye: the session ends."""
        await self.close()

    async def close(self) -> None:
        """End the session; what was not answered fails with Closed."""
        connection = self._connection
        if connection is not None and self._welcomed:
            self._failure = self._failure or Closed("the client was closed")
            connection.send(frames_in.Bye())
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(connection.ended), 1.0)
        self._fail(Closed("the client was closed"))
        if self._running is not None and self._running is not asyncio.current_task():
            self._running.cancel()
            await asyncio.wait([self._running])
        for timer in self._timers:
            timer.cancel()

    async def drop(self) -> None:
        """Break the connection, as a fault would; the client comes back by itself."""
        if self._connection is not None:
            self._connection.abort("DROPPED")

    @property
    def connected(self) -> bool:
        """True while the gateway takes frames."""
        return self._welcomed

    @property
    def session_id(self) -> str:
        """The session, as the last connection had it."""
        return self._session[0]

    # What is asked.

    async def start(
        self,
        text: str = "",
        *,
        channel: ChannelName = "web",
        route: RouteName = "bot",
        name: str = "",
        bot_id: str = "",
        needs: Needs | None = None,
        request_id: str = "",
        follow: bool = True,
    ) -> str:
        """Start a conversation and follow it; return its id."""
        frame = frames_in.Start(
            text, channel, route, name, bot_id, needs, request_id or uuid.uuid4().hex
        )
        started = cast(frames_out.Started, await self._ask(frame))
        if follow:
            await self.subscribe(started.conversation_id)
        return started.conversation_id

    async def subscribe(
        self, conversation_id: str, after_sequence: int = 0, epoch: str = ""
    ) -> frames_out.Subscribed:
        """Follow a conversation from after a message that is known, through all reconnections."""
        conversation = self._conversation(conversation_id)
        conversation.last_sequence, conversation.epoch = after_sequence, epoch
        conversation.followed, conversation.live = True, False
        future: asyncio.Future[frames_out.Subscribed] = asyncio.get_running_loop().create_future()
        conversation.waiting.append(future)
        self._write(conversation.wish)
        try:
            async with asyncio.timeout(ANSWER_S):
                return await future
        except BaseException:
            conversation.followed = False
            raise
        finally:
            conversation.waiting.remove(future)
            self._forget(conversation)

    async def unsubscribe(self, conversation_id: str) -> None:
        """Follow a conversation no longer."""
        conversation = self._conversation(conversation_id)
        conversation.followed = conversation.live = False
        self._forget(conversation)
        with suppress(Refused):
            await self._ask(frames_in.Unsubscribe(conversation_id))

    async def send(
        self,
        conversation_id: str,
        text: str | None = None,
        *,
        attachment: Attachment | None = None,
        client_message_id: str = "",
        timeout_s: float = ANSWER_S,
    ) -> frames_out.Sent:
        """Send a message; return once it is stored. Those of one conversation keep their order.

        Raises Refused, and TimeoutError when there was no answer in time: then the
        message may have been stored all the same.
        """
        message_id = client_message_id or uuid.uuid4().hex
        frame = frames_in.Send(conversation_id, message_id, text, attachment, ref=self._ref())
        if len(encode(frame)) > self._frame_bytes:
            raise Refused("INVALID_ARGUMENT", "FRAME_TOO_LARGE", "the message is too long", "text")
        conversation = self._conversation(conversation_id)
        conversation.outbox.append(frame)
        try:
            return cast(
                frames_out.Sent,
                await self._answer(frame, timeout_s, now=len(conversation.outbox) == 1),
            )
        finally:
            first = conversation.outbox[0] is frame
            conversation.outbox.remove(frame)
            if first and conversation.outbox:
                self._write(conversation.outbox[0])
            self._forget(conversation)

    def mark(self, conversation_id: str, *, delivered: int = 0, read: int = 0) -> None:
        """Say how far the user is; without a connection it is not said."""
        conversation = self._conversations.get(conversation_id)
        if conversation is not None and conversation.live:
            self._write(frames_in.SetMark(conversation_id, delivered, read))

    def typing(self, conversation_id: str, typing: bool = True) -> None:
        """Say that the user types, or stopped; without a connection it is not said."""
        conversation = self._conversations.get(conversation_id)
        if conversation is not None and conversation.live:
            self._write(frames_in.SetTyping(conversation_id, typing))

    async def presence(self, *subjects: str) -> frames_out.Presence:
        """Ask who is there."""
        return cast(frames_out.Presence, await self._ask(frames_in.AskPresence(subjects)))

    async def ping(self) -> float:
        """Return how long the way there and back takes, in seconds."""
        began = time.perf_counter()
        await self._ask(frames_in.Ping())
        return time.perf_counter() - began

    async def status(self, status: StatusName) -> None:
        """Say whether this agent takes conversations."""
        await self._ask(frames_in.SetStatus(status))

    async def accept(self, offer_id: str) -> None:
        """Take a conversation that is offered."""
        await self._ask(frames_in.Accept(offer_id))

    async def decline(self, offer_id: str) -> None:
        """Decline a conversation that is offered."""
        await self._ask(frames_in.Decline(offer_id))

    async def transfer(
        self, conversation_id: str, needs: Needs | None = None, request_id: str = ""
    ) -> None:
        """Hand a conversation to another agent."""
        key = request_id or uuid.uuid4().hex
        await self._ask(frames_in.Transfer(conversation_id, needs, key))

    async def hand_off(
        self, conversation_id: str, needs: Needs | None = None, request_id: str = ""
    ) -> None:
        """Hand a conversation from the bot to agents."""
        key = request_id or uuid.uuid4().hex
        await self._ask(frames_in.HandOff(conversation_id, needs, key))

    async def end(
        self, conversation_id: str, reason: EndReasonName = "resolved", request_id: str = ""
    ) -> None:
        """End a conversation."""
        key = request_id or uuid.uuid4().hex
        await self._ask(frames_in.End(conversation_id, reason, key))

    def position(self, conversation_id: str) -> tuple[int, str]:
        """Return number and epoch from which a later client can go on."""
        conversation = self._conversations[conversation_id]
        return conversation.last_sequence, conversation.epoch

    # What is heard.

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Yield events until the client is closed; raises Refused when sent away for good."""
        while True:
            while self._events:
                if len(self._events) == EVENTS_MAX // 2 and self._connection is not None:
                    self._connection.hold(reading=True)
                event = self._events.popleft()
                if isinstance(event, frames_out.Message) and self._acknowledge:
                    self._acknowledge_soon(event)
                yield event
            if self._failure is not None:
                if isinstance(self._failure, Closed):
                    return
                raise self._failure
            self._heard.clear()
            await self._heard.wait()

    def _emit(self, event: Event) -> None:
        self._events.append(event)
        self._heard.set()
        if len(self._events) >= EVENTS_MAX and self._connection is not None:
            self._connection.hold(reading=False)

    def _take(self, frame: ServerFrame) -> None:
        """Take a frame of the gateway."""
        if isinstance(frame, frames_out.Message):
            self._take_message(frame)
        elif isinstance(frame, frames_out.Answer) and self._take_answer(frame):
            return
        elif isinstance(frame, frames_out.Closing):
            self._retry_after_s = frame.retry_after_ms / 1000
        elif isinstance(frame, frames_out.TokenExpiring):
            self._later(0, self._renew_token)
        elif isinstance(frame, frames_out.Unsubscribed):
            self._take_unsubscribed(frame)
        elif isinstance(
            frame,
            frames_out.Marks
            | frames_out.Typing
            | frames_out.Presence
            | frames_out.Desk
            | frames_out.Error,
        ):
            self._emit(frame)

    def _take_message(self, frame: frames_out.Message) -> None:
        conversation = self._conversations.get(frame.conversation_id)
        if conversation is None:
            return
        verdict = conversation.judge(frame)
        if verdict is Verdict.DELIVER:
            self._emit(frame)
        elif verdict is Verdict.HOLE:
            conversation.live = False
            self._write(conversation.wish)

    def _take_answer(self, frame: frames_out.Answer) -> bool:
        """Take what may answer something; False when it is news."""
        if isinstance(frame, frames_out.Welcome):
            self._take_welcome(frame)
            return True
        if isinstance(frame, frames_out.Subscribed):
            self._take_subscribed(frame)
            return True
        if isinstance(frame, frames_out.Error) and frame.ref.startswith(FOLLOW):
            self._take_not_followed(frame)
            return True
        asked = self._asked.get(frame.ref)
        if asked is None:
            return False
        future = asked[1]
        if isinstance(frame, frames_out.Error):
            refused = Refused(frame.code, frame.reason, frame.message, frame.field)
            if refused.passing:
                self._later(AGAIN_S, lambda: self._write_again(frame.ref))
                return True
            if not future.done():
                future.set_exception(refused)
        elif not future.done():
            future.set_result(frame)
        return True

    def _take_subscribed(self, frame: frames_out.Subscribed) -> None:
        conversation = self._conversations.get(frame.conversation_id)
        if conversation is None or not conversation.followed:
            return
        conversation.begin(frame)
        self._emit(frame)

    def _take_not_followed(self, frame: frames_out.Error) -> None:
        conversation = self._conversations.get(frame.ref.removeprefix(FOLLOW))
        if conversation is None:
            return
        refused = Refused(frame.code, frame.reason, frame.message, frame.field)
        if refused.passing:
            self._later(AGAIN_S, lambda: self._follow_again(conversation))
            return
        conversation.followed = False
        if not conversation.fail(refused):
            self._emit(frames_out.Unsubscribed(conversation.conversation_id, frame.reason))
            self._forget(conversation)

    def _take_unsubscribed(self, frame: frames_out.Unsubscribed) -> None:
        conversation = self._conversations.get(frame.conversation_id)
        if conversation is None:
            return
        conversation.live = False
        if frame.reason == "NOT_YOURS":
            conversation.followed = False
            self._emit(frame)
            self._forget(conversation)
        else:
            self._later(AGAIN_S, lambda: self._follow_again(conversation))

    def _take_welcome(self, frame: frames_out.Welcome) -> None:
        connection = self._connection
        if connection is None:
            return
        self._session = frame.session_id, frame.secret or self._session[1]
        self._backoff.reset()
        self._refusals = 0
        self._retry_after_s = None
        self._frame_bytes = frame.limits.frame_bytes
        self.heartbeat_s = frame.heartbeat_ms / 1000
        self._welcomed = True
        connection.keep_pace(frame.limits.frames_per_second)
        self._emit(Connected(frame.session_id, frame.resumed))
        self._restore()
        if self._started is not None and not self._started.done():
            self._started.set_result(None)

    def _restore(self) -> None:
        """Follow again what was followed, and ask again what was not answered."""
        for conversation in self._conversations.values():
            if conversation.followed:
                self._write(conversation.wish)
        first = {id(each.outbox[0]) for each in self._conversations.values() if each.outbox}
        for frame, _ in self._asked.values():
            if not isinstance(frame, frames_in.Send) or id(frame) in first:
                self._write(frame)

    # The connection.

    async def _run(self) -> None:
        """Connect, and connect again, until closed or sent away for good."""
        while self._failure is None:
            ending = await self._connect_once()
            self._welcomed, self._connection = False, None
            for conversation in self._conversations.values():
                conversation.live = False
            if self._failure is not None or self._is_final(ending):
                return
            pause = self._retry_after_s
            pause = self._backoff.pause() if pause is None else pause
            self._retry_after_s = None
            self._emit(Disconnected(ending.code, ending.reason, pause))
            await asyncio.sleep(pause)

    async def _connect_once(self) -> Ending:
        """Hold one connection until it ends; return how it did."""
        try:
            token = await self._current_token()
            headers = {}
            if self._token_in == "header":
                headers["Authorization"] = f"Bearer {token}"
            elif self._token_in == "protocol":
                headers["Sec-WebSocket-Protocol"] = f"interchange.v1, bearer.{token}"
            connection = await Connection.open(self._url, headers, self._take)
        except WSHandshakeError as error:
            status = int(error.response.status) if error.response is not None else 0
            return Ending(TOKEN_REFUSED if status == 401 else ABNORMAL, f"HTTP_{status}")
        except (OSError, TimeoutError, WSError) as error:
            return Ending(ABNORMAL, str(error))
        self._connection = connection
        session_id, secret = self._session
        hello = frames_in.Hello(
            token if self._token_in == "hello" else "", self._name, session_id, secret
        )
        connection.send(hello)
        watching = asyncio.create_task(self._watch(connection))
        try:
            return await asyncio.shield(connection.ended)
        finally:
            watching.cancel()
            connection.abort("CLOSED")

    async def _watch(self, connection: Connection) -> None:
        """Say that the client lives, and notice when the gateway does not."""
        while True:
            await asyncio.sleep(self.heartbeat_s if self._welcomed else SILENCE_S)
            if not self._welcomed:
                connection.abort("NO_WELCOME")
                return
            asked_at = time.monotonic()
            connection.send(frames_in.Ping())
            await asyncio.sleep(min(SILENCE_S, self.heartbeat_s))
            if connection.heard_at < asked_at:
                connection.abort("NO_PONG")
                return

    def _is_final(self, ending: Ending) -> bool:
        """Tell whether there is no use in coming back; take note of what must change if so."""
        if ending.code == SESSION_GONE:
            self._session = ("", "")
            self._retry_after_s = 0.0
        if ending.code == TOKEN_REFUSED:
            self._refusals += 1
        # The same token would be refused again.
        most = REFUSALS_MAX if callable(self._token) else 1
        expired = ending.reason == "TOKEN_EXPIRED" and callable(self._token)
        if ending.code in FATAL or (self._refusals >= most and not expired):
            code = "PERMISSION_DENIED" if ending.code in FATAL else "UNAUTHENTICATED"
            self._fail(Refused(code, ending.reason or "REFUSED"))
            return True
        return False

    async def _current_token(self) -> str:
        if isinstance(self._token, str):
            return self._token
        made = self._token()
        return await made if inspect.isawaitable(made) else made

    def _renew_token(self) -> None:
        async def renew() -> None:
            with suppress(ClientError, TimeoutError):
                await self._ask(frames_in.RenewToken(await self._current_token()))

        if callable(self._token):
            self._renewing = asyncio.create_task(renew())

    # Frames that wait for an answer.

    async def _ask(self, frame: ClientFrame) -> frames_out.Answer:
        frame.ref = self._ref()
        return await self._answer(frame, ANSWER_S, now=True)

    async def _answer(
        self, frame: ClientFrame, timeout_s: float, *, now: bool
    ) -> frames_out.Answer:
        """Send a frame, `now` or when its turn comes, and return the answer to it."""
        if self._failure is not None:
            raise self._failure
        future: asyncio.Future[frames_out.Answer] = asyncio.get_running_loop().create_future()
        self._asked[frame.ref] = frame, future
        try:
            if now:
                self._write(frame)
            async with asyncio.timeout(timeout_s):
                return await future
        finally:
            del self._asked[frame.ref]

    def _write(self, frame: ClientFrame) -> None:
        if self._welcomed and self._connection is not None:
            self._connection.send(frame)

    def _write_again(self, ref: str) -> None:
        asked = self._asked.get(ref)
        if asked is not None:
            self._write(asked[0])

    def _follow_again(self, conversation: Conversation) -> None:
        if conversation.followed and not conversation.live:
            self._write(conversation.wish)

    def _acknowledge_soon(self, message: frames_out.Message) -> None:
        conversation = self._conversations.get(message.conversation_id)
        if conversation is None:
            return
        conversation.acknowledged = message.sequence
        if conversation.acknowledging:
            return
        conversation.acknowledging = True

        def acknowledge() -> None:
            conversation.acknowledging = False
            self.mark(conversation.conversation_id, delivered=conversation.acknowledged)

        self._later(ACKNOWLEDGE_S, acknowledge)

    def _later(self, seconds: float, work: Callable[[], None]) -> None:
        def run() -> None:
            self._timers.discard(handle)
            work()

        handle = asyncio.get_running_loop().call_later(seconds, run)
        self._timers.add(handle)

    def _fail(self, error: ClientError) -> None:
        self._failure = self._failure or error
        if self._started is not None and not self._started.done():
            self._started.set_exception(error)
        for _, future in self._asked.values():
            if not future.done():
                future.set_exception(error)
        self._heard.set()

    def _ref(self) -> str:
        self._refs += 1
        return str(self._refs)

    def _conversation(self, conversation_id: str) -> Conversation:
        found = self._conversations.get(conversation_id)
        if found is None:
            found = self._conversations[conversation_id] = Conversation(conversation_id)
        return found

    def _forget(self, conversation: Conversation) -> None:
        if not conversation.followed and not conversation.outbox:
            self._conversations.pop(conversation.conversation_id, None)
