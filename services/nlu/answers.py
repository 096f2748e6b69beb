"""Answers of one version of a model: recent ones, and those being found.

What several ask at the same time is found once, and given to all.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from prometheus_client import Counter

R = TypeVar("R")

ANSWERS_MAX = 10_000
LIFETIME_S = 300.0

ASKED = Counter("interchange_nlu_utterances_total", "Utterances answered.", ["by"])
"""By `model`, or by what it had said or was asked already: `memory`."""
_BY_MODEL, _BY_MEMORY = ASKED.labels("model"), ASKED.labels("memory")

Find = Callable[[Sequence[str]], Awaitable[Sequence[R]]]
"""Finds the answers of different texts, in their order."""


class Answers(Generic[R]):
    """Remembers the answers of the last minutes; the least recent go first."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, R]] = OrderedDict()
        self._in_flight: dict[str, asyncio.Task[dict[str, R]]] = {}

    async def of(self, texts: Sequence[str], find: "Find[R]") -> list[R]:
        """Return the answer of each text, found now where it is not known."""
        found: dict[str, R] = {}
        missing: list[str] = []
        searches: set[asyncio.Task[dict[str, R]]] = set()
        for text in dict.fromkeys(texts):
            if (known := self._recall(text)) is not None:
                found[text] = known
            elif (search := self._in_flight.get(text)) is not None:
                searches.add(search)
            else:
                missing.append(text)
        _BY_MEMORY.inc(len(texts) - len(missing))
        _BY_MODEL.inc(len(missing))
        if missing:
            searches.add(self._search(missing, find))
        for search in searches:
            # Shielded: one who gives up must not take the answer from the others.
            found |= await asyncio.shield(search)
        return [found[text] for text in texts]

    def _search(self, texts: list[str], find: "Find[R]") -> "asyncio.Task[dict[str, R]]":
        search = asyncio.create_task(self._find(texts, find))
        self._in_flight |= dict.fromkeys(texts, search)
        search.add_done_callback(_seen)
        return search

    async def _find(self, texts: list[str], find: "Find[R]") -> dict[str, R]:
        try:
            found = dict(zip(texts, await find(texts), strict=True))
        finally:
            for text in texts:
                del self._in_flight[text]
        self._remember(found)
        return found

    def _recall(self, text: str) -> R | None:
        entry = self._known.get(text)
        if entry is None:
            return None
        expiry, answer = entry
        if expiry < self._clock():
            del self._known[text]
            return None
        self._known.move_to_end(text)
        return answer

    def _remember(self, answers: dict[str, R]) -> None:
        expiry = self._clock() + LIFETIME_S
        for text, answer in answers.items():
            self._known[text] = expiry, answer
            self._known.move_to_end(text)
        while len(self._known) > ANSWERS_MAX:
            self._known.popitem(last=False)


def _seen(search: "asyncio.Task[dict[str, R]]") -> None:
    """Look at how it ended: all who waited for it may be gone."""
    if not search.cancelled():
        search.exception()
