"""Messages that clients send, submitted together with what others of the tenant send."""

from collections.abc import Callable
from typing import NamedTuple

from interchange.message.v1.message_pb2 import Message
from interchange.message.v1.message_service_pb2 import SendMessageRequest, Submission

from services.common.errors import InvalidArgument, PermissionDenied, ResourceExhausted
from services.gateway import frames_out, metrics, translation
from services.gateway.codec import encode
from services.gateway.frames_in import Send
from services.gateway.gathering import Gatherer
from services.gateway.refusals import of_status, refusal
from services.gateway.subscription import Reader
from services.gateway.upstream import Upstream

BATCH_MAX = 500
BATCH_BYTES_MAX = 2 * 1024 * 1024
"""Well below what a message of gRPC may have."""


class _Sending(NamedTuple):
    reader: Reader
    ref: str
    submission: Submission


class Sends:
    """Submits messages: one batch a tenant at a time, which keeps the order of each sender."""

    def __init__(self, upstream: Upstream, stored: Callable[[str, Message], None]) -> None:
        """`stored` hears of each message that was, before a push can bring it."""
        self._upstream = upstream
        self._stored = stored
        self.waiting: Gatherer[_Sending] = Gatherer(
            self._submit,
            BATCH_MAX,
            weigh=lambda each: each.submission.ByteSize(),
            weight_max=BATCH_BYTES_MAX,
        )

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
        submission = Submission(sender=sender, request=_request(frame))
        if not self.waiting.add(caller.tenant_id, _Sending(reader, frame.ref, submission)):
            raise ResourceExhausted(
                "TOO_MANY_WAITING", "too many messages of this tenant are waiting"
            )

    async def _submit(self, tenant_id: str, batch: list[_Sending]) -> None:
        metrics.BATCH.observe(len(batch))
        try:
            results = await self._upstream.submit(tenant_id, [each.submission for each in batch])
        except Exception as error:
            for each in batch:
                each.reader.send(encode(refusal(error, each.ref)))
            return
        for each, result in zip(batch, results, strict=True):
            if result.HasField("error"):
                frame: frames_out.ServerFrame = of_status(result.error, each.ref)
            else:
                frame = frames_out.Sent(
                    result.message.conversation_id,
                    result.message.client_message_id,
                    result.message.sequence,
                    result.message.message_id,
                    ref=each.ref,
                )
            each.reader.send(encode(frame))
        for result in results:
            if result.HasField("message"):
                self._stored(tenant_id, result.message)


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
