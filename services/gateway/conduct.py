"""What each frame of a client leads to."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import structlog
from interchange.conversation.v1.conversation_service_pb2 import (
    EndConversationRequest,
    HandOffConversationRequest,
    TransferConversationRequest,
)
from interchange.gateway.v1 import gateway_pb2

from services.common.errors import (
    FailedPrecondition,
    InterchangeError,
    InvalidArgument,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
)
from services.common.identity import AGENT
from services.gateway import frames_in, frames_out, translation
from services.gateway.codec import encode
from services.gateway.frames_in import AnyClientFrame
from services.gateway.refusals import refusal
from services.gateway.socket import Socket
from services.gateway.subscription import Subscription

if TYPE_CHECKING:
    from services.gateway.gateway import Gateway

TYPING_EVERY_S = 1.0
"""How often the same is told of somebody who types, at most."""
log = structlog.get_logger()


class Conduct:
    """Takes the frames of all sockets."""

    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway
        self._tasks: set[asyncio.Task[None]] = set()
        self._takers: dict[type, Callable[[Socket, Any], None]] = {
            frames_in.Hello: self._hello,
            frames_in.RenewToken: self._renew_token,
            frames_in.Subscribe: self._subscribe,
            frames_in.Unsubscribe: self._unsubscribe,
            frames_in.Start: gateway.starts.add,
            frames_in.Send: gateway.sends.add,
            frames_in.SetMark: self._mark,
            frames_in.SetTyping: self._typing,
            frames_in.Ping: self._ping,
            frames_in.Bye: self._bye,
        }
        self._callers: dict[type, Callable[[Socket, Any], Coroutine[Any, Any, None]]] = {
            frames_in.AskPresence: gateway.presences.answer,
            frames_in.SetStatus: self._set_status,
            frames_in.Accept: self._accept,
            frames_in.Decline: self._decline,
            frames_in.Transfer: self._transfer,
            frames_in.HandOff: self._hand_off,
            frames_in.End: self._end,
        }

    def take(self, socket: Socket, frame: AnyClientFrame) -> None:
        """Do what a frame asks for; whatever is wrong is told to its client."""
        taker = self._takers.get(type(frame))
        if taker is None:
            self._spawn(self._call(socket, frame))
            return
        try:
            taker(socket, frame)
        except InterchangeError as error:
            socket.send(encode(refusal(error, frame.ref)))

    def close(self) -> None:
        """Stop what is under way."""
        for task in self._tasks:
            task.cancel()

    async def _call(self, socket: Socket, frame: AnyClientFrame) -> None:
        try:
            await self._callers[type(frame)](socket, frame)
        except Exception as error:
            told = refusal(error, frame.ref)
            if told.code == "INTERNAL":
                log.exception("frame failed", type=type(frame).__name__)
            socket.send(encode(told))

    # Who comes and goes.

    def _hello(self, socket: Socket, frame: frames_in.Hello) -> None:
        if socket.session_id:
            raise FailedPrecondition("ALREADY_GREETED", "the session is open already")
        if frame.token:
            try:
                socket.identify(self._gateway.verifier.verify(frame.token))
            except InterchangeError as error:
                socket.attaching(frame.ref)
                socket.reject(error)
                return
        socket.attaching(frame.ref)
        if not socket.caller.subject:
            socket.reject(Unauthenticated("TOKEN_MISSING", "neither handshake nor hello has one"))
        elif not socket.caller.may("session.use"):
            text = "permission session.use is missing"
            socket.reject(PermissionDenied("PERMISSION_DENIED", text))
        elif not self._gateway.sessions.open(socket, socket.caller, frame):
            socket.reject(ResourceExhausted("TOO_MANY_WAITING", "too many sockets are waiting"))

    def _renew_token(self, socket: Socket, frame: frames_in.RenewToken) -> None:
        claims = self._gateway.verifier.verify(frame.token)
        known = socket.caller
        if (claims.caller.tenant_id, claims.caller.subject) != (known.tenant_id, known.subject):
            raise Unauthenticated("TOKEN_OF_ANOTHER", "the token is not of who opened the socket")
        if not claims.caller.may("session.use"):
            raise PermissionDenied("PERMISSION_DENIED", "permission session.use is missing")
        socket.identify(claims)
        self._gateway.wheel.plan(socket, time.monotonic())
        _done(socket, frame.ref)

    def _ping(self, socket: Socket, frame: frames_in.Ping) -> None:
        socket.send(encode(frames_out.Pong(ref=frame.ref)))

    def _bye(self, socket: Socket, frame: frames_in.Bye) -> None:
        socket.close(1000, "BYE")

    # Conversations.

    def _subscribe(self, socket: Socket, frame: frames_in.Subscribe) -> None:
        known = socket.subscriptions
        most = self._gateway.settings.gateway_subscriptions_max
        if frame.conversation_id not in known and len(known) >= most:
            raise ResourceExhausted(
                "TOO_MANY_SUBSCRIPTIONS", f"a socket follows {most} conversations at most"
            )
        self._gateway.feeds.subscribe(
            socket, frame.conversation_id, frame.after_sequence, frame.epoch, frame.ref
        )

    def _unsubscribe(self, socket: Socket, frame: frames_in.Unsubscribe) -> None:
        if not self._gateway.feeds.unsubscribe(socket, frame.conversation_id):
            raise _not_subscribed()
        answer = frames_out.Unsubscribed(frame.conversation_id, "REQUESTED", ref=frame.ref)
        socket.send(encode(answer))

    def _mark(self, socket: Socket, frame: frames_in.SetMark) -> None:
        subscription = _participating(socket, frame.conversation_id)
        feed = subscription.feed
        highest = max(subscription.last, feed.order.last or 0)
        for field in ("delivered", "read"):
            if getattr(frame, field) > highest:
                raise InvalidArgument.of(
                    field, "SEQUENCE_UNKNOWN", f"the last message has number {highest}"
                )
        reader = translation.as_sender(socket.caller, feed.customer_id)
        self._gateway.marks.add(
            feed.tenant_id, feed.conversation_id, reader, frame.delivered, frame.read
        )
        _done(socket, frame.ref)

    def _typing(self, socket: Socket, frame: frames_in.SetTyping) -> None:
        subscription = _participating(socket, frame.conversation_id)
        feed, now = subscription.feed, time.monotonic()
        repeated = frame.typing == subscription.typing
        if not repeated or now - subscription.typed_at >= TYPING_EVERY_S:
            subscription.typing, subscription.typed_at = frame.typing, now
            sender = translation.as_sender(socket.caller, feed.customer_id)
            push = gateway_pb2.Push(
                tenant_id=feed.tenant_id,
                conversation_id=feed.conversation_id,
                typing=gateway_pb2.Typing(sender=sender, typing=frame.typing),
            )
            self._gateway.pusher.push([push])
        _done(socket, frame.ref)

    async def _transfer(self, socket: Socket, frame: frames_in.Transfer) -> None:
        request = TransferConversationRequest(
            conversation_id=frame.conversation_id,
            request_id=frame.request_id,
            needs=translation.needs(frame.needs),
        )
        await self._gateway.upstream.transfer(socket.caller, request)
        _done(socket, frame.ref, always=True)

    async def _hand_off(self, socket: Socket, frame: frames_in.HandOff) -> None:
        request = HandOffConversationRequest(
            conversation_id=frame.conversation_id,
            request_id=frame.request_id,
            needs=translation.needs(frame.needs),
        )
        await self._gateway.upstream.hand_off(socket.caller, request)
        _done(socket, frame.ref, always=True)

    async def _end(self, socket: Socket, frame: frames_in.End) -> None:
        request = EndConversationRequest(
            conversation_id=frame.conversation_id,
            request_id=frame.request_id,
            reason=translation.end_reason(frame.reason),
        )
        await self._gateway.upstream.end(socket.caller, request)
        _done(socket, frame.ref, always=True)

    # The desk of an agent.

    async def _set_status(self, socket: Socket, frame: frames_in.SetStatus) -> None:
        status = translation.agent_status(frame.status)
        await self._gateway.upstream.set_status(socket.caller, status)
        _done(socket, frame.ref, always=True)

    async def _accept(self, socket: Socket, frame: frames_in.Accept) -> None:
        desk = await self._gateway.upstream.accept(socket.caller, frame.offer_id)
        self._gateway.desks.learn(socket.caller.tenant_id, desk)
        _done(socket, frame.ref, always=True)

    async def _decline(self, socket: Socket, frame: frames_in.Decline) -> None:
        desk = await self._gateway.upstream.decline(socket.caller, frame.offer_id)
        self._gateway.desks.learn(socket.caller.tenant_id, desk)
        _done(socket, frame.ref, always=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _participating(socket: Socket, conversation_id: str) -> Subscription:
    """Return the subscription of one who takes part in a conversation; raise when he does not."""
    subscription = socket.subscriptions.get(conversation_id)
    if subscription is None or not subscription.told:
        raise _not_subscribed()
    feed = subscription.feed
    is_agent = AGENT in socket.caller.roles and socket.caller.subject == feed.agent_id
    if not is_agent and socket.caller.subject != feed.customer_id:
        raise PermissionDenied("NOT_PARTICIPANT", "only its customer and its agent may do this")
    return subscription


def _not_subscribed() -> FailedPrecondition:
    return FailedPrecondition("NOT_SUBSCRIBED", "the socket does not follow this conversation")


def _done(socket: Socket, ref: str, *, always: bool = False) -> None:
    """Answer what has no other answer, if the client wants one."""
    if ref or always:
        socket.send(encode(frames_out.Done(ref=ref)))
