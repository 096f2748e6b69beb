"""Answers that are remembered, shared and forgotten; models that come and go."""

import asyncio
import hashlib
from collections.abc import Collection, Sequence

import pytest

from services.common.config import Settings
from services.common.errors import InterchangeError
from services.nlu import answers as answers_module
from services.nlu import content, domain, training
from services.nlu.answers import Answers
from services.nlu.providers import Detection, LocalProvider, Utterance
from services.nlu.repository import Stored
from services.nlu.shelf import Key, Shelf, Versions


class Finder:
    """Answers with the text in capitals, once it may."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.may = asyncio.Event()
        self.may.set()
        self.error: Exception | None = None

    async def __call__(self, texts: Sequence[str]) -> list[str]:
        self.asked.append(list(texts))
        await self.may.wait()
        if self.error:
            raise self.error
        return [text.upper() for text in texts]


async def test_each_text_is_found_once_and_kept_in_place() -> None:
    find, answers = Finder(), Answers[str]()
    assert await answers.of(["b", "a", "b"], find) == ["B", "A", "B"]
    assert await answers.of(["a", "c"], find) == ["A", "C"]
    assert await answers.of([], find) == []
    assert find.asked == [["b", "a"], ["c"]]


async def test_what_is_being_found_is_shared() -> None:
    find, answers = Finder(), Answers[str]()
    find.may.clear()
    waiting = [asyncio.create_task(answers.of([name, "x"], find)) for name in "ab"]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    find.may.set()
    assert await asyncio.gather(*waiting) == [["A", "X"], ["B", "X"]]
    assert find.asked == [["a", "x"], ["b"]]


async def test_one_who_gives_up_takes_nothing_from_the_others() -> None:
    find, answers = Finder(), Answers[str]()
    find.may.clear()
    first, second = (asyncio.create_task(answers.of(["x"], find)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    find.may.set()
    assert await second == ["X"]


async def test_failure_reaches_all_and_is_not_remembered() -> None:
    find, answers = Finder(), Answers[str]()
    find.error = ValueError("no")
    results = await asyncio.gather(
        *(answers.of(["x"], find) for _ in range(2)), return_exceptions=True
    )
    assert [type(result) for result in results] == [ValueError] * 2
    find.error = None
    assert await answers.of(["x"], find) == ["X"]


async def test_answers_grow_old_and_the_least_recent_go(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(answers_module, "ANSWERS_MAX", 2)
    find, answers = Finder(), Answers[str](lambda: now[0])
    for text in ("a", "b", "a", "c", "b"):
        await answers.of([text], find)
    assert find.asked == [["a"], ["b"], ["c"], ["b"]]
    now[0] = answers_module.LIFETIME_S + 1
    await answers.of(["b"], find)
    assert find.asked[-1] == ["b"]
    assert len(find.asked) == 5


def stored(version: int, intents: str = "yn") -> Stored:
    """Return a version that knows two words of as many intents."""
    examples = [(word, intents[at]) for at, word in enumerate(("yes", "no"))]
    data = content.pack(training.train(examples))
    return Stored(version, data, hashlib.sha256(data).digest())


class FakeVersions(Versions):
    """Versions in memory."""

    def __init__(self) -> None:
        self.stored: dict[Key, Stored] = {}
        self.loads: list[Key] = []
        self.may = asyncio.Event()
        self.may.set()

    async def active(self, keys: Collection[Key]) -> dict[Key, int]:
        return {key: self.stored[key].version for key in keys if key in self.stored}

    async def load(self, key: Key) -> Stored:
        self.loads.append(key)
        await self.may.wait()
        if key not in self.stored:
            raise domain.not_found()
        return self.stored[key]


KEY = ("demo", "shop")


@pytest.fixture
def versions() -> FakeVersions:
    found = FakeVersions()
    found.stored[KEY] = stored(1)
    return found


async def test_model_is_loaded_once_for_all_who_ask(versions: FakeVersions) -> None:
    shelf = Shelf(versions, Settings())
    first, second = await asyncio.gather(shelf.get(*KEY), shelf.get(*KEY))
    assert first is second is await shelf.get(*KEY)
    assert versions.loads == [KEY]


async def test_old_version_serves_while_the_new_one_is_loaded(versions: FakeVersions) -> None:
    shelf = Shelf(versions, Settings())
    await shelf.get(*KEY)
    versions.stored[KEY] = stored(2)
    versions.may.clear()
    refreshing = asyncio.create_task(shelf.refresh())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (await shelf.get(*KEY)).version == 1
    versions.may.set()
    await refreshing
    assert (await shelf.get(*KEY)).version == 2


async def test_damaged_version_is_tried_once_and_the_next_one_again(
    versions: FakeVersions,
) -> None:
    shelf = Shelf(versions, Settings())
    await shelf.get(*KEY)
    versions.stored[KEY] = stored(2)._replace(digest=b"other")
    await shelf.refresh()
    await shelf.refresh()
    assert (await shelf.get(*KEY)).version == 1
    assert len(versions.loads) == 2
    versions.stored[KEY] = stored(3)
    await shelf.refresh()
    assert (await shelf.get(*KEY)).version == 3


async def test_model_that_is_gone_is_dropped(versions: FakeVersions) -> None:
    shelf = Shelf(versions, Settings())
    await shelf.get(*KEY)
    del versions.stored[KEY]
    await shelf.refresh()
    with pytest.raises(InterchangeError, match="no such model"):
        await shelf.get(*KEY)


async def test_memory_is_bounded_and_the_least_asked_for_goes(versions: FakeVersions) -> None:
    size = (await Shelf(versions, Settings()).get(*KEY)).classifier.size
    keys = [("demo", name) for name in "abc"]
    versions.stored |= dict.fromkeys(keys, stored(1))
    shelf = Shelf(versions, Settings(nlu_models_bytes_max=2 * size))
    for key in (*keys[:2], keys[0], keys[2]):
        await shelf.get(*key)
    versions.loads.clear()
    await shelf.get(*keys[0])
    await shelf.get(*keys[2])
    assert versions.loads == []
    await shelf.get(*keys[1])
    assert versions.loads == [keys[1]]


async def test_provider_keeps_tenants_apart_and_the_order(versions: FakeVersions) -> None:
    versions.stored["other", "shop"] = stored(7, "ab")
    provider = LocalProvider(Shelf(versions, Settings()))
    batch = [Utterance("shop", "YES"), Utterance("none", "yes"), Utterance("shop", "no")]

    ours = await provider.detect("demo", batch)
    theirs = await provider.detect("other", batch)

    def told(outcome: Detection | InterchangeError) -> str:
        if isinstance(outcome, InterchangeError):
            return outcome.reason
        return f"{outcome.alternatives[0].intent}{outcome.model_version}"

    assert [told(one) for one in ours] == ["y1", "MODEL_NOT_FOUND", "n1"]
    assert [told(one) for one in theirs] == ["a7", "MODEL_NOT_FOUND", "b7"]
