"""What is trained, how it is stored, and that both sides compute alike."""

import io
from collections.abc import Sequence

import numpy as np
import pytest

from services.nlu import calibration, content, features, training
from services.nlu.calibration import Round
from services.nlu.classifier import Classifier
from services.nlu.content import Content, Damaged
from tests.unit.nlu_phrases import PHRASES

EXAMPLES = [(text, intent) for intent, texts in PHRASES.items() for text in texts]
SAID = ["i lost my card", "a human please", "hi hi hi", "parcel", "", "🎉", "balance balance card"]


@pytest.fixture(scope="module")
def learned() -> Content:
    return training.train(EXAMPLES)


def test_stored_model_answers_as_the_one_trained(learned: Content) -> None:
    stored = Classifier.load(content.pack(learned)).detect(SAID)

    for kept, made in zip(stored, Classifier(learned).detect(SAID), strict=True):
        assert kept.intent == made.intent
        assert abs(kept.confidence_millis - made.confidence_millis) <= 5


def test_classifier_scores_as_the_machines_that_it_comes_from(learned: Content) -> None:
    texts = [features.normal(text) for text, _ in EXAMPLES] + SAID
    names = sorted(PHRASES)
    pairs = sorted((features.normal(text), intent) for text, intent in EXAMPLES)
    labels = np.array([names.index(intent) for _, intent in pairs])
    expected = training.Machines(np.array([text for text, _ in pairs], object), labels).scores(
        texts
    )

    classifier = Classifier(learned)
    scores = np.empty(expected.shape, np.float32)
    for text, row in zip(texts, scores, strict=True):
        classifier._score(text, row)

    assert np.allclose(scores, expected, atol=1e-4)


def test_batch_answers_as_one_by_one(learned: Content) -> None:
    classifier = Classifier(learned)
    assert classifier.detect(SAID) == [classifier.detect([text])[0] for text in SAID]
    assert classifier.detect([]) == []


def test_training_is_repeatable_in_any_order() -> None:
    first, again = training.train(EXAMPLES), training.train(EXAMPLES[::-1])
    assert content.pack(first) == content.pack(again)


@pytest.mark.parametrize("text", ["", "🎉", "\x00", "ⵣ", "ſ" * 1_000])
def test_text_without_anything_known_is_certainly_out_of_scope(learned: Content, text: str) -> None:
    [meaning] = Classifier(learned).detect([text])
    assert (meaning.intent, meaning.confidence_millis, meaning.out_of_scope) == ("", 1_000, 1.0)


def test_probabilities_are_those_of_one_event(learned: Content) -> None:
    for meaning in Classifier(learned).detect(SAID):
        millis = [score.confidence_millis for score in meaning.alternatives]
        assert millis == sorted(millis, reverse=True)
        assert sum(millis) + 1_000 * meaning.out_of_scope <= 1_002


@pytest.mark.parametrize(
    "examples",
    [
        [("yes", "y"), ("no", "n")],
        [("👍", "y"), ("👎", "n")],
        [("a", "y"), ("a b", "n"), ("b", "m")],
        [(f"word{n}", f"i{n % 7}") for n in range(40)],
        [*EXAMPLES, ("where is my parcel", ""), ("🎉", "")],
        [("same", "y")] * 5 + [("other", "n")] * 5,
    ],
)
def test_few_or_strange_examples_make_a_model(examples: Sequence[tuple[str, str]]) -> None:
    classifier = Classifier.load(content.pack(training.train(examples)))
    text, intent = examples[0]
    assert classifier.detect([features.normal(text)])[0].alternatives[0].intent == intent


@pytest.mark.parametrize(
    "examples", [[("a", "x"), ("b", "x")], [("a", ""), ("b", "x")], [("\x1f", "x"), (" ", "y")]]
)
def test_examples_that_teach_nothing_say_so(examples: Sequence[tuple[str, str]]) -> None:
    with pytest.raises(training.Unlearnable):
        training.train(examples)


def test_examples_out_of_scope_of_the_tenant_count() -> None:
    parcels = [(f"where is my parcel number {n}", "") for n in range(20)]
    plain, taught = (Classifier(training.train(e)) for e in (EXAMPLES, [*EXAMPLES, *parcels]))
    said = ["where is my parcel"]
    assert taught.detect(said)[0].out_of_scope >= plain.detect(said)[0].out_of_scope


def test_calibration_without_anything_held_back_is_what_is_expected() -> None:
    found = calibration.calibrate([], 150)
    assert found.temperature == pytest.approx(calibration.TEMPERATURE, rel=0.01)
    assert found.accuracy_millis == 0


def test_calibration_of_sure_scores_is_steeper_than_of_wrong_ones() -> None:
    truth = np.arange(60) % 3
    right = np.full((60, 3), -1.0)
    right[np.arange(60), truth] = 1.0
    outside = np.full(30, -0.8)
    sure = calibration.calibrate([Round(right, truth, outside)], 3)
    wrong = calibration.calibrate([Round(right, (truth + 1) % 3, outside)], 3)
    assert sure.temperature > wrong.temperature
    assert (sure.accuracy_millis, wrong.accuracy_millis) == (1_000, 0)
    assert sure.slope < 0


def _with(**changes: object) -> bytes:
    """Return a stored model with some of its parts replaced."""
    file = io.BytesIO()
    with np.load(io.BytesIO(content.pack(training.train(EXAMPLES)))) as arrays:
        np.savez(file, **dict(arrays) | changes)  # type: ignore[arg-type]
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04 no archive",
        _with(idf=np.zeros(3, np.float32)),
        _with(bias=np.full(4, np.nan, np.float32)),
        _with(header=np.frombuffer(b'{"format": 2}', np.uint8)),
        _with(header=np.frombuffer(b"[", np.uint8)),
        _with(terms=np.array([{}], object)),
    ],
)
def test_content_that_is_no_model_is_told(data: bytes) -> None:
    with pytest.raises(Damaged):
        content.unpack(data)


def test_header_is_read_alone(learned: Content) -> None:
    assert content.read_header(content.pack(learned)) == learned.header
    with pytest.raises(Damaged):
        content.read_header(b"nothing")
