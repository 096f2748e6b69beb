"""A client that stays connected: what it missed comes first, and each message once.

async with Client("ws://127.0.0.1:8080/v1/ws", token) as client:
    conversation_id = await client.start(text="hello")
    async for event in client:
        ...
"""

import asyncio
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from types import TracebackType
from typing import Self, cast

from services.gateway import frames_in, frames_out
from services.gateway.client.asking import Asking
from services.gateway.client.backoff import Backoff
from services.gateway.client.conversations import Conversations
from services.gateway.client.errors import ClientError, Closed, Refused
from services.gateway.client.events import Connected, Disconnected, Event
from services.gateway.client.link import Link, Token, TokenPlace
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

EVENTS_MAX = 1_000
"""Events that wait for the user before no more is read."""
ANSWER_S = 30.0
FRAME_BYTES = 64 * 1024
NEWS = (
    frames_out.Marks,
    frames_out.Typing,
    frames_out.Presence,
    frames_out.Desk,
    frames_out.Error,
)


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
        token_in: TokenPlace = "header",
        acknowledge: bool = True,
        backoff: Backoff | None = None,
    ) -> None:
        """`token_in` says how the token is brought.

        With `acknowledge`, messages are marked as delivered when the user has them.
        """
        self._link = Link(self, url, token, name, token_in, backoff or Backoff())
        self._asking = Asking(self._link.send)
        self._acknowledge = acknowledge
        self._conversations = Conversations(self._link.send, self._emit, self._asking.later)
        self._events: deque[Event] = deque()
        self._heard = asyncio.Event()
        self._started: asyncio.Future[None] | None = None
        self._failure: ClientError | None = None
        self._frame_bytes = FRAME_BYTES

    # Life.

    async def __aenter__(self) -> Self:
        """Connect; raises Refused when the gateway will never let this client in."""
        self._started = asyncio.get_running_loop().create_future()
        self._link.start()
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
        await self._link.close()
        self.refused(Closed("the client was closed"))

    async def drop(self) -> None:
        """Break the connection, as a fault would; the client comes back by itself."""
        self._link.drop()

    @property
    def connected(self) -> bool:
        """True while the gateway takes frames."""
        return self._link.up

    @property
    def session_id(self) -> str:
        """The session, as the last connection had it."""
        return self._link.session_id

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
        conversation = self._conversations.of(conversation_id)
        conversation.last_sequence, conversation.epoch = after_sequence, epoch
        conversation.followed, conversation.live = True, False
        future: asyncio.Future[frames_out.Subscribed] = asyncio.get_running_loop().create_future()
        conversation.waiting.append(future)
        self._link.send(conversation.wish)
        try:
            async with asyncio.timeout(ANSWER_S):
                return await future
        except BaseException:
            conversation.followed = False
            raise
        finally:
            conversation.waiting.remove(future)
            self._conversations.forget(conversation)

    async def unsubscribe(self, conversation_id: str) -> None:
        """Follow a conversation no longer."""
        conversation = self._conversations.of(conversation_id)
        conversation.followed = conversation.live = False
        self._conversations.forget(conversation)
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
        frame = frames_in.Send(
            conversation_id, message_id, text, attachment, ref=self._asking.next_ref()
        )
        if len(encode(frame)) > self._frame_bytes:
            raise Refused("INVALID_ARGUMENT", "FRAME_TOO_LARGE", "the message is too long", "text")
        conversation = self._conversations.of(conversation_id)
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
                self._link.send(conversation.outbox[0])
            self._conversations.forget(conversation)

    def mark(self, conversation_id: str, *, delivered: int = 0, read: int = 0) -> None:
        """Say how far the user is; without a connection it is not said."""
        if self._conversations.live(conversation_id):
            self._link.send(frames_in.SetMark(conversation_id, delivered, read))

    def typing(self, conversation_id: str, typing: bool = True) -> None:
        """Say that the user types, or stopped; without a connection it is not said."""
        if self._conversations.live(conversation_id):
            self._link.send(frames_in.SetTyping(conversation_id, typing))

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
        conversation = self._conversations.of(conversation_id)
        return conversation.last_sequence, conversation.epoch

    # What is heard.

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Yield events until the client is closed; raises Refused when sent away for good."""
        while True:
            while self._events:
                if len(self._events) == EVENTS_MAX // 2:
                    self._link.hold(reading=True)
                event = self._events.popleft()
                if isinstance(event, frames_out.Message) and self._acknowledge:
                    self._conversations.acknowledge(event)
                yield event
            if self._failure is not None:
                if isinstance(self._failure, Closed):
                    return
                raise self._failure
            self._heard.clear()
            await self._heard.wait()

    def heard(self, frame: ServerFrame) -> None:
        """Take a frame of the gateway."""
        if self._conversations.take(frame):
            return
        if isinstance(frame, frames_out.Answer) and self._asking.take(frame):
            return
        if isinstance(frame, NEWS):
            self._emit(frame)

    def welcomed(self, frame: frames_out.Welcome) -> None:
        """Follow again what was followed, and ask again what was not answered."""
        self._frame_bytes = frame.limits.frame_bytes
        self._emit(Connected(frame.session_id, frame.resumed))
        first = self._conversations.restore()
        for asked in self._asking:
            if not isinstance(asked, frames_in.Send) or id(asked) in first:
                self._link.send(asked)
        if self._started is not None and not self._started.done():
            self._started.set_result(None)

    def went(self, event: Disconnected) -> None:
        """Take that nothing reaches the gateway for a while."""
        self._conversations.pause()
        self._emit(event)

    def refused(self, error: ClientError) -> None:
        """Take that the client is at its end; what waits fails with the error."""
        self._failure = self._failure or error
        if self._started is not None and not self._started.done():
            self._started.set_exception(error)
        self._asking.fail(error)
        self._conversations.fail(error)
        self._heard.set()

    async def renew(self, frame: frames_in.RenewToken) -> None:
        """Bring a newer token."""
        await self._ask(frame)

    def _emit(self, event: Event) -> None:
        self._events.append(event)
        self._heard.set()
        if len(self._events) >= EVENTS_MAX:
            self._link.hold(reading=False)

    async def _ask(self, frame: ClientFrame) -> frames_out.Answer:
        frame.ref = self._asking.next_ref()
        return await self._answer(frame, ANSWER_S)

    async def _answer(
        self, frame: ClientFrame, timeout_s: float, *, now: bool = True
    ) -> frames_out.Answer:
        if self._failure is not None:
            raise self._failure
        return await self._asking.answer(frame, timeout_s, now=now)
