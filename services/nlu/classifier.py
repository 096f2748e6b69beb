"""A trained model at work: what texts mean, by it alone.

A text becomes two vectors of unit length, of words and of runs of characters,
each term weighted by (1 + ln count) x idf; a linear machine an intent scores
them. Temperature makes the scores probabilities of the intents, and of the best
score follows the probability that none of them is meant.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from services.nlu import features
from services.nlu.content import Content, Floats, unpack

ALTERNATIVES = 3


class Score(NamedTuple):
    """An intent and the probability that it is meant, in thousandths."""

    intent: str
    confidence_millis: int


class Meaning(NamedTuple):
    """What a text means."""

    intent: str
    """Empty when it is likelier out of scope."""
    confidence_millis: int
    alternatives: tuple[Score, ...]
    out_of_scope: float
    """Probability that no intent is meant."""


class Classifier:
    """Answers by one version of a model; may be used by several threads at once."""

    def __init__(self, content: Content) -> None:
        header = content.header
        self.header = header
        self._words = {term: at for at, term in enumerate(content.terms[: header.word_count])}
        grams = content.terms[header.word_count :]
        self._grams = {term: at for at, term in enumerate(grams, header.word_count)}
        self._idf = content.idf.tolist()
        self._weights = np.ascontiguousarray(content.weights)
        self._bias = content.bias
        self.size = self._weights.nbytes + 150 * len(content.terms)
        """Bytes of memory, about."""

    @classmethod
    def load(cls, data: bytes) -> "Classifier":
        """Return the classifier of a stored model; raises content.Damaged."""
        return cls(unpack(data))

    def detect(self, texts: Sequence[str]) -> list[Meaning]:
        """Say what normal texts mean."""
        if not texts:
            return []
        scores = np.empty((len(texts), len(self._bias)), np.float32)
        known = [self._score(text, row) for text, row in zip(texts, scores, strict=True)]
        return self._meanings(scores, known)

    def _score(self, text: str, scores: Floats) -> bool:
        """Write the scores of a text; tell whether it holds any term that is known."""
        rows: list[int] = []
        values: list[float] = []
        self._add(features.words(text), self._words, 1.0, rows, values)
        self._add(features.grams(text), self._grams, self.header.gram_weight, rows, values)
        scores[:] = self._bias
        if rows:
            scores += np.array(values, np.float32) @ self._weights[rows]
        return bool(rows)

    def _add(
        self,
        terms: Iterable[str],
        vocabulary: dict[str, int],
        length: float,
        rows: list[int],
        values: list[float],
    ) -> None:
        """Append the entries of the vector of one kind of terms."""
        counts = Counter([at for term in terms if (at := vocabulary.get(term)) is not None])
        if not counts:
            return
        idf = self._idf
        entries = [
            idf[at] if count == 1 else idf[at] * (1 + math.log(count))
            for at, count in counts.items()
        ]
        factor = length / math.sqrt(sum([entry * entry for entry in entries]))
        rows += counts
        values += [entry * factor for entry in entries]

    def _meanings(self, scores: Floats, known: Sequence[bool]) -> list[Meaning]:
        header, best = self.header, scores.max(axis=1, keepdims=True)
        shares = np.exp(header.temperature * (scores - best))
        shares /= shares.sum(axis=1, keepdims=True)
        logits = np.clip(header.scope_slope * best[:, 0] + header.scope_intercept, -30, 30)
        # What holds nothing known is out of scope whatever the scores say.
        outside = np.where(known, 1 / (1 + np.exp(-logits)), 1.0)
        shares *= 1 - outside[:, None]
        first = np.argsort(-shares, axis=1, kind="stable")[:, :ALTERNATIVES]
        millis = np.rint(1000 * np.take_along_axis(shares, first, axis=1)).astype(int).tolist()
        return [
            self._meaning(places, thousandths, probability)
            for places, thousandths, probability in zip(
                first.tolist(), millis, outside.tolist(), strict=True
            )
        ]

    def _meaning(self, first: list[int], millis: list[int], outside: float) -> Meaning:
        intents = self.header.intents
        alternatives = tuple(
            Score(intents[at], thousandths) for at, thousandths in zip(first, millis, strict=True)
        )
        out_millis = round(1000 * outside)
        if out_millis > millis[0]:
            return Meaning("", out_millis, alternatives, outside)
        return Meaning(alternatives[0].intent, millis[0], alternatives, outside)
