"""Messages that clients send."""

from collections.abc import Callable, Sequence

from interchange.message.v1.message_pb2 import Message
from interchange.message.v1.message_service_pb2 import (
    SendMessageRequest,
    SendMessageResult,
    Submission,
)

from services.common.errors import InvalidArgument, PermissionDenied
from services.gateway import frames_out, metrics, translation
from services.gateway.frames_in import Send
from services.gateway.submitting import Submitter
from services.gateway.subscription import Reader
from services.gateway.upstream import Upstream


class Sends:
    """Submits messages."""

    def __init__(self, upstream: Upstream, stored: Callable[[str, Message], None]) -> None:
        """`stored` hears of each message that was, before a push can bring it."""
        self._upstream = upstream
        self._stored = stored
        self._submitter = Submitter(self._submit, _sent, "messages", self._tell)
        self.settled = self._submitter.settled

    def add(self, reader: Reader, frame: Send) -> None:
        """Take a message; its sender is answered by `sent` or `error`.

        Raises PermissionDenied, InvalidArgument or ResourceExhausted.
        """
        caller = reader.caller
        if not caller.may("message.send"):
            raise PermissionDenied("PERMISSION_DENIED", "permission message.send is missing")
        subscription = reader.subscriptions.get(frame.conversation_id)
        customer_id = subscription.feed.customer_id if subscription else ""
        sender = translation.as_sender(caller, customer_id)
        self._submitter.add(reader, frame.ref, Submission(sender=sender, request=_request(frame)))

    async def _submit(
        self, tenant_id: str, submissions: Sequence[Submission]
    ) -> Sequence[SendMessageResult]:
        metrics.BATCH.observe(len(submissions))
        return await self._upstream.submit(tenant_id, submissions)

    def _tell(self, tenant_id: str, results: Sequence[SendMessageResult]) -> None:
        for result in results:
            if result.HasField("message"):
                self._stored(tenant_id, result.message)


def _sent(result: SendMessageResult, ref: str) -> frames_out.Sent:
    message = result.message
    return frames_out.Sent(
        message.conversation_id,
        message.client_message_id,
        message.sequence,
        message.message_id,
        ref=ref,
    )


def _request(frame: Send) -> SendMessageRequest:
    """Return a message to be sent; what it says is checked where it is stored."""
    if frame.text is not None and frame.attachment is not None:
        # Of two contents the last would win in silence.
        raise InvalidArgument.of(
            "attachment", "TWO_CONTENTS", "a message has a text or an attachment"
        )
    request = SendMessageRequest(
        conversation_id=frame.conversation_id, client_message_id=frame.client_message_id
    )
    if frame.text is not None:
        request.text = frame.text
    if frame.attachment is not None:
        request.attachment.CopyFrom(translation.attachment(frame.attachment))
    return request
