"""What customers mean: asked of the nlu service, which may fail or be late."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, cast

import grpc
import structlog
from interchange.nlu.v1.nlu_service_pb2 import (
    BatchDetectIntentsRequest,
    DetectIntentRequest,
    DetectIntentResult,
)
from interchange.nlu.v1.nlu_service_pb2_grpc import NluServiceStub

from services.bot.domain import Detection
from services.common import clients, identity
from services.common.clients import Channel

if TYPE_CHECKING:
    from interchange.nlu.v1.nlu_service_pb2_grpc import NluServiceAsyncStub

log = structlog.get_logger()

UTTERANCES_MAX = 500
"""In one call."""


class Understanding(Protocol):
    """Says what utterances mean; the fake of the unit tests knows it by heart."""

    async def detect(
        self, tenant_id: str, requests: Sequence[DetectIntentRequest]
    ) -> Sequence[Detection | None]:
        """Return what each utterance means, None where that is unknown for now."""
        ...


class NluUnderstanding(Understanding):
    """Asks the nlu service, with a deadline of our own."""

    def __init__(self, channel: Channel, timeout_s: float) -> None:
        self._nlu = cast("NluServiceAsyncStub", channel.stub(NluServiceStub))
        self._timeout_s = timeout_s

    async def detect(
        self, tenant_id: str, requests: Sequence[DetectIntentRequest]
    ) -> Sequence[Detection | None]:
        """Return what each utterance means, None where that is unknown for now."""
        assert len(requests) <= UTTERANCES_MAX, f"{len(requests)} utterances in one call"
        try:
            answer = await self._nlu.BatchDetectIntents(
                BatchDetectIntentsRequest(requests=requests),
                timeout=self._timeout_s,
                metadata=clients.headers(identity.service(tenant_id, "bot")),
            )
        except grpc.aio.AioRpcError as error:
            log.warning("nlu failed", tenant=tenant_id, code=error.code().name)
            return [None] * len(requests)
        if len(answer.results) != len(requests):
            log.error("nlu answered another number", tenant=tenant_id, asked=len(requests))
            return [None] * len(requests)
        return [_detection(result) for result in answer.results]


def _detection(result: DetectIntentResult) -> Detection | None:
    if not result.HasField("detection"):
        return None
    found = result.detection
    return Detection(found.intent, found.confidence_millis, found.model_version)
