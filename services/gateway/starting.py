"""Conversations that clients start, together with those that others of the tenant start."""

from typing import NamedTuple

from interchange.conversation.v1.conversation_service_pb2 import (
    Route,
    StartConversationRequest,
    StartSubmission,
)

from services.common.errors import PermissionDenied, ResourceExhausted
from services.gateway import frames_out, translation
from services.gateway.codec import encode
from services.gateway.frames_in import Start
from services.gateway.gathering import Gatherer
from services.gateway.refusals import of_status, refusal
from services.gateway.subscription import Reader
from services.gateway.upstream import Upstream

BATCH_MAX = 500
BATCH_BYTES_MAX = 2 * 1024 * 1024
"""Well below what a message of gRPC may have."""


class _Starting(NamedTuple):
    reader: Reader
    ref: str
    submission: StartSubmission


class Starts:
    """Starts conversations, one batch a tenant at a time."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self.waiting: Gatherer[_Starting] = Gatherer(
            self._submit,
            BATCH_MAX,
            weigh=lambda each: each.submission.ByteSize(),
            weight_max=BATCH_BYTES_MAX,
        )

    def add(self, reader: Reader, frame: Start) -> None:
        """Take a conversation to start; its customer is answered by `started` or `error`.

        Raises PermissionDenied or ResourceExhausted.
        """
        caller = reader.caller
        if not caller.may("conversation.start"):
            raise PermissionDenied("PERMISSION_DENIED", "permission conversation.start is missing")
        submission = StartSubmission(customer_id=caller.subject, request=_request(frame))
        if not self.waiting.add(caller.tenant_id, _Starting(reader, frame.ref, submission)):
            raise ResourceExhausted(
                "TOO_MANY_WAITING", "too many conversations of this tenant are waiting"
            )

    async def _submit(self, tenant_id: str, batch: list[_Starting]) -> None:
        try:
            results = await self._upstream.start(tenant_id, [each.submission for each in batch])
        except Exception as error:
            for each in batch:
                each.reader.send(encode(refusal(error, each.ref)))
            return
        for each, result in zip(batch, results, strict=True):
            if result.HasField("error"):
                frame: frames_out.ServerFrame = of_status(result.error, each.ref)
            else:
                started = result.conversation
                status = translation.status(started)
                frame = frames_out.Started(started.conversation_id, status, ref=each.ref)
            each.reader.send(encode(frame))


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
