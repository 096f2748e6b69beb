"""gRPC in: requests to commands, results to responses."""

from collections.abc import Callable
from typing import Any

from interchange.nlu.v1 import nlu_pb2
from interchange.nlu.v1 import nlu_service_pb2 as pb
from interchange.nlu.v1.nlu_service_pb2_grpc import NluServiceServicer

from services.common import identity
from services.common.clock import BusinessClock
from services.common.errors import InterchangeError, InvalidArgument
from services.common.work import WorkUnits
from services.nlu import commands, handlers, responses
from services.nlu.providers import Provider
from services.nlu.repository import Models

BATCH_MAX = 500


class NluServicer(NluServiceServicer):
    """Says what utterances mean, and trains the models that know."""

    def __init__(
        self,
        provider: Provider,
        uow: WorkUnits[Models],
        clock: BusinessClock,
        queued: Callable[[], None],
    ) -> None:
        self._provider = provider
        self._uow = uow
        self._clock = clock
        self._queued = queued

    async def DetectIntent(
        self, request: pb.DetectIntentRequest, context: Any
    ) -> nlu_pb2.Detection:
        """Say what an utterance means."""
        tenant_id = identity.current().tenant_id
        [outcome] = await self._provider.detect(tenant_id, [commands.utterance(request)])
        if isinstance(outcome, InterchangeError):
            raise outcome
        return responses.detection(outcome)

    async def BatchDetectIntents(
        self, request: pb.BatchDetectIntentsRequest, context: Any
    ) -> pb.BatchDetectIntentsResponse:
        """Say what utterances mean, each with its own result."""
        if (count := len(request.requests)) > BATCH_MAX:
            text = f"were {count}, expected at most {BATCH_MAX}"
            raise InvalidArgument.of("requests", "TOO_MANY_REQUESTS", text)
        batch = [commands.utterance(one) for one in request.requests]
        outcomes = await self._provider.detect(identity.current().tenant_id, batch)
        return pb.BatchDetectIntentsResponse(results=map(responses.result, outcomes))

    async def TrainModel(self, request: pb.TrainModelRequest, context: Any) -> nlu_pb2.Model:
        """Ask for the training of a new version."""
        command = commands.train_model(identity.current().tenant_id, request)
        return await handlers.train_model(
            command, uow=self._uow, clock=self._clock, queued=self._queued
        )

    async def GetModel(self, request: pb.GetModelRequest, context: Any) -> nlu_pb2.Model:
        """Return one version of a model."""
        tenant_id = identity.current().tenant_id
        return await handlers.get_model(
            tenant_id, request.model_id, request.version, uow=self._uow
        )  # fmt: skip

    async def ListModels(
        self, request: pb.ListModelsRequest, context: Any
    ) -> pb.ListModelsResponse:
        """List the newest version of each model."""
        models, token = await handlers.list_models(
            identity.current().tenant_id, request.page_size, request.page_token, uow=self._uow
        )
        return pb.ListModelsResponse(models=models, next_page_token=token)
