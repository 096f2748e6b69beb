"""Requests to commands."""

from interchange.nlu.v1 import nlu_service_pb2 as pb

from services.common.requests import RequestKey
from services.nlu.domain import Example
from services.nlu.handlers import TrainModel
from services.nlu.providers import Utterance


def utterance(request: pb.DetectIntentRequest) -> Utterance:
    """Return what is to be understood."""
    return Utterance(request.model_id, request.text, request.conversation_id)


def train_model(tenant_id: str, request: pb.TrainModelRequest) -> TrainModel:
    """Return the command of a request."""
    return TrainModel(
        tenant_id,
        request.model_id,
        [Example(one.text, one.intent) for one in request.examples],
        RequestKey.of("TrainModel", request),
        request.SerializeToString(),
    )
