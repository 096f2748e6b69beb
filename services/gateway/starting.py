"""Conversations that clients start."""

from interchange.conversation.v1.conversation_service_pb2 import (
    Route,
    StartConversationRequest,
    StartResult,
    StartSubmission,
)

from services.common.errors import PermissionDenied
from services.gateway import frames_out, translation
from services.gateway.frames_in import Start
from services.gateway.submitting import Submitter
from services.gateway.subscription import Reader
from services.gateway.upstream import Upstream


class Starts:
    """Starts conversations."""

    def __init__(self, upstream: Upstream) -> None:
        self._submitter = Submitter(upstream.start, _started, "conversations")
        self.settled = self._submitter.settled

    def add(self, reader: Reader, frame: Start) -> None:
        """Take a conversation to start; its customer is answered by `started` or `error`.

        Raises PermissionDenied or ResourceExhausted.
        """
        caller = reader.caller
        if not caller.may("conversation.start"):
            raise PermissionDenied("PERMISSION_DENIED", "permission conversation.start is missing")
        submission = StartSubmission(customer_id=caller.subject, request=_request(frame))
        self._submitter.add(reader, frame.ref, submission)


def _started(result: StartResult, ref: str) -> frames_out.Started:
    started = result.conversation
    return frames_out.Started(started.conversation_id, translation.status(started), ref=ref)


def _request(frame: Start) -> StartConversationRequest:
    return StartConversationRequest(
        request_id=frame.request_id,
        customer_name=frame.name,
        channel=translation.channel(frame.channel),
        route=Route.Value(f"ROUTE_{frame.route.upper()}"),
        bot_id=frame.bot_id,
        needs=translation.needs(frame.needs),
        text=frame.text,
    )
