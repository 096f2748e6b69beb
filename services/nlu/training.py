"""Training: examples in, a model out. Only the trainer's own process imports it.

Linear support vector machines over TF-IDF of words and runs of characters, as
in classifier.py. How sure they are is measured on examples that they did not
see: some of each intent are held back, which says how far scores can be trusted
between intents, and some intents are left out as a whole, whose examples stand
for what is out of scope. So a tenant needs no examples of that, though those
that he gives (with an empty intent) count as well. Then all examples train the
machines that are kept.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse  # type: ignore[import-untyped]
from sklearn.feature_extraction.text import TfidfVectorizer  # type: ignore[import-untyped]
from sklearn.svm import LinearSVC  # type: ignore[import-untyped]

from services.nlu import calibration, features
from services.nlu.calibration import Round
from services.nlu.content import Content, Header

GRAM_WEIGHT = 1.2
PENALTY = 2.0
"""C of the machines."""
TOLERANCE = 1e-2
RARE_FROM = 2_000
"""Examples from which on a term that only one of them holds is left out."""
TERMS_MAX = 60_000
"""Of words and of grams, the most frequent."""
WEIGHTS_MAX = 40_000_000
"""Terms times intents."""
FOLDS = 5
LARGE_FROM = 5_000
"""Examples from which on one round of holding back is enough."""
LEFT_OUT_SHARE = 10
"""One intent in so many is left out of a round."""
LEFT_OUT_FROM = 3
"""Intents below which none can be left out."""

Labels = NDArray[np.int64]
Texts: TypeAlias = "Sequence[str] | NDArray[np.object_]"


class Unlearnable(Exception):
    """The examples teach nothing; the text says why."""


class Terms:
    """The vocabulary of one kind of terms; empty when no example holds one."""

    def __init__(self, analyzer: Callable[[str], list[str]], weight: float) -> None:
        self._analyzer = analyzer
        self._weight = weight
        self.names: list[str] = []
        self.idf = np.zeros(0)
        self._vectorizer: TfidfVectorizer | None = None

    def learn(self, texts: Texts, terms_max: int) -> sparse.csr_matrix:
        """Learn the vocabulary of texts and return their vectors [n, terms]."""
        vectorizer = TfidfVectorizer(
            analyzer=self._analyzer,
            sublinear_tf=True,
            min_df=2 if len(texts) >= RARE_FROM else 1,
            max_features=terms_max,
        )
        try:
            vectors = vectorizer.fit_transform(texts)
        except ValueError:
            return self.vectors(texts)  # It says so of an empty vocabulary.
        self._vectorizer = vectorizer
        self.names = vectorizer.get_feature_names_out().tolist()
        self.idf = vectorizer.idf_
        return vectors * self._weight

    def vectors(self, texts: Texts) -> sparse.csr_matrix:
        """Return the vectors of texts [n, terms]."""
        if self._vectorizer is None:
            return sparse.csr_matrix((len(texts), 0))
        return self._vectorizer.transform(texts) * self._weight


class Machines:
    """One linear machine an intent, over the vocabulary of what trained them."""

    def __init__(self, texts: Texts, labels: Labels) -> None:
        self.classes = np.unique(labels)
        terms_max = min(TERMS_MAX, max(1_000, WEIGHTS_MAX // (2 * len(self.classes))))
        self.words, self.grams = Terms(features.words, 1.0), Terms(features.grams, GRAM_WEIGHT)
        vectors = _beside(self.words.learn(texts, terms_max), self.grams.learn(texts, terms_max))
        if not self.words.names and not self.grams.names:
            raise Unlearnable("no two examples have a word in common")
        machine = LinearSVC(C=PENALTY, tol=TOLERANCE, random_state=0)
        machine.fit(vectors, labels)
        two = len(self.classes) == 2  # for two there is one machine
        self.weights = np.vstack([-machine.coef_, machine.coef_]) if two else machine.coef_
        bias = machine.intercept_
        self.bias = np.concatenate([-bias, bias]) if two else bias

    def scores(self, texts: Texts) -> NDArray[np.float64]:
        """Return the scores of texts [n, intents]."""
        if not len(texts):
            return np.zeros((0, len(self.classes)))
        vectors = _beside(self.words.vectors(texts), self.grams.vectors(texts))
        return np.asarray(vectors @ self.weights.T + self.bias)


def _beside(words: sparse.csr_matrix, grams: sparse.csr_matrix) -> sparse.csr_matrix:
    return sparse.hstack([words, grams]).tocsr()


def train(examples: Sequence[tuple[str, str]]) -> Content:
    """Return the model that (text, intent) pairs teach; an empty intent is out of scope.

    Raises Unlearnable. The same examples make the same model.
    """
    pairs = sorted({(features.normal(text), intent) for text, intent in examples})
    texts = np.array([text for text, intent in pairs if intent], object)
    outside = [text for text, intent in pairs if not intent]
    intents, labels = np.unique([intent for _, intent in pairs if intent], return_inverse=True)
    if len(intents) < 2:
        raise Unlearnable("the examples are of fewer than two intents")
    rounds = _rounds(texts, labels, outside)
    measured = calibration.calibrate(rounds, len(intents))
    machines = Machines(texts, labels)
    names = machines.words.names + machines.grams.names
    return Content(
        Header(
            intents=tuple(intents.tolist()),
            temperature=measured.temperature,
            scope_slope=measured.slope,
            scope_intercept=measured.intercept,
            accuracy_millis=measured.accuracy_millis,
            word_count=len(machines.words.names),
            gram_weight=GRAM_WEIGHT,
        ),
        tuple(names),
        np.concatenate([machines.words.idf, machines.grams.idf]).astype(np.float32),
        np.ascontiguousarray(machines.weights.T, np.float32),
        machines.bias.astype(np.float32),
    )


def _rounds(texts: NDArray[np.object_], labels: Labels, outside: Sequence[str]) -> list[Round]:
    """Score what machines did not see, in rounds that hold back different examples."""
    random = np.random.default_rng(0)
    counts = np.bincount(labels)
    order = random.permutation(len(counts))
    group = max(1, len(counts) // LEFT_OUT_SHARE) if len(counts) >= LEFT_OUT_FROM else 0
    folds = _folds(labels, random)
    rounds = []
    for number in range(1 if len(labels) >= LARGE_FROM else FOLDS):
        left_out = np.isin(labels, np.take(order, range(number * group, (number + 1) * group),
                                           mode="wrap"))  # fmt: skip
        held = (folds == number) & (counts[labels] > 1) & ~left_out
        seen = ~held & ~left_out
        try:
            machines = Machines(texts[seen], labels[seen])
        except Unlearnable:
            continue
        rounds.append(
            Round(
                machines.scores(texts[held]),
                np.searchsorted(machines.classes, labels[held]),
                machines.scores([*texts[left_out], *outside]).max(axis=1),
            )
        )
    return rounds


def _folds(labels: Labels, random: np.random.Generator) -> Labels:
    """Number the examples of each intent, in random order, round and round."""
    folds = np.empty(len(labels), np.int64)
    for intent in range(labels.max() + 1):
        places = random.permutation(np.flatnonzero(labels == intent))
        folds[places] = np.arange(len(places)) % FOLDS
    return folds
