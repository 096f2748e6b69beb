"""Calls of the gateway to the services behind it.

As a caller where somebody asked for it, so that what he may see is decided where it
is known; as the mesh where it is for many at once.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

from interchange.agent.v1 import agent_pb2, agent_service_pb2
from interchange.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from interchange.conversation.v1 import conversation_service_pb2
from interchange.conversation.v1.conversation_service_pb2_grpc import ConversationServiceStub
from interchange.message.v1 import message_service_pb2
from interchange.message.v1.message_service_pb2_grpc import MessageServiceStub
from interchange.session.v1 import session_service_pb2
from interchange.session.v1.session_service_pb2_grpc import SessionServiceStub

from services.common import clients, identity
from services.common.identity import Caller

if TYPE_CHECKING:
    from interchange.agent.v1.agent_service_pb2_grpc import AgentServiceAsyncStub
    from interchange.conversation.v1.conversation_service_pb2_grpc import (
        ConversationServiceAsyncStub,
    )
    from interchange.message.v1.message_service_pb2_grpc import MessageServiceAsyncStub
    from interchange.session.v1.session_service_pb2_grpc import SessionServiceAsyncStub

TIMEOUT_S = 5.0
NAME = "gateway"
NO_TENANT = "mesh"
"""Tenant of calls that are for all tenants."""


class Upstream:
    """The services behind the gateway. Every call raises AioRpcError."""

    def __init__(self, channel: clients.Channel, instance_id: str) -> None:
        self.instance_id = instance_id
        self._agents = cast("AgentServiceAsyncStub", channel.stub(AgentServiceStub))
        self._conversations = cast(
            "ConversationServiceAsyncStub", channel.stub(ConversationServiceStub)
        )
        self._messages = cast("MessageServiceAsyncStub", channel.stub(MessageServiceStub))
        self._sessions = cast("SessionServiceAsyncStub", channel.stub(SessionServiceStub))

    async def start(
        self, tenant_id: str, submissions: Sequence[conversation_service_pb2.StartSubmission]
    ) -> Sequence[conversation_service_pb2.StartResult]:
        """Start conversations of many customers; return one result each."""
        request = conversation_service_pb2.SubmitStartsRequest(submissions=submissions)
        return (await self._conversations.SubmitStarts(request, **_mesh(tenant_id))).results

    async def transfer(
        self, caller: Caller, request: conversation_service_pb2.TransferConversationRequest
    ) -> None:
        """Hand a conversation to another agent."""
        await self._conversations.TransferConversation(request, **_as(caller))

    async def hand_off(
        self, caller: Caller, request: conversation_service_pb2.HandOffConversationRequest
    ) -> None:
        """Hand a conversation to agents."""
        await self._conversations.HandOffConversation(request, **_as(caller))

    async def end(
        self, caller: Caller, request: conversation_service_pb2.EndConversationRequest
    ) -> None:
        """End a conversation."""
        await self._conversations.EndConversation(request, **_as(caller))

    async def resume(
        self, caller: Caller, conversation_id: str, after: int, epoch: str, size: int
    ) -> message_service_pb2.ResumeMessagesResponse:
        """Return what a reader missed."""
        request = message_service_pb2.ResumeMessagesRequest(
            conversation_id=conversation_id, after_sequence=after, epoch=epoch, page_size=size
        )
        return await self._messages.ResumeMessages(request, **_as(caller))

    async def resume_many(
        self, tenant_id: str, submissions: Sequence[message_service_pb2.ResumeSubmission]
    ) -> Sequence[message_service_pb2.ResumeResult]:
        """Return what many readers missed; a result without answer is to be asked alone."""
        request = message_service_pb2.SubmitResumesRequest(submissions=submissions)
        return (await self._messages.SubmitResumes(request, **_mesh(tenant_id))).results

    async def submit(
        self, tenant_id: str, submissions: Sequence[message_service_pb2.Submission]
    ) -> Sequence[message_service_pb2.SendMessageResult]:
        """Send messages of many senders; return one result each."""
        request = message_service_pb2.SubmitMessagesRequest(submissions=submissions)
        return (await self._messages.SubmitMessages(request, **_mesh(tenant_id))).results

    async def submit_marks(
        self, tenant_id: str, marks: Sequence[message_service_pb2.ReaderMark]
    ) -> None:
        """Move the marks of many readers."""
        request = message_service_pb2.SubmitMarksRequest(marks=marks)
        await self._messages.SubmitMarks(request, **_mesh(tenant_id))

    async def tails(
        self, tenant_id: str, conversation_ids: Sequence[str]
    ) -> Sequence[message_service_pb2.Tail]:
        """Return how far conversations are."""
        request = message_service_pb2.ListTailsRequest(conversation_ids=conversation_ids)
        return (await self._messages.ListTails(request, **_mesh(tenant_id))).tails

    async def attach(
        self, tenant_id: str, attachments: Sequence[session_service_pb2.Attachment]
    ) -> Sequence[session_service_pb2.AttachResult]:
        """Open or resume sessions; return one result each."""
        request = session_service_pb2.AttachSessionsRequest(
            instance_id=self.instance_id, attachments=attachments
        )
        return (await self._sessions.AttachSessions(request, **_mesh(tenant_id))).results

    async def detach(self, tenant_id: str, ended: Sequence[str], broken: Sequence[str]) -> None:
        """End sessions, or leave them to be resumed."""
        request = session_service_pb2.DetachSessionsRequest(
            instance_id=self.instance_id, ended_session_ids=ended, broken_session_ids=broken
        )
        await self._sessions.DetachSessions(request, **_mesh(tenant_id))

    async def heartbeat(self) -> session_service_pb2.HeartbeatInstanceResponse:
        """Say that this instance lives."""
        request = session_service_pb2.HeartbeatInstanceRequest(instance_id=self.instance_id)
        return await self._sessions.HeartbeatInstance(request, **_mesh(NO_TENANT))

    async def confirm(self, tenant_id: str, session_ids: Iterable[str]) -> Sequence[str]:
        """Name all sessions of a tenant that are held here; return those that are not."""
        request = session_service_pb2.ConfirmSessionsRequest(
            instance_id=self.instance_id, session_ids=session_ids
        )
        return (await self._sessions.ConfirmSessions(request, **_mesh(tenant_id))).lost_session_ids

    async def present(self, tenant_id: str, subjects: Sequence[str]) -> frozenset[str]:
        """Return those of the subjects who are there."""
        request = session_service_pb2.ListPresenceRequest(subjects=subjects)
        answer = await self._sessions.ListPresence(request, **_mesh(tenant_id))
        return frozenset(answer.online_subjects)

    async def desks(
        self, tenant_id: str, known: Sequence[agent_service_pb2.DeskVersion]
    ) -> Sequence[agent_pb2.Desk]:
        """Return the desks that are newer than known."""
        request = agent_service_pb2.ListDesksRequest(known=known)
        return (await self._agents.ListDesks(request, **_mesh(tenant_id))).desks

    async def set_status(
        self, caller: Caller, status: agent_pb2.AgentStatus.ValueType
    ) -> agent_pb2.Agent:
        """Say whether an agent takes conversations."""
        request = agent_service_pb2.SetAgentStatusRequest(agent_id=caller.subject, status=status)
        return await self._agents.SetAgentStatus(request, **_as(caller))

    async def accept(self, caller: Caller, offer_id: str) -> agent_pb2.Desk:
        """Take an offer."""
        request = agent_service_pb2.AcceptOfferRequest(agent_id=caller.subject, offer_id=offer_id)
        return await self._agents.AcceptOffer(request, **_as(caller))

    async def decline(self, caller: Caller, offer_id: str) -> agent_pb2.Desk:
        """Decline an offer."""
        request = agent_service_pb2.DeclineOfferRequest(agent_id=caller.subject, offer_id=offer_id)
        return await self._agents.DeclineOffer(request, **_as(caller))


def _as(caller: Caller) -> dict[str, Any]:
    return {"metadata": clients.headers(caller), "timeout": TIMEOUT_S}


def _mesh(tenant_id: str) -> dict[str, Any]:
    return _as(identity.service(tenant_id, NAME))
