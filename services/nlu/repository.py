"""SQL of requests: a tenant's models, under row-level security."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import asyncpg

from services.common.db import Connection
from services.common.requests import PostgresRequests, Requests
from services.nlu.domain import Model, ModelState

_MODEL = """model_id, version, state, example_count, intent_count, failure, accuracy_millis,
    create_time, finish_time"""


class Stored(NamedTuple):
    """The serving version of a model as it is stored."""

    version: int
    content: bytes
    digest: bytes
    """SHA-256 of the content."""


class Models(Protocol):
    """The models of a tenant within a transaction; the port that tests fake."""

    @property
    def requests(self) -> Requests:
        """The request keys."""
        ...

    async def newest(self, tenant_id: str, model_id: str) -> int:
        """Return the newest version of a model, 0 when there is none."""
        ...

    async def unfinished(self, tenant_id: str) -> int:
        """Return how many trainings of the tenant are to be done."""
        ...

    async def insert(self, tenant_id: str, model: Model, examples: bytes) -> None:
        """Store a version and the training that it waits for."""
        ...

    async def find(self, tenant_id: str, model_id: str, version: int) -> Model | None:
        """Return a version, the newest when it is 0; None when there is none."""
        ...

    async def list_page(self, tenant_id: str, after: str, limit: int) -> list[Model]:
        """Return the newest version of models by id, of those after `after`."""
        ...

    async def active(self, tenant_id: str, model_id: str) -> Stored | None:
        """Return the version that serves; None when there is none."""
        ...


class PostgresModels(Models):
    """Models in the tables of nlu."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._requests = PostgresRequests("nlu", connection)

    @property
    def requests(self) -> Requests:
        """The request keys."""
        return self._requests

    async def newest(self, tenant_id: str, model_id: str) -> int:
        """Return the newest version of a model, 0 when there is none."""
        query = "SELECT max(version) FROM nlu.models WHERE tenant_id = $1 AND model_id = $2"
        return await self._connection.fetchval(query, tenant_id, model_id) or 0

    async def unfinished(self, tenant_id: str) -> int:
        """Return how many trainings of the tenant are to be done."""
        query = "SELECT count(*) FROM nlu.trainings WHERE tenant_id = $1"
        return int(await self._connection.fetchval(query, tenant_id))

    async def insert(self, tenant_id: str, model: Model, examples: bytes) -> None:
        """Store a version and the training that it waits for."""
        await self._connection.execute(
            "INSERT INTO nlu.models (tenant_id, model_id, version, state, example_count, "
            "intent_count, create_time) VALUES ($1, $2, $3, $4, $5, $6, $7)",
            tenant_id,
            model.model_id,
            model.version,
            model.state,
            model.example_count,
            model.intent_count,
            model.create_time,
        )
        await self._connection.execute(
            "INSERT INTO nlu.trainings (tenant_id, model_id, version, examples, create_time) "
            "VALUES ($1, $2, $3, $4, $5)",
            tenant_id,
            model.model_id,
            model.version,
            examples,
            model.create_time,
        )

    async def find(self, tenant_id: str, model_id: str, version: int) -> Model | None:
        """Return a version, the newest when it is 0; None when there is none."""
        row = await self._connection.fetchrow(
            f"SELECT {_MODEL} FROM nlu.models WHERE tenant_id = $1 AND model_id = $2 "
            "AND (version = $3 OR $3 = 0) ORDER BY version DESC LIMIT 1",
            tenant_id,
            model_id,
            version,
        )
        return _model(row) if row else None

    async def list_page(self, tenant_id: str, after: str, limit: int) -> list[Model]:
        """Return the newest version of models by id, of those after `after`."""
        rows: Sequence[asyncpg.Record] = await self._connection.fetch(
            f"SELECT DISTINCT ON (model_id) {_MODEL} FROM nlu.models "
            "WHERE tenant_id = $1 AND model_id > $2 ORDER BY model_id, version DESC LIMIT $3",
            tenant_id,
            after,
            limit,
        )
        return [_model(row) for row in rows]

    async def active(self, tenant_id: str, model_id: str) -> Stored | None:
        """Return the version that serves; None when there is none."""
        row = await self._connection.fetchrow(
            "SELECT version, content, digest FROM nlu.active JOIN nlu.contents "
            "USING (tenant_id, model_id, version) WHERE tenant_id = $1 AND model_id = $2",
            tenant_id,
            model_id,
        )
        return Stored(*row) if row else None


def _model(row: asyncpg.Record) -> Model:
    return Model(**dict(row) | {"state": ModelState(row["state"])})
