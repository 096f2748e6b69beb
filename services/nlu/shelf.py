"""The classifiers of an instance: each as new as the database says, loaded when asked for.

Once a second one query asks for newer versions of all that are loaded. A newer
one is loaded beside the old, in a thread, and takes its place when it is ready.
Those that nobody asked for longest go when memory is short.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import structlog
from prometheus_client import Gauge

from services.common.config import Settings
from services.common.db import Database
from services.common.errors import InterchangeError, Internal
from services.common.work import WorkUnits
from services.nlu import domain
from services.nlu.answers import Answers
from services.nlu.classifier import Classifier, Meaning
from services.nlu.content import Damaged
from services.nlu.repository import Models, Stored

INLINE_MAX = 8
"""Texts that are not worth a thread: a millisecond."""

LOADED = Gauge("interchange_nlu_models_loaded_bytes", "Memory of the models that are loaded.")

log = structlog.get_logger()

Key: TypeAlias = tuple[str, str]
"""Tenant and model."""


class Versions(Protocol):
    """Which versions serve, and what they learned; the port that tests fake."""

    async def active(self, keys: Collection[Key]) -> dict[Key, int]:
        """Return the versions that serve, of those models that have one."""
        ...

    async def load(self, key: Key) -> Stored:
        """Return the version that serves; raises NotFound or FailedPrecondition."""
        ...


class PostgresVersions(Versions):
    """Versions in the tables of nlu."""

    def __init__(self, database: Database, uow: WorkUnits[Models]) -> None:
        self._database = database
        self._uow = uow

    async def active(self, keys: Collection[Key]) -> dict[Key, int]:
        """Return the versions that serve, of those models that have one."""
        async with self._database.pipeline() as connection:
            rows = await connection.fetch(
                "SELECT tenant_id, model_id, version FROM nlu.active "
                "JOIN unnest($1::text[], $2::text[]) AS asked(tenant_id, model_id) "
                "USING (tenant_id, model_id)",
                [tenant_id for tenant_id, _ in keys],
                [model_id for _, model_id in keys],
            )
        return {(row["tenant_id"], row["model_id"]): row["version"] for row in rows}

    async def load(self, key: Key) -> Stored:
        """Return the version that serves; raises NotFound or FailedPrecondition."""
        tenant_id, model_id = key
        async with self._uow.reading(tenant_id) as repository:
            stored = await repository.active(tenant_id, model_id)
            if stored is None and await repository.newest(tenant_id, model_id) == 0:
                raise domain.not_found()
        if stored is None:
            raise domain.not_ready(model_id)
        return stored


@dataclass(slots=True)
class Loaded:
    """A version that is ready to answer."""

    version: int
    classifier: Classifier
    answers: Answers[Meaning] = field(default_factory=Answers)

    async def detect(self, texts: Sequence[str]) -> list[Meaning]:
        """Say what normal texts mean."""
        return await self.answers.of(texts, self._find)

    async def _find(self, texts: Sequence[str]) -> list[Meaning]:
        if len(texts) <= INLINE_MAX:
            return self.classifier.detect(texts)
        return await asyncio.to_thread(self.classifier.detect, texts)


class Shelf:
    """Holds what is loaded."""

    def __init__(self, versions: Versions, settings: Settings) -> None:
        self._versions = versions
        self._watch_s = settings.nlu_watch_ms / 1000
        self._bytes_max = settings.nlu_models_bytes_max
        self._loaded: OrderedDict[Key, Loaded] = OrderedDict()
        self._loading: dict[Key, asyncio.Task[Loaded]] = {}
        self._damaged: dict[Key, int] = {}
        """Versions that were tried in vain; the next one is tried again."""

    async def get(self, tenant_id: str, model_id: str) -> Loaded:
        """Return a model, loaded first if need be; raises NotFound or FailedPrecondition."""
        key = tenant_id, model_id
        if (loaded := self._loaded.get(key)) is not None:
            self._loaded.move_to_end(key)
            return loaded
        loading = self._loading.get(key)
        if loading is None:
            loading = self._loading[key] = asyncio.create_task(self._load(key))
            loading.add_done_callback(lambda task: self._settle(key, task))
        # Shielded: one who gives up must not take it from those who wait as well.
        return await asyncio.shield(loading)

    async def run(self) -> None:
        """Bring what is loaded up to date once a second, until cancelled."""
        while True:
            await asyncio.sleep(self._watch_s)
            try:
                await self.refresh()
            except Exception as error:
                log.warning("versions not seen", error=repr(error))

    async def refresh(self) -> None:
        """Load what is newer than what is here, and drop what serves no longer."""
        if not self._loaded:
            return
        active = await self._versions.active(list(self._loaded))
        for key, loaded in list(self._loaded.items()):
            if key not in active:
                self._loaded.pop(key, None)
            elif active[key] not in (loaded.version, self._damaged.get(key)):
                await self._replace(key)

    async def _replace(self, key: Key) -> None:
        try:
            await self._load(key)
        except InterchangeError as error:
            log.error("version not loaded; the one before serves", key=key, error=str(error))

    async def _load(self, key: Key) -> Loaded:
        stored = await self._versions.load(key)
        try:
            classifier = await asyncio.to_thread(_classifier, stored)
        except Damaged as error:
            log.error("model damaged", key=key, version=stored.version, error=str(error))
            self._damaged[key] = stored.version
            raise Internal("MODEL_DAMAGED", "the stored model cannot be read") from error
        loaded = Loaded(stored.version, classifier)
        self._damaged.pop(key, None)
        self._loaded[key] = loaded
        self._make_room()
        log.info("model loaded", tenant_id=key[0], model_id=key[1], version=stored.version)
        return loaded

    def _make_room(self) -> None:
        size = sum(one.classifier.size for one in self._loaded.values())
        while size > self._bytes_max and len(self._loaded) > 1:
            size -= self._loaded.popitem(last=False)[1].classifier.size
        LOADED.set(size)

    def _settle(self, key: Key, task: "asyncio.Task[Loaded]") -> None:
        del self._loading[key]
        if not task.cancelled():
            task.exception()  # Seen: all who waited for it may be gone.


def _classifier(stored: Stored) -> Classifier:
    if hashlib.sha256(stored.content).digest() != stored.digest:
        raise Damaged("the digest does not match")
    return Classifier.load(stored.content)
