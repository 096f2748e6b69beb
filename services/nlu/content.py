"""The stored form of a trained model: arrays and JSON, nothing that runs.

An npz without pickles. Weights are halved to float16: of three thousand
utterances none was understood differently.
"""

import io
import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FORMAT = 1

Floats = NDArray[np.float32]


class Damaged(Exception):
    """The content is not a model that this version of the service can read."""


@dataclass(frozen=True, slots=True)
class Header:
    """What is known of a model besides its arrays."""

    intents: tuple[str, ...]
    temperature: float
    """Scores times this are logits of the intents."""
    scope_slope: float
    scope_intercept: float
    """Of the best score, the logit of being out of scope."""
    accuracy_millis: int
    """On examples that were held back; 0 when there were too few."""
    word_count: int
    """Terms that are words; the others are grams."""
    gram_weight: float
    """Length of a text's vector of grams; that of its words is 1."""


@dataclass(frozen=True, slots=True)
class Content:
    """A trained model: f terms, c intents."""

    header: Header
    terms: tuple[str, ...]
    idf: Floats
    """[f]"""
    weights: Floats
    """[f, c], a row a term."""
    bias: Floats
    """[c]"""


def pack(content: Content) -> bytes:
    """Return the stored form."""
    header = {"format": FORMAT, **asdict(content.header)}
    # No term holds a line break: spaces of a normal text are blanks.
    terms = "\n".join(content.terms)
    file = io.BytesIO()
    np.savez_compressed(
        file,
        header=_bytes(json.dumps(header)),
        terms=_bytes(terms),
        idf=content.idf.astype(np.float32),
        weights=content.weights.astype(np.float16),
        bias=content.bias.astype(np.float32),
    )
    return file.getvalue()


def unpack(data: bytes) -> Content:
    """Return the model; raises Damaged."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            content = Content(
                _header(arrays["header"].tobytes()),
                tuple(arrays["terms"].tobytes().decode().split("\n")),
                arrays["idf"].astype(np.float32),
                arrays["weights"].astype(np.float32),
                arrays["bias"].astype(np.float32),
            )
    except Exception as error:
        raise Damaged(f"the content cannot be read: {error!r}") from error
    _check(content)
    return content


def read_header(data: bytes) -> Header:
    """Return the header alone; raises Damaged."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return _header(arrays["header"].tobytes())
    except Exception as error:
        raise Damaged(f"the header cannot be read: {error!r}") from error


def _header(data: bytes) -> Header:
    fields: dict[str, Any] = json.loads(data)
    if (found := fields.pop("format", None)) != FORMAT:
        raise ValueError(f"format was {found}, expected {FORMAT}")
    return Header(**fields | {"intents": tuple(fields["intents"])})


def _check(content: Content) -> None:
    terms, intents = len(content.terms), len(content.header.intents)
    shapes = content.idf.shape, content.weights.shape, content.bias.shape
    if shapes != ((terms,), (terms, intents), (intents,)):
        raise Damaged(f"shapes were {shapes} for {terms} terms and {intents} intents")
    if not 0 <= content.header.word_count <= terms or intents < 2:
        raise Damaged("the header does not fit the arrays")
    if not all(np.isfinite(a).all() for a in (content.idf, content.weights, content.bias)):
        raise Damaged("a number is not finite")


def _bytes(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode(), np.uint8)
