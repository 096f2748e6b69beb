"""The local classifier on utterances of a public set, which is no part of the project.

`python -m tests.load nlu --data FOLDER`, where FOLDER holds train_val.json: the
training and validation rows of CLINC150 as an object with `train`, `val`,
`oos_train` and `oos_val`, each a list of [text, intent]. Needs no stack. The
validation rows train nothing, and the rows of `oos_train` neither: a tenant has
none of them either.
"""

import asyncio
import json
import resource
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from interchange.nlu.v1.nlu_pb2 import Example
from interchange.nlu.v1.nlu_service_pb2 import TrainModelRequest
from sklearn.metrics import roc_auc_score  # type: ignore[import-untyped]

from services.nlu import content, features, trainer
from services.nlu.answers import Answers
from services.nlu.classifier import Classifier, Meaning
from services.nlu.shelf import Loaded
from tests.load.scene import Scene
from tests.load.table import Figure, Limit, Report

FILE = "train_val.json"
BATCH = 500
UTTERANCES_S = 500
"""What an instance shall answer on the side."""
BINS = 15

ACCURACY = Limit(least=92)
AUROC = Limit(least=0.94)
CALIBRATION = Limit(most=5)
P95 = Limit(most=2)
TRAINING = Limit(most=60)


class Rows(NamedTuple):
    """Utterances and their intents; none where they are out of scope."""

    texts: list[str]
    intents: list[str]


def run(on: Scene) -> Report:
    """Measure; without data there is nothing to measure."""
    file = None if on.data is None else on.data / FILE
    if file is None or not file.is_file():
        on.say(f"skipped: needs --data FOLDER with {FILE}, see {Path(__file__).name}")
        return Report("nlu", notes={"skipped": "no data"})
    sets = json.loads(file.read_text())
    train, inside, outside = (_rows(sets[name]) for name in ("train", "val", "oos_val"))
    on.say(f"training on {len(train.texts):,} rows")
    request = TrainModelRequest(
        examples=[Example(text=t, intent=i) for t, i in zip(*train, strict=True)]
    )
    began, before = time.perf_counter(), _children_s()
    model = asyncio.run(trainer.learn(request.SerializeToString()))
    seconds, busy = time.perf_counter() - began, _children_s() - before
    classifier = Classifier.load(model)
    on.say(f"asking {len(inside.texts) + len(outside.texts):,} rows")
    return Report(
        "nlu",
        [
            *_quality(classifier, inside, outside),
            *_speed(classifier, inside.texts),
            Figure(f"nlu: training {len(train.texts):,} rows", seconds, "s",
                   "wall time of the trainer's process, start and packing included", TRAINING),
            Figure(f"nlu: CPU of training {len(train.texts):,} rows", busy, "s",
                   "CPU time of the same: what it takes on a machine that does nothing else"),
        ],
        notes={
            "model_bytes": len(model),
            "memory_bytes": classifier.size,
            "held_back_accuracy_millis": content.read_header(model).accuracy_millis,
        },
    )  # fmt: skip


def _children_s() -> float:
    """Return the CPU time of the processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _rows(pairs: Sequence[Sequence[str]]) -> Rows:
    texts = [text for text, _ in pairs]
    return Rows(texts, ["" if intent == "oos" else intent for _, intent in pairs])


def _quality(classifier: Classifier, inside: Rows, outside: Rows) -> list[Figure]:
    ours, others = (
        classifier.detect([features.normal(text) for text in rows.texts])
        for rows in (inside, outside)
    )
    every, truth = ours + others, inside.intents + outside.intents
    right = np.array([one.intent == intent for one, intent in zip(every, truth, strict=True)])
    sure = np.array([one.confidence_millis / 1000 for one in every])
    ranked = [
        one.alternatives[0].intent == intent
        for one, intent in zip(ours, inside.intents, strict=True)
    ]
    auroc = roc_auc_score([not intent for intent in truth], [one.out_of_scope for one in every])
    return [
        Figure("nlu: accuracy, in scope", 100 * float(right[: len(ours)].mean()), "%",
               "rows in scope that were answered with their intent; out of scope is wrong",
               ACCURACY),
        Figure("nlu: likeliest intent is right", 100 * float(np.mean(ranked)), "%",
               "the same, whatever was decided on the scope"),
        Figure("nlu: AUROC, out of scope", float(auroc), "",
               "of the probability of being out of scope, over all validation rows", AUROC),
        Figure("nlu: found out of scope", 100 * float(right[len(ours) :].mean()), "%",
               "rows out of scope that were answered without an intent"),
        Figure("nlu: calibration error", 100 * calibration_error(sure, right), "%",
               f"expected calibration error of the confidence, {BINS} bins, all rows",
               CALIBRATION),
    ]  # fmt: skip


def calibration_error(sure: Any, right: Any) -> float:
    """Return by how much confidence and share of right answers differ, on average over rows."""
    bins = np.minimum((sure * BINS).astype(int), BINS - 1)
    return float(
        sum(
            abs(right[bins == each].mean() - sure[bins == each].mean()) * (bins == each).mean()
            for each in np.unique(bins)
        )
    )


def _speed(classifier: Classifier, texts: Sequence[str]) -> list[Figure]:
    alone, batched = asyncio.run(_timed(classifier, texts))
    each_us = batched / BATCH * 1e6
    return [
        Figure("nlu: an utterance, p95", float(np.percentile(alone, 95)) * 1e3, "ms",
               "asked one by one, none twice, in the process of the service", P95),
        Figure("nlu: an utterance, p50", float(np.percentile(alone, 50)) * 1e3, "ms",
               "the same"),
        Figure(f"nlu: an utterance of {BATCH}", each_us, "us",
               f"CPU time of a batch of {BATCH}, none twice"),
        Figure(f"nlu: core at {UTTERANCES_S}/s", each_us * UTTERANCES_S / 1e4, "%",
               f"of one core, for {UTTERANCES_S} utterances a second in such batches"),
    ]  # fmt: skip


async def _timed(classifier: Classifier, texts: Sequence[str]) -> tuple[list[float], float]:
    """Return the seconds of each utterance alone, and the CPU seconds of a batch."""
    different = list(dict.fromkeys(texts))
    loaded, alone = Loaded(1, classifier), []
    for text in different:
        began = time.perf_counter()
        await loaded.detect([features.normal(text)])
        alone.append(time.perf_counter() - began)
    batches = []
    for first in range(0, len(different) - BATCH + 1, BATCH):
        loaded = Loaded(1, classifier, Answers[Meaning]())
        began = time.process_time()
        await loaded.detect([features.normal(text) for text in different[first : first + BATCH]])
        batches.append(time.process_time() - began)
    return alone, min(batches)
