"""gRPC in: requests to commands, results to responses.

Calls that write are gathered: those that arrive while a batch is being written
are the next one.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

from interchange.conversation.v1 import conversation_pb2
from interchange.conversation.v1 import conversation_service_pb2 as pb
from interchange.conversation.v1.conversation_service_pb2_grpc import ConversationServiceServicer

from services.common import identity
from services.common.batcher import Batcher, isolated
from services.common.clock import BusinessClock
from services.common.errors import InterchangeError, InvalidArgument
from services.common.personal import Keys
from services.common.work import WorkUnits
from services.conversation import commands, handlers
from services.conversation.news import News
from services.conversation.pace import Pace
from services.conversation.repository import Conversations, Filter
from services.conversation.watch import Watches

SUBMISSIONS_MAX = 500


class ConversationServicer(ConversationServiceServicer):
    """Keeps the conversations of a tenant."""

    def __init__(
        self,
        uow: WorkUnits[Conversations],
        clock: BusinessClock,
        keys: Keys,
        news: News,
        watches: Watches,
        pace: Pace,
        batch_size_max: int,
    ) -> None:
        self._uow = uow
        self._clock = clock
        self._keys = keys
        self._news = news
        self._watches = watches
        self._pace = pace
        self._starts = Batcher(self._start, batch_size_max)
        self._changes = Batcher(self._change, batch_size_max)

    async def StartConversation(
        self, request: pb.StartConversationRequest, context: Any
    ) -> conversation_pb2.Conversation:
        """Start a conversation."""
        caller = identity.current()
        start = self._pace.admit(commands.start(request, caller))
        if isinstance(start, InterchangeError):
            raise start
        return await self._starts.submit(caller.tenant_id, start)

    async def GetConversation(
        self, request: pb.GetConversationRequest, context: Any
    ) -> conversation_pb2.Conversation:
        """Return one conversation."""
        caller = identity.current()
        return await handlers.get_conversation(caller, request.conversation_id, uow=self._uow)

    async def ListConversations(
        self, request: pb.ListConversationsRequest, context: Any
    ) -> pb.ListConversationsResponse:
        """List conversations, newest first."""
        wanted = Filter(request.customer_id, request.agent_id, request.status, request.channel)
        page, token = await handlers.list_conversations(
            identity.current(), wanted, request.page_size, request.page_token, uow=self._uow
        )
        return pb.ListConversationsResponse(conversations=page, next_page_token=token)

    async def HandOffConversation(
        self, request: pb.HandOffConversationRequest, context: Any
    ) -> conversation_pb2.Conversation:
        """Hand a conversation from the bot to agents."""
        return await self._submit(commands.hand_off(request, identity.current()))

    async def TransferConversation(
        self, request: pb.TransferConversationRequest, context: Any
    ) -> conversation_pb2.Conversation:
        """Hand a conversation from its agent to another one."""
        return await self._submit(commands.transfer(request, identity.current()))

    async def EndConversation(
        self, request: pb.EndConversationRequest, context: Any
    ) -> conversation_pb2.Conversation:
        """End a conversation."""
        return await self._submit(commands.end(request, identity.current()))

    async def ReopenConversation(
        self, request: pb.ReopenConversationRequest, context: Any
    ) -> conversation_pb2.Conversation:
        """Open an ended conversation again."""
        return await self._submit(commands.reopen(request, identity.current()))

    async def SubmitStarts(
        self, request: pb.SubmitStartsRequest, context: Any
    ) -> pb.SubmitStartsResponse:
        """Start conversations of many customers, each with its own result."""
        if len(request.submissions) > SUBMISSIONS_MAX:
            expected = f"was {len(request.submissions)}, expected at most {SUBMISSIONS_MAX}"
            raise InvalidArgument.of("submissions", "BATCH_TOO_LARGE", expected)
        tenant_id = identity.current().tenant_id
        checked = self._pace.admit_all(
            [commands.submitted(one, tenant_id) for one in request.submissions]
        )
        starts = [one for one in checked if isinstance(one, commands.Start)]
        outcomes = iter(await isolated(self._start, tenant_id, starts) if starts else [])
        return pb.SubmitStartsResponse(
            results=[
                _result(one if isinstance(one, InterchangeError) else next(outcomes))
                for one in checked
            ]
        )

    async def WatchConversation(
        self, request: pb.WatchConversationRequest, context: Any
    ) -> AsyncIterator[conversation_pb2.Conversation]:
        """Send a conversation at once, and again after each change."""
        caller = identity.current()
        watching = self._watches.watch(caller, request.conversation_id.lower())
        async with aclosing(watching) as states:
            async for state in states:
                yield state

    async def _submit(self, command: commands.Change) -> conversation_pb2.Conversation:
        return await self._changes.submit(command.caller.tenant_id, command)

    async def _start(
        self, tenant_id: str, batch: Sequence[commands.Start]
    ) -> list[handlers.Outcome]:
        return await handlers.start_conversations(
            tenant_id, batch, uow=self._uow, clock=self._clock, keys=self._keys
        )

    async def _change(
        self, tenant_id: str, batch: Sequence[commands.Change]
    ) -> list[handlers.Outcome]:
        return await handlers.change_conversations(
            tenant_id, batch, uow=self._uow, clock=self._clock, news=self._news
        )


def _result(outcome: handlers.Outcome) -> pb.StartResult:
    if isinstance(outcome, InterchangeError):
        return pb.StartResult(error=outcome.to_status())
    return pb.StartResult(conversation=outcome)
