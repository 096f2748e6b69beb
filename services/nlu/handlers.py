"""Use cases of models: training asks in one transaction, detecting needs none."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from interchange.nlu.v1 import nlu_pb2

from services.common import pagination, requests
from services.common.clock import BusinessClock
from services.common.errors import ResourceExhausted
from services.common.requests import RequestKey
from services.common.work import WorkUnits
from services.nlu import domain, responses
from services.nlu.domain import Example
from services.nlu.repository import Models

PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX = 50, 100


@dataclass(frozen=True, slots=True)
class TrainModel:
    """A version to train, with its idempotency key."""

    tenant_id: str
    model_id: str
    examples: Sequence[Example]
    request: RequestKey
    serialized: bytes
    """The request, as the learner reads it."""


async def train_model(
    command: TrainModel,
    *,
    uow: WorkUnits[Models],
    clock: BusinessClock,
    queued: Callable[[], None],
) -> nlu_pb2.Model:
    """Ask for the training of a new version; a repeated request returns the first answer."""
    # Tens of thousands of texts: other calls must not wait for them.
    intents = await asyncio.to_thread(
        domain.check_training, command.model_id, command.request.key, command.examples
    )
    model = await requests.settled(lambda: _train(command, intents, uow=uow, clock=clock))
    queued()
    return model


async def _train(
    command: TrainModel, intents: int, *, uow: WorkUnits[Models], clock: BusinessClock
) -> nlu_pb2.Model:
    tenant_id, request = command.tenant_id, command.request
    async with uow.tenant(tenant_id, lock=[command.model_id]) as work:
        answers = await work.repository.requests.find(tenant_id, [request])
        first = requests.first_answer(request, answers)
        if first is not None:
            return nlu_pb2.Model.FromString(first)
        if await work.repository.unfinished(tenant_id) >= domain.UNFINISHED_MAX:
            raise ResourceExhausted(
                "TOO_MANY_TRAININGS",
                f"{domain.UNFINISHED_MAX} trainings of this tenant are waiting already",
            )
        version = 1 + await work.repository.newest(tenant_id, command.model_id)
        model = domain.new_model(
            command.model_id, version, command.examples, intents, clock.now()
        )  # fmt: skip
        message = responses.model(model)
        await work.repository.requests.store(tenant_id, [request], [message.SerializeToString()])
        await work.repository.insert(tenant_id, model, command.serialized)
    return message


async def get_model(
    tenant_id: str, model_id: str, version: int, *, uow: WorkUnits[Models]
) -> nlu_pb2.Model:
    """Return one version, the newest when it is 0, or raise NotFound."""
    model = None
    if domain.is_model_id(model_id):
        async with uow.reading(tenant_id) as repository:
            model = await repository.find(tenant_id, model_id, version)
    if model is None:
        raise domain.not_found()
    return responses.model(model)


async def list_models(
    tenant_id: str, page_size: int, page_token: str, *, uow: WorkUnits[Models]
) -> tuple[list[nlu_pb2.Model], str]:
    """Return a page of models by id and the token of the next, empty on the last."""
    filters = {"list": "models", "tenant": tenant_id}
    size = pagination.page_size(page_size, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
    last = pagination.keyset(page_token, filters, str)
    after = "" if last is None else str(last[0])
    async with uow.reading(tenant_id) as repository:
        rows = await repository.list_page(tenant_id, after, size + 1)
    page = rows[:size]
    token = pagination.page_token([page[-1].model_id], filters) if len(rows) > size else ""
    return [responses.model(one) for one in page], token
