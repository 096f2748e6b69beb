"""Messages survive a service that is killed while they are sent: each once, in order."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
from interchange.message.v1 import message_service_pb2 as pb
from interchange.message.v1.message_service_pb2_grpc import MessageServiceStub

from services.common import clients, identity
from services.common.config import Settings
from services.stack.stack import Stack
from tests.integration.test_message_scene import Talk, applying, settings, submission

__all__ = ["settings"]

ROOT = Path(__file__).resolve().parents[2]
KILLS = 3
BATCHES = 60


@asynccontextmanager
async def process(settings: Settings) -> AsyncIterator[asyncio.subprocess.Process]:
    values = settings.model_dump(mode="json") | {"database_password": settings.password}
    environment = {
        f"INTERCHANGE_{name.upper()}": str(value)
        for name, value in values.items()
        if value is not None
    }
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.message",
        env=os.environ | environment | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'gen'}"},
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()


async def test_killed_service_loses_and_repeats_nothing(servers: Stack, settings: Settings) -> None:
    port = servers.settings.services_port_base + 60
    killed = settings.model_copy(update={"listen": f"127.0.0.1:{port}", "log_level": "ERROR"})
    async with (
        grpc.aio.insecure_channel(killed.listen) as channel,
        applying(settings) as instance,
    ):
        stub: Any = MessageServiceStub(channel)
        talk = Talk(stub, instance, f"t-{uuid4().hex[:12]}")
        names = [await talk.start() for _ in range(5)]
        answered: list[int] = []
        sending = asyncio.create_task(send_all(talk, names, answered))
        for kill in range(KILLS):
            async with process(killed) as running:
                # Each life of the service gets some batches done, and dies among the next.
                async with asyncio.timeout(60):
                    while len(answered) < (kill + 1) * BATCHES // (KILLS + 1):
                        await asyncio.sleep(0.002)
                running.kill()
        async with process(killed):
            await asyncio.wait_for(sending, 60)
            for place, name in enumerate(names):
                assert await talk.said(name) == [f"ann:{n}.{place}" for n in range(BATCHES)]
                assert len(await talk.events(name)) == BATCHES


async def send_all(talk: Talk, names: list[str], answered: list[int]) -> None:
    """Send a message to each conversation, batch after batch, until each is answered."""
    headers = clients.headers(identity.service(talk.tenant, "gateway"))
    for n in range(BATCHES):
        submissions = [
            submission(name, f"{n}.{place}", client_id=f"{n}") for place, name in enumerate(names)
        ]
        request = pb.SubmitMessagesRequest(submissions=submissions)
        while True:
            try:
                answer = await talk.stub.SubmitMessages(
                    request, metadata=headers, timeout=20, wait_for_ready=True
                )
            except grpc.aio.AioRpcError as error:
                if error.code() != grpc.StatusCode.UNAVAILABLE:
                    raise
                continue
            break
        assert [one.message.sequence for one in answer.results] == [n + 1] * len(names)
        answered.append(n)
