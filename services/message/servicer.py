"""gRPC in: requests to commands, outcomes to responses."""

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any, TypeAlias

from grpc.aio import ServicerContext
from interchange.message.v1 import message_service_pb2 as pb
from interchange.message.v1.message_pb2 import Mark, Message
from interchange.message.v1.message_service_pb2_grpc import MessageServiceServicer

from services.common import identity, pagination
from services.common.errors import InterchangeError, InvalidArgument
from services.common.identity import Caller
from services.message import domain, inputs, responses
from services.message.marking import Marking
from services.message.marks import Move
from services.message.outgoing import Outgoing, Submitted
from services.message.reading import Reader, Resumed
from services.message.resuming import Alone, Coming, Resuming
from services.message.watching import Follows, Watches

Context: TypeAlias = ServicerContext[Any, Any]

BATCH_MAX = 500
MARKS_MAX = 1_000
TAILS_MAX = 5_000
PAGE_MAX = 500
RESUME_SIZE = 200
NO_CONVERSATION = "00000000-0000-0000-0000-000000000000"
NO_PATIENCE_S = 0.0
"""What one socket brought ahead of its time must not keep the others waiting."""


class MessageServicer(MessageServiceServicer):
    """Sends and shows messages."""

    def __init__(
        self,
        outgoing: Outgoing,
        reader: Reader,
        resuming: Resuming,
        marking: Marking,
        watches: Watches,
        followers: Follows,
    ) -> None:
        self._outgoing = outgoing
        self._reader = reader
        self._resuming = resuming
        self._marking = marking
        self._watches = watches
        self._followers = followers

    async def SendMessage(self, request: pb.SendMessageRequest, context: Context) -> Message:
        """Send one message."""
        caller = identity.current()
        draft = inputs.draft(request, domain.author(caller))
        return await self._outgoing.one(caller.tenant_id, draft)

    async def BatchSendMessages(
        self, request: pb.BatchSendMessagesRequest, context: Context
    ) -> pb.BatchSendMessagesResponse:
        """Send up to 500 messages, each with its own result."""
        caller = identity.current()
        _check_size("requests", len(request.requests), BATCH_MAX)
        author = domain.author(caller)
        batch = [inputs.draft(one, author) for one in request.requests]
        return _results(await self._outgoing.many(caller.tenant_id, batch))

    async def SubmitMessages(
        self, request: pb.SubmitMessagesRequest, context: Context
    ) -> pb.BatchSendMessagesResponse:
        """Send messages of many senders, each with its own result."""
        _check_size("submissions", len(request.submissions), BATCH_MAX)
        batch: list[Submitted] = [
            sender if isinstance(sender, InvalidArgument) else inputs.draft(one.request, sender)
            for one in request.submissions
            for sender in [inputs.sender_of(one.sender)]
        ]
        tenant_id = identity.current().tenant_id
        return _results(await self._outgoing.many(tenant_id, batch, NO_PATIENCE_S))

    async def ListMessages(
        self, request: pb.ListMessagesRequest, context: Context
    ) -> pb.ListMessagesResponse:
        """List messages by number, either way."""
        after, before = request.after_sequence, request.before_sequence
        if after and before:
            raise InvalidArgument.of(
                "before_sequence", "BOTH_WAYS", "is not allowed together with after_sequence"
            )
        size = pagination.page_size(request.page_size, max=PAGE_MAX)
        name = request.conversation_id.lower()
        page = await self._reader.list_messages(identity.current(), name, after, before, size)
        return pb.ListMessagesResponse(
            messages=[responses.message(row) for row in page.rows],
            last_sequence=page.conversation.last_sequence,
            more=page.more,
        )

    async def ResumeMessages(
        self, request: pb.ResumeMessagesRequest, context: Context
    ) -> pb.ResumeMessagesResponse:
        """Return what a reader missed, and whether that is all."""
        size = pagination.page_size(request.page_size, default=RESUME_SIZE, max=PAGE_MAX)
        resumed = await self._reader.resume(
            identity.current(),
            request.conversation_id.lower(),
            request.after_sequence,
            request.epoch,
            size,
        )
        return responses.resumed(resumed)

    async def SubmitResumes(
        self, request: pb.SubmitResumesRequest, context: Context
    ) -> pb.SubmitResumesResponse:
        """Return what many readers missed who come at once."""
        _check_size("submissions", len(request.submissions), BATCH_MAX)
        tenant_id = identity.current().tenant_id
        coming = [
            Coming(
                Caller(tenant_id, one.subject, tuple(one.roles)),
                # What is no id belongs to no conversation.
                inputs.canonical_id(one.conversation_id) or NO_CONVERSATION,
                max(one.after_sequence, 0),
                one.epoch,
            )
            for one in request.submissions
        ]
        found = await self._resuming.many(tenant_id, coming)
        return pb.SubmitResumesResponse(
            results=[
                pb.ResumeResult(response=responses.resumed(one))
                if isinstance(one, Resumed)
                else pb.ResumeResult(awaited=one is Alone.AWAITED)
                for one in found
            ]
        )

    async def MarkMessages(self, request: pb.MarkMessagesRequest, context: Context) -> Mark:
        """Say how far the caller has a conversation."""
        row = await self._marking.one(
            identity.current(),
            request.conversation_id.lower(),
            request.delivered_sequence,
            request.read_sequence,
        )
        return responses.mark(row)

    async def WatchMessages(
        self, request: pb.WatchMessagesRequest, context: Context
    ) -> AsyncIterator[Message]:
        """Send the messages after a number, then each new one."""
        batches = self._watches.watch(
            identity.current(),
            request.conversation_id.lower(),
            request.after_sequence,
            self._followers,
        )
        async with aclosing(batches):
            async for batch in batches:
                for message in batch:
                    yield message

    async def SubmitMarks(
        self, request: pb.SubmitMarksRequest, context: Context
    ) -> pb.SubmitMarksResponse:
        """Move the marks of many readers; what can't be moved is left out."""
        _check_size("marks", len(request.marks), MARKS_MAX)
        moves = [move for one in request.marks if (move := _move(one)) is not None]
        moved = await self._marking.many(identity.current().tenant_id, moves)
        return pb.SubmitMarksResponse(moved_count=moved)

    async def ListTails(
        self, request: pb.ListTailsRequest, context: Context
    ) -> pb.ListTailsResponse:
        """Return how far conversations are; unknown ones are left out."""
        _check_size("conversation_ids", len(request.conversation_ids), TAILS_MAX)
        names = {inputs.canonical_id(one) for one in request.conversation_ids} - {None}
        tenant_id = identity.current().tenant_id
        found = await self._reader.tails(tenant_id, [name for name in names if name])
        return pb.ListTailsResponse(
            tails=[
                pb.Tail(
                    conversation_id=one.conversation_id,
                    last_sequence=one.last_sequence,
                    marks_version=one.marks_version,
                    customer_id=one.customer_id,
                    agent_id=one.agent_id,
                )
                for one in found
            ]
        )


def _results(outcomes: Sequence[Message | InterchangeError]) -> pb.BatchSendMessagesResponse:
    response = pb.BatchSendMessagesResponse()
    for outcome in outcomes:
        result = response.results.add()
        if isinstance(outcome, InterchangeError):
            result.error.CopyFrom(outcome.to_status())
        else:
            result.message.CopyFrom(outcome)
    return response


def _check_size(field: str, size: int, greatest: int) -> None:
    if not 1 <= size <= greatest:
        text = f"were {size}, expected 1 to {greatest}"
        raise InvalidArgument.of(field, "BATCH_SIZE_INVALID", text)


def _move(one: pb.ReaderMark) -> Move | None:
    """Return a move of a mark; None for one that names nobody, or nothing."""
    name = inputs.canonical_id(one.conversation_id)
    reader = inputs.sender_of(one.mark.reader)
    mark = one.mark
    if name is None or isinstance(reader, InvalidArgument):
        return None
    if mark.delivered_sequence < 0 or mark.read_sequence < 0:
        return None
    return Move(name, reader, mark.delivered_sequence, mark.read_sequence)
