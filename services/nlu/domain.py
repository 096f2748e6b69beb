"""What a model is, and the rules of what it learns from."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from services.common.errors import FailedPrecondition, InvalidArgument, NotFound, Violation
from services.nlu import features

EXAMPLES_MIN, EXAMPLES_MAX = 2, 50_000
INTENTS_MIN, INTENTS_MAX = 2, 500
INTENT_LENGTH_MAX = 64
UNFINISHED_MAX = 4
"""Trainings of a tenant that may wait at the same time."""
VIOLATIONS_MAX = 32
"""Named in one error: thousands of bad examples must not make a large answer."""

_MODEL_ID = re.compile(r"[a-z0-9-]{1,32}")
_REQUEST_ID = re.compile(r"[!-~]{0,64}")


class ModelState(StrEnum):
    """How far a version is."""

    TRAINING = "TRAINING"
    READY = "READY"
    FAILED = "FAILED"


class Example(NamedTuple):
    """What a customer could say, and what he means by it; nothing when out of scope."""

    text: str
    intent: str


@dataclass(frozen=True, slots=True)
class Model:
    """One version of a model."""

    model_id: str
    version: int
    state: ModelState
    example_count: int
    intent_count: int
    failure: str
    accuracy_millis: int
    create_time: datetime
    finish_time: datetime | None


def is_model_id(text: str) -> bool:
    """Tell whether it can be the id of a model."""
    return _MODEL_ID.fullmatch(text) is not None


def not_found() -> NotFound:
    """Return the error of a model that isn't there."""
    return NotFound("MODEL_NOT_FOUND", "there is no such model")


def not_ready(model_id: str) -> FailedPrecondition:
    """Return the error of a model of which no version serves yet."""
    return FailedPrecondition(
        "MODEL_NOT_READY",
        f"no version of model {model_id} is ready yet",
        metadata={"model_id": model_id},
    )


def new_model(
    model_id: str, version: int, examples: Sequence[Example], intents: int, now: datetime
) -> Model:
    """Return a version whose training begins."""
    return Model(
        model_id, version, ModelState.TRAINING, len(examples), intents, "", 0, now, None
    )  # fmt: skip


def check_training(model_id: str, request_id: str, examples: Sequence[Example]) -> int:
    """Return how many intents the examples have.

    Raises InvalidArgument with what is wrong, each by the path of its field.
    """
    violations = [*_name_violations(model_id, request_id), *_count_violations(examples)]
    if len(examples) <= EXAMPLES_MAX:
        violations += _example_violations(examples)
    if violations:
        first = violations[0]
        text = f"{first.field}: {first.description}"
        raise InvalidArgument(first.reason, text, violations=violations[:VIOLATIONS_MAX])
    return len({example.intent for example in examples} - {""})


def _name_violations(model_id: str, request_id: str) -> Iterator[Violation]:
    if not is_model_id(model_id):
        yield Violation("model_id", f"expected {_MODEL_ID.pattern}", "INVALID_MODEL_ID")
    if _REQUEST_ID.fullmatch(request_id) is None:
        expected = "expected at most 64 printable ASCII characters"
        yield Violation("request_id", expected, "INVALID_REQUEST_ID")


def _count_violations(examples: Sequence[Example]) -> Iterator[Violation]:
    if len(examples) < EXAMPLES_MIN:
        text = f"were {len(examples)}, expected at least {EXAMPLES_MIN}"
        yield Violation("examples", text, "TOO_FEW_EXAMPLES")
        return
    if len(examples) > EXAMPLES_MAX:
        text = f"were {len(examples)}, expected at most {EXAMPLES_MAX}"
        yield Violation("examples", text, "TOO_MANY_EXAMPLES")
        return
    intents = len({example.intent for example in examples} - {""})
    if intents < INTENTS_MIN:
        text = f"had {intents} intents, expected at least {INTENTS_MIN}"
        yield Violation("examples", text, "TOO_FEW_INTENTS")
    if intents > INTENTS_MAX:
        text = f"had {intents} intents, expected at most {INTENTS_MAX}"
        yield Violation("examples", text, "TOO_MANY_INTENTS")


def _example_violations(examples: Sequence[Example]) -> Iterator[Violation]:
    first_of: dict[str, int] = {}
    for at, (text, intent) in enumerate(examples):
        field = f"examples[{at}]"
        if len(intent) > INTENT_LENGTH_MAX or not intent.isprintable() or intent != intent.strip():
            expected = (
                f"expected at most {INTENT_LENGTH_MAX} printable characters, "
                "without space at either end"
            )
            yield Violation(f"{field}.intent", expected, "INVALID_INTENT")
        if len(text) > features.TEXT_LENGTH_MAX:
            found = f"was {len(text)} characters, expected at most {features.TEXT_LENGTH_MAX}"
            yield Violation(f"{field}.text", found, "TEXT_TOO_LONG")
            continue
        normal = features.normal(text)
        if not normal:
            yield Violation(f"{field}.text", "was empty", "EMPTY_TEXT")
            continue
        first = first_of.setdefault(normal, at)
        if examples[first].intent != intent:
            same = f"is the same as examples[{first}].text, of another intent"
            yield Violation(f"{field}.text", same, "CONFLICTING_INTENTS")
