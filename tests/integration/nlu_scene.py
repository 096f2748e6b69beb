"""What the tests of the NLU service share: instances on real Postgres, and examples."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from interchange.nlu.v1 import nlu_pb2
from interchange.nlu.v1 import nlu_service_pb2 as pb
from interchange.nlu.v1.nlu_service_pb2_grpc import NluServiceStub

from services.common.config import Settings
from services.common.host import Host, Wire
from services.nlu.__main__ import wire
from services.nlu.learner import learned
from tests.unit.nlu_phrases import PHRASES

READY, FAILED = nlu_pb2.MODEL_STATE_READY, nlu_pb2.MODEL_STATE_FAILED
TRAINED_S = 60.0


def examples(**phrases: list[str]) -> list[nlu_pb2.Example]:
    """Return examples of intents, by default of all."""
    return [
        nlu_pb2.Example(text=text, intent=intent)
        for intent, texts in (phrases or PHRASES).items()
        for text in texts
    ]


@dataclass
class Caller:
    """A tenant of its own that calls an instance."""

    stub: Any
    tenant: str
    roles: str = "supervisor"

    async def __call__(self, rpc: str, request: Any) -> Any:
        headers = (
            ("x-interchange-tenant", self.tenant),
            ("x-interchange-subject", "ann"),
            ("x-interchange-roles", self.roles),
        )
        return await getattr(self.stub, rpc)(request, metadata=headers, timeout=20)

    def at(self, stub: Any) -> "Caller":
        """Return the same tenant at another instance."""
        return Caller(stub, self.tenant, self.roles)

    async def train(
        self, model_id: str = "shop", request_id: str = "", **phrases: list[str]
    ) -> nlu_pb2.Model:
        """Ask for a training."""
        request = pb.TrainModelRequest(
            model_id=model_id, request_id=request_id, examples=examples(**phrases)
        )
        answer: nlu_pb2.Model = await self("TrainModel", request)
        return answer

    async def trained(self, model_id: str = "shop", **phrases: list[str]) -> nlu_pb2.Model:
        """Ask for a training and wait for its end."""
        model = await self.train(model_id, **phrases)
        return await self.ended(model)

    async def ended(self, model: nlu_pb2.Model) -> nlu_pb2.Model:
        """Return a version once its training has ended."""
        get = pb.GetModelRequest(model_id=model.model_id, version=model.version)

        async def now() -> nlu_pb2.Model | None:
            found = await self("GetModel", get)
            return found if found.state in (READY, FAILED) else None

        found: nlu_pb2.Model = await until(now)
        return found

    async def detect(self, text: str, model_id: str = "shop") -> nlu_pb2.Detection:
        """Ask what an utterance means."""
        request = pb.DetectIntentRequest(model_id=model_id, text=text)
        answer: nlu_pb2.Detection = await self("DetectIntent", request)
        return answer

    async def serves(self, version: int, model_id: str = "shop") -> None:
        """Wait until a version answers."""

        async def now() -> bool:
            return bool((await self.detect("hello", model_id)).model_version == version)

        await until(now)


async def until(look: Callable[[], Awaitable[Any]], seconds: float = TRAINED_S) -> Any:
    """Return what `look` finds once it finds something."""
    async with asyncio.timeout(seconds):
        while not (found := await look()):
            await asyncio.sleep(0.02)
    return found


@asynccontextmanager
async def instance(settings: Settings, wired: Wire = wire) -> AsyncIterator[Any]:
    """Run an instance of the service; yield a stub of it."""
    host = Host(settings)
    await wired(host)
    await host.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{host.port}") as channel:
            yield NluServiceStub(channel)
    finally:
        await host.leave()


async def learn_here(data: bytes) -> bytes:
    """Train in this process: what is not about the trainer need not wait for one to start."""
    return await asyncio.to_thread(learned, data)


def tenant() -> str:
    """Return a tenant that nobody else has."""
    return f"t{uuid4().hex[:12]}"


async def refused(calling: Awaitable[Any]) -> tuple[str, str, list[str]]:
    """Return code, reason and the fields of the error of a call."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await calling
    metadata = dict(caught.value.trailing_metadata() or ())
    status = status_pb2.Status.FromString(metadata["grpc-status-details-bin"])
    return caught.value.code().name, *described(status)


def described(status: Any) -> tuple[str, list[str]]:
    """Return reason and fields of a status."""
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    status.details[0].Unpack(info)
    if len(status.details) > 1:
        status.details[1].Unpack(bad)
    return info.reason, [violation.field for violation in bad.field_violations]
