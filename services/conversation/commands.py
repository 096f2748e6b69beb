"""Requests to commands."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from interchange.conversation.v1 import conversation_pb2
from interchange.conversation.v1 import conversation_service_pb2 as pb

from services.common import validation
from services.common.errors import InterchangeError, PermissionDenied
from services.common.identity import CUSTOMER, Caller
from services.common.requests import RequestKey
from services.conversation import domain, inputs
from services.conversation import needs as needing
from services.conversation.domain import Conversation, Step

BOT_DEFAULT = "default"
ROUTES: Mapping[int, conversation_pb2.Status.ValueType] = {
    pb.ROUTE_UNSPECIFIED: domain.WITH_BOT,
    pb.ROUTE_BOT: domain.WITH_BOT,
    pb.ROUTE_QUEUE: domain.QUEUED,
}


@dataclass(frozen=True, slots=True)
class Start:
    """A conversation to start: every rule holds."""

    caller: Caller
    request: RequestKey
    customer_id: str
    customer_name: str
    channel: conversation_pb2.Channel.ValueType
    status: conversation_pb2.Status.ValueType
    bot_id: str
    needs: bytes
    text: str
    """First message; empty when there is none."""


class Verb(Protocol):
    """What a caller wants to be done with a conversation."""

    def steps(self, conversation: Conversation, caller: Caller, now_us: int) -> list[Step]:
        """Return the steps; raises when they may not follow, or not by this caller."""
        ...


@dataclass(frozen=True, slots=True)
class Change:
    """A change of one conversation."""

    caller: Caller
    request: RequestKey
    conversation_id: str
    verb: Verb


@dataclass(frozen=True, slots=True)
class HandOff(Verb):
    """Hand over to agents; a customer does it with his own."""

    needs: bytes | None

    def steps(self, conversation: Conversation, caller: Caller, now_us: int) -> list[Step]:
        """Return the steps."""
        _as_customer(conversation, caller)
        return domain.hand_off(conversation, self.needs, caller.subject, now_us)


@dataclass(frozen=True, slots=True)
class Transfer(Verb):
    """Hand on to another agent; an agent does it with those he answers."""

    needs: bytes | None

    def steps(self, conversation: Conversation, caller: Caller, now_us: int) -> list[Step]:
        """Return the steps."""
        if caller.narrow and caller.subject != conversation.agent_id:
            raise PermissionDenied("NOT_THE_AGENT", "only the agent who answers hands it on")
        return domain.transfer(conversation, self.needs, caller.subject, now_us)


@dataclass(frozen=True, slots=True)
class End(Verb):
    """End it; whoever sees it may."""

    reason: conversation_pb2.EndReason.ValueType

    def steps(self, conversation: Conversation, caller: Caller, now_us: int) -> list[Step]:
        """Return the steps."""
        return domain.end(conversation, self.reason, caller.subject, now_us)


@dataclass(frozen=True, slots=True)
class Reopen(Verb):
    """Open it again; a customer does it with his own."""

    status: conversation_pb2.Status.ValueType

    def steps(self, conversation: Conversation, caller: Caller, now_us: int) -> list[Step]:
        """Return the steps."""
        _as_customer(conversation, caller)
        return domain.reopen(conversation, self.status, caller.subject, now_us)


def start(request: pb.StartConversationRequest, caller: Caller) -> Start:
    """Return the command of a request; raises InvalidArgument, or PermissionDenied."""
    customer_id = inputs.customer_id(request.customer_id or caller.subject)
    if caller.narrow and CUSTOMER in caller.roles and customer_id != caller.subject:
        raise PermissionDenied("NOT_THE_CUSTOMER", "a customer starts conversations as himself")
    if caller.narrow:
        inputs.modest(request.needs)
    return Start(
        caller,
        _key("StartConversation", request, caller),
        customer_id,
        inputs.customer_name(request.customer_name),
        request.channel or conversation_pb2.CHANNEL_WEB,
        ROUTES[request.route],
        request.bot_id or BOT_DEFAULT,
        needing.stored(request.needs) if request.HasField("needs") else needing.NONE,
        inputs.first_text(request.text),
    )


def submitted(submission: pb.StartSubmission, tenant_id: str) -> Start | InterchangeError:
    """Return the command of a customer whom another service verified, or what is wrong."""
    try:
        validation.check(submission.request)
        return start(submission.request, Caller(tenant_id, submission.customer_id, (CUSTOMER,)))
    except InterchangeError as error:
        return error


def hand_off(request: pb.HandOffConversationRequest, caller: Caller) -> Change:
    """Return the command of a request."""
    if caller.narrow:
        inputs.modest(request.needs)
    verb = HandOff(needing.stored(request.needs) if request.HasField("needs") else None)
    return _change("HandOffConversation", request, caller, verb)


def transfer(request: pb.TransferConversationRequest, caller: Caller) -> Change:
    """Return the command of a request."""
    verb = Transfer(needing.stored(request.needs) if request.HasField("needs") else None)
    return _change("TransferConversation", request, caller, verb)


def end(request: pb.EndConversationRequest, caller: Caller) -> Change:
    """Return the command of a request."""
    verb = End(request.reason or conversation_pb2.END_REASON_RESOLVED)
    return _change("EndConversation", request, caller, verb)


def reopen(request: pb.ReopenConversationRequest, caller: Caller) -> Change:
    """Return the command of a request."""
    return _change("ReopenConversation", request, caller, Reopen(ROUTES[request.route]))


ChangeRequest = (
    pb.HandOffConversationRequest
    | pb.TransferConversationRequest
    | pb.EndConversationRequest
    | pb.ReopenConversationRequest
)
Request = pb.StartConversationRequest | ChangeRequest


def _change(rpc: str, request: ChangeRequest, caller: Caller, verb: Verb) -> Change:
    # One spelling of an id: it is compared as text with what the table holds.
    conversation_id = request.conversation_id.lower()
    return Change(caller, _key(rpc, request, caller), conversation_id, verb)


def _key(
    rpc: str, request: pb.StartConversationRequest | ChangeRequest, caller: Caller
) -> RequestKey:
    """Return the idempotency key: each caller has keys of his own.

    Customers count from one, all of them, and must not be answered with what another
    one was. A subject holds no space.
    """
    key = RequestKey.of(rpc, request)
    return replace(key, key=f"{caller.subject} {key.key}") if key.key else key


def _as_customer(conversation: Conversation, caller: Caller) -> None:
    if caller.narrow and caller.subject != conversation.customer_id:
        raise PermissionDenied("NOT_THE_CUSTOMER", "only the customer may, or a supervisor")
