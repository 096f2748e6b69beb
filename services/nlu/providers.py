"""Who understands language: one interface over all, and the one that needs no network."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from services.common.errors import InterchangeError
from services.nlu import domain, features
from services.nlu.classifier import Score
from services.nlu.shelf import Shelf

LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Utterance:
    """What somebody said."""

    model_id: str
    text: str
    conversation_id: str = ""
    """For providers that keep a context."""


@dataclass(frozen=True, slots=True)
class Detection:
    """What an utterance means, whoever said so."""

    intent: str
    """Empty when it is likelier out of scope."""
    confidence_millis: int
    alternatives: Sequence[Score]
    provider: str
    model_version: int


Outcome: TypeAlias = Detection | InterchangeError


class Provider(Protocol):
    """Says what utterances mean; adapters to services elsewhere have the same form."""

    async def detect(self, tenant_id: str, batch: Sequence[Utterance]) -> list[Outcome]:
        """Return one outcome an utterance, in their order.

        What concerns one utterance is its outcome; only what concerns all raises.
        """
        ...


class LocalProvider(Provider):
    """Answers by the tenant's own models in this process."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def detect(self, tenant_id: str, batch: Sequence[Utterance]) -> list[Outcome]:
        """Return one outcome an utterance, in their order."""
        places: dict[str, list[int]] = {}
        for place, utterance in enumerate(batch):
            places.setdefault(utterance.model_id, []).append(place)
        outcomes: dict[int, Outcome] = {}
        for model_id, those in places.items():
            found = await self._by_model(tenant_id, model_id, [batch[at].text for at in those])
            outcomes |= dict(zip(those, found, strict=True))
        return [outcomes[place] for place in range(len(batch))]

    async def _by_model(
        self, tenant_id: str, model_id: str, texts: Sequence[str]
    ) -> Sequence[Outcome]:
        try:
            # An id that breaks its rule names nothing, and could be one that Postgres can't hold.
            if not domain.is_model_id(model_id):
                raise domain.not_found()
            model = await self._shelf.get(tenant_id, model_id)
        except InterchangeError as error:
            return [error] * len(texts)
        meanings = await model.detect([features.normal(text) for text in texts])
        return [
            Detection(
                one.intent, one.confidence_millis, one.alternatives, LOCAL, model.version
            )
            for one in meanings
        ]  # fmt: skip
