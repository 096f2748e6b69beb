"""Idempotency by request_id (AIP-155): the same key and body, the first answer.

A handler locks what the request is about, finds the answers of its keys, writes,
and stores the new answers, all in one transaction. A retry has the same body, so
it waits for the same lock and finds the answer. Whoever meets a key that was
taken between find and store therefore has another body; it starts over and is
refused. A refused command stores nothing, so it uses up no key.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

import structlog
from google.protobuf.message import Message

from services.common.db import Connection, Database
from services.common.errors import Aborted, AlreadyExists, Violation

T = TypeVar("T")
M = TypeVar("M", bound=Message)

FIELD = "request_id"
ATTEMPTS_MAX = 3
PURGE_ROWS_MAX = 5_000
"""Keys deleted in one transaction: a long one would hold back every relay."""
PURGE_PAUSE_S = 600.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RequestKey:
    """The request_id of one command, as its caller gave it, and what came with it."""

    rpc: str
    key: str
    """Empty when none was given."""
    body_hash: bytes

    @classmethod
    def of(cls, rpc: str, request: Message) -> "RequestKey":
        """Return the key of a request that has the field request_id."""
        key: str = getattr(request, FIELD)
        body = request.SerializeToString(deterministic=True)
        return cls(rpc, key, hashlib.sha256(body).digest())


class Answer(NamedTuple):
    """What a key was answered with."""

    body_hash: bytes
    response: bytes


class KeyTaken(Exception):
    """Another transaction took a key since it was looked for."""


Answers = Mapping[tuple[str, str], Answer]
"""Answers by rpc and key."""


def first_answer(request: RequestKey, answers: Answers) -> bytes | None:
    """Return the first answer of a request, None when it has none yet.

    Raises AlreadyExists when the key came with another body.
    """
    answer = answers.get((request.rpc, request.key)) if request.key else None
    if answer is None:
        return None
    if answer.body_hash != request.body_hash:
        reason, text = "IDEMPOTENCY_KEY_REUSED", "was used for another request"
        raise AlreadyExists(
            reason,
            f"{FIELD}: {text}",
            violations=[Violation(FIELD, text, reason)],
            metadata={"field": FIELD},
        )
    return answer.response


class Requests(Protocol):
    """The request keys of a service within a transaction."""

    async def find(
        self, tenant_id: str, requests: Sequence[RequestKey]
    ) -> dict[tuple[str, str], Answer]:
        """Return the answers that exist, by rpc and key."""
        ...

    async def store(
        self, tenant_id: str, requests: Sequence[RequestKey], responses: Sequence[bytes]
    ) -> None:
        """Store new answers; raises KeyTaken when there is one already.

        Requests without a key are left out; no key may come twice.
        """
        ...


class Answered(Generic[M]):
    """The answers to a batch of requests: those given before, and those given now.

    A key that comes twice in one batch is a repeat, too.
    """

    def __init__(self, kind: type[M], known: Answers) -> None:
        self._kind = kind
        self._answers = dict(known)
        self._requests: list[RequestKey] = []
        self._responses: list[bytes] = []

    def first(self, request: RequestKey) -> M | None:
        """Return the first answer of a request, None when it has none yet.

        Raises AlreadyExists when the key came with another body.
        """
        response = first_answer(request, self._answers)
        return None if response is None else self._kind.FromString(response)

    def give(self, request: RequestKey, message: M) -> M:
        """Return the answer to a request, and remember it where that has a key."""
        if request.key:
            response = message.SerializeToString()
            self._answers[request.rpc, request.key] = Answer(request.body_hash, response)
            self._requests.append(request)
            self._responses.append(response)
        return message

    async def store(self, tenant_id: str, table: Requests) -> None:
        """Store the answers given now; raises KeyTaken when there is one already."""
        await table.store(tenant_id, self._requests, self._responses)


class PostgresRequests(Requests):
    """Request keys in the table that mesh.create_request_keys made for a service."""

    def __init__(self, service: str, connection: Connection) -> None:
        self._table = f"{service}.request_keys"
        self._connection = connection

    async def find(
        self, tenant_id: str, requests: Sequence[RequestKey]
    ) -> dict[tuple[str, str], Answer]:
        """Return the answers that exist, by rpc and key."""
        keyed = {(request.rpc, request.key) for request in requests if request.key}
        if not keyed:
            return {}
        rows = await self._connection.fetch(
            f"SELECT rpc, key, body_hash, response FROM {self._table} "
            "WHERE tenant_id = $1 AND (rpc, key) IN (SELECT * FROM unnest($2::text[], $3::text[]))",
            tenant_id,
            *map(list, zip(*keyed, strict=True)),
        )
        return {(row["rpc"], row["key"]): Answer(row["body_hash"], row["response"]) for row in rows}

    async def store(
        self, tenant_id: str, requests: Sequence[RequestKey], responses: Sequence[bytes]
    ) -> None:
        """Store new answers; raises KeyTaken when there is one already."""
        rows = [
            (request.rpc, request.key, request.body_hash, response)
            for request, response in zip(requests, responses, strict=True)
            if request.key
        ]
        if not rows:
            return
        # Sorted, so that two batches can't wait for each other's keys.
        status = await self._connection.execute(
            f"INSERT INTO {self._table} (tenant_id, rpc, key, body_hash, response) "
            "SELECT $1, * FROM unnest($2::text[], $3::text[], $4::bytea[], $5::bytea[]) "
            "AS r(rpc, key, body_hash, response) ON CONFLICT DO NOTHING",
            tenant_id,
            *map(list, zip(*sorted(rows), strict=True)),
        )
        if status != f"INSERT 0 {len(rows)}":
            raise KeyTaken


async def settled(attempt: Callable[[], Awaitable[T]]) -> T:
    """Return the result of a transaction, run again when a key of it was taken meanwhile."""
    for _ in range(ATTEMPTS_MAX):
        try:
            return await attempt()
        except KeyTaken:
            continue
    raise Aborted("REQUEST_KEY_CONTENDED", "the request_id is in use elsewhere; try again")


async def purge(database: Database) -> int:
    """Delete what is older than seven days, some thousand keys; return how many."""
    async with database.pipeline() as connection:
        query = f"SELECT {database.service}.purge_request_keys($1)"
        return int(await connection.fetchval(query, PURGE_ROWS_MAX))


async def keep_purged(database: Database) -> None:
    """Delete old keys from time to time, until cancelled."""
    while True:
        try:
            while await purge(database) == PURGE_ROWS_MAX:
                pass
        except Exception as error:
            log.warning("purge failed", service=database.service, error=str(error))
        await asyncio.sleep(PURGE_PAUSE_S)
