"""What a text is made of, the same for training and for detecting."""

import re
import unicodedata
from itertools import pairwise

TEXT_LENGTH_MAX = 1_000
"""Characters of an utterance that are looked at."""
GRAM_SIZES = (2, 3, 4)

_WORD = re.compile(r"\w+")


def normal(text: str) -> str:
    """Return a text as it is compared: compatible forms, no case, single spaces.

    Empty when it holds nothing but space.
    """
    text = text[:TEXT_LENGTH_MAX]
    if not text.isascii():
        # One character may become eighteen.
        text = unicodedata.normalize("NFKC", text)[:TEXT_LENGTH_MAX]
    return " ".join(text.casefold().split())[:TEXT_LENGTH_MAX]


def words(text: str) -> list[str]:
    """Return the words of a normal text, and each pair of neighbours."""
    found = _WORD.findall(text)
    return found + [f"{first} {second}" for first, second in pairwise(found)]


def grams(text: str) -> list[str]:
    """Return the runs of characters within each token of a normal text.

    A token is what spaces part, so that emoji and signs count too; the space on
    both sides tells beginnings and ends from middles.
    """
    found = []
    for token in text.split():
        padded = f" {token} "
        for size in GRAM_SIZES:
            found += [padded[at : at + size] for at in range(len(padded) - size + 1)]
    return found
