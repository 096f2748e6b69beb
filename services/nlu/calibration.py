"""How far scores can be trusted: two curves, fitted to what was held back.

Few examples say little, so both begin from what a large public set of
utterances taught, and leave it as far as the examples speak against it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special  # type: ignore[import-untyped]

OUTSIDE_SHARE = 0.03
"""Utterances out of scope that are expected; more would be refused, and fewer understood."""
TEMPERATURE, TEMPERATURE_SPREAD = 6.0, 0.7
"""What is expected of the temperature, the spread in its logarithm."""
SLOPE, SCOPE_SPREAD = -5.0, 2.0
FAMILIAR = 0.3
"""By how much a score exceeds that of a text of which nothing is known, when it is as
likely in scope as not."""
HELD_MIN = 10
"""Examples held back below which there is no accuracy to speak of."""

Floats = NDArray[np.float64]


class Round(NamedTuple):
    """What machines that did not see them say of examples."""

    scores: Floats
    """[n, intents]"""
    truth: NDArray[np.int64]
    """[n], columns of scores."""
    outside: Floats
    """[m], the best scores of what is out of scope."""


class Calibration(NamedTuple):
    """The curves, and how often the answers were right."""

    temperature: float
    slope: float
    intercept: float
    accuracy_millis: int


def calibrate(rounds: Sequence[Round], intents: int) -> Calibration:
    """Fit both curves for a model of so many intents; without rounds they are what is expected."""
    temperature = _temperature(rounds)
    slope, intercept = _scope(rounds, _expected_intercept(intents))
    return Calibration(
        temperature, slope, intercept, _accuracy_millis(rounds, temperature, slope, intercept)
    )


def _temperature(rounds: Sequence[Round]) -> float:
    def cost(logarithm: float) -> float:
        total = ((logarithm - np.log(TEMPERATURE)) / TEMPERATURE_SPREAD) ** 2 / 2
        for scores, truth, _ in rounds:
            logits = np.exp(logarithm) * scores
            total -= (_of(logits, truth) - special.logsumexp(logits, axis=1)).sum()
        return float(total)

    return float(np.exp(optimize.minimize_scalar(cost, bounds=(-2, 5), method="bounded").x))


def _expected_intercept(intents: int) -> float:
    # A machine that knows nothing of a text says that each intent is one of many.
    unknown = 2 / intents - 1
    return -SLOPE * (unknown + FAMILIAR)


def _scope(rounds: Sequence[Round], expected: float) -> tuple[float, float]:
    inside = np.concatenate([np.zeros(0), *(one.scores.max(axis=1) for one in rounds)])
    outside = np.concatenate([np.zeros(0), *(one.outside for one in rounds)])
    if not len(inside) or not len(outside):
        return SLOPE, expected
    weight = OUTSIDE_SHARE / (1 - OUTSIDE_SHARE) * len(inside) / len(outside)

    def cost(curve: Floats) -> float:
        slope, intercept = curve
        total = ((slope - SLOPE) ** 2 + (intercept - expected) ** 2) / SCOPE_SPREAD**2 / 2
        total -= special.log_expit(-(slope * inside + intercept)).sum()
        total -= weight * special.log_expit(slope * outside + intercept).sum()
        return float(total)

    slope, intercept = optimize.minimize(cost, np.array([SLOPE, expected])).x
    return float(slope), float(intercept)


def _accuracy_millis(
    rounds: Sequence[Round], temperature: float, slope: float, intercept: float
) -> int:
    """Return how many in a thousand get their intent, and not that they are out of scope."""
    held = right = 0
    for scores, truth, _ in rounds:
        if not len(scores):
            continue
        best = scores.max(axis=1)
        outside = special.expit(slope * best + intercept)
        share = 1 / np.exp(temperature * (scores - best[:, None])).sum(axis=1)
        held += len(truth)
        right += int(((scores.argmax(axis=1) == truth) & (outside <= (1 - outside) * share)).sum())
    return round(1000 * right / held) if held >= HELD_MIN else 0


def _of(logits: Floats, columns: NDArray[np.int64]) -> Floats:
    return np.asarray(np.take_along_axis(logits, columns[:, None], axis=1)[:, 0])
