"""Results to responses."""

from interchange.nlu.v1 import nlu_pb2
from interchange.nlu.v1 import nlu_service_pb2 as pb

from services.common.errors import InterchangeError
from services.nlu.domain import Model, ModelState
from services.nlu.providers import Detection, Outcome

STATES = {
    ModelState.TRAINING: nlu_pb2.MODEL_STATE_TRAINING,
    ModelState.READY: nlu_pb2.MODEL_STATE_READY,
    ModelState.FAILED: nlu_pb2.MODEL_STATE_FAILED,
}


def model(one: Model) -> nlu_pb2.Model:
    """Return a version of a model."""
    message = nlu_pb2.Model(
        model_id=one.model_id,
        version=one.version,
        state=STATES[one.state],
        example_count=one.example_count,
        intent_count=one.intent_count,
        failure=one.failure,
        accuracy_millis=one.accuracy_millis,
    )
    message.create_time.FromDatetime(one.create_time)
    if one.finish_time is not None:
        message.finish_time.FromDatetime(one.finish_time)
    return message


def detection(one: Detection) -> nlu_pb2.Detection:
    """Return what an utterance means."""
    return nlu_pb2.Detection(
        intent=one.intent,
        confidence_millis=one.confidence_millis,
        alternatives=[
            nlu_pb2.IntentScore(intent=name, confidence_millis=millis)
            for name, millis in one.alternatives
        ],
        provider=one.provider,
        model_version=one.model_version,
    )


def result(outcome: Outcome) -> pb.DetectIntentResult:
    """Return what became of one utterance of a batch."""
    if isinstance(outcome, InterchangeError):
        return pb.DetectIntentResult(error=outcome.to_status())
    return pb.DetectIntentResult(detection=detection(outcome))
