"""What the message service holds by itself: SubmitMessages of 500, one call after another.

`python -m tests.load.messages_direct` starts Postgres, Redis and Kafka of its own and the
service as a process; with `--profile` the service runs in this process, and the functions
that took most are listed.
"""

import argparse
import asyncio
import cProfile
import os
import pstats
import secrets
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import grpc
import psutil
import uvloop
from interchange.message.v1.message_service_pb2 import (
    Submission,
    SubmitMessagesRequest,
)
from interchange.message.v1.message_service_pb2_grpc import MessageServiceStub

from services.common import clients, identity
from services.common.config import Settings
from services.common.host import Host
from services.common.ids import uuid7_batch
from services.message.__main__ import wire
from services.stack import topics
from services.stack.settings import StackSettings
from services.stack.stack import Stack

TENANT = "bench"
CALL = 500
WARM_CALLS = 20
ROOT = Path(__file__).resolve().parents[2]
PORT_OFFSET = 6_000
TEXT = "Where is my parcel? It should have been here on Tuesday, says the mail that I got."

STARTED = """
INSERT INTO message.conversations
SELECT $1, *, 1, 1, 'default', '', 0, false, gen_random_uuid(), 1, 0, 0, 0
FROM unnest($2::uuid[], $3::text[])
"""

COUNT = "SELECT count(*) FROM message.messages WHERE tenant_id = $1"
HOT = """
SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables
WHERE schemaname = 'message' AND relname = 'conversations'
"""


async def measure(arguments: argparse.Namespace, stack: Stack) -> None:
    """Measure and print."""
    settings = _settings(stack, arguments.silent)
    names = uuid7_batch(arguments.conversations, time.time_ns() // 1000)
    owner = await asyncpg.connect(stack.database_url())
    await owner.execute(STARTED, TENANT, names, [f"customer-{n}" for n in range(len(names))])
    serving = _here if arguments.profile else _process
    async with serving(settings) as cpu, grpc.aio.insecure_channel(settings.listen) as channel:
        stub = MessageServiceStub(channel)
        await _calls(stub, names, WARM_CALLS, arguments.callers)
        profile = cProfile.Profile()
        if arguments.profile:
            profile.enable()
        began, busy, postgres = time.perf_counter(), cpu(), _postgres_cpu(stack)
        took = sorted(await _calls(stub, names, arguments.calls, arguments.callers))
        seconds, busy = time.perf_counter() - began, cpu() - busy
        postgres = _postgres_cpu(stack) - postgres
        profile.disable()
    sent, hot = await owner.fetchval(COUNT, TENANT), await owner.fetchrow(HOT)
    await owner.close()
    count = arguments.calls * CALL
    expected = count + WARM_CALLS * CALL
    assert sent == expected, f"{sent} messages were stored, expected {expected}"
    print(
        f"{count / seconds:,.0f} messages/s, {arguments.callers} callers, "
        f"{arguments.conversations} conversations; a call of {CALL}: "
        f"p50 {1000 * statistics.median(took):.1f} ms, p95 {1000 * took[len(took) * 19 // 20]:.1f} "
        f"ms; CPU a message: service {1e6 * busy / count:.1f} µs, "
        f"Postgres {1e6 * postgres / count:.1f} µs; "
        f"{hot['n_tup_hot_upd'] / max(hot['n_tup_upd'], 1):.0%} of counters moved HOT"
    )
    if arguments.profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(35)


def _postgres_cpu(stack: Stack) -> float:
    """Return the CPU seconds of all processes of Postgres that live."""
    folder = str(stack.settings.data_dir)
    spent = 0.0
    for process in psutil.process_iter(["cmdline", "name"]):
        if process.info["name"] == "postgres" and folder in " ".join(process.info["cmdline"] or ()):
            workers = [process, *process.children(recursive=True)]
            spent += sum(sum(worker.cpu_times()[:2]) for worker in workers)
    return spent


async def _calls(stub: Any, names: list[str], calls: int, callers: int) -> list[float]:
    """Make calls, and return how long each took."""
    headers = clients.headers(identity.service(TENANT, "gateway"))
    took: list[float] = []
    left = iter(range(calls))

    async def caller() -> None:
        for call in left:
            places = ((call * CALL + n) % len(names) for n in range(CALL))
            request = SubmitMessagesRequest(
                submissions=[_submission(names[place], place) for place in places]
            )
            began = time.perf_counter()
            answer = await stub.SubmitMessages(request, metadata=headers, timeout=30)
            took.append(time.perf_counter() - began)
            refused = [one.error for one in answer.results if one.HasField("error")]
            assert not refused, refused[0]

    await asyncio.gather(*(caller() for _ in range(callers)))
    return took


def _submission(name: str, place: int) -> Submission:
    return Submission(
        sender={"kind": 1, "id": f"customer-{place}"},
        request={"conversation_id": name, "client_message_id": uuid4().hex, "text": TEXT},
    )


def _settings(stack: Stack, silent: bool) -> Settings:
    key = stack.settings.data_dir / "bench_personal_key"
    key.write_text(secrets.token_hex(32))
    return Settings(
        listen=f"127.0.0.1:{9900 + PORT_OFFSET}",
        database_url=f"postgresql://{stack.postgres.address}/interchange",
        database_password=stack.database_password(),
        kafka_bootstrap=stack.kafka_bootstrap,
        redis_url=stack.redis_url,
        personal_key_file=key,
        drain_notice_ms=0,
        message_rate_per_s=1_000_000,
        message_burst=1_000_000,
        log_level="WARNING",
        push_drop_every=1 if silent else 0,
    )


@asynccontextmanager
async def _here(settings: Settings) -> AsyncIterator[Callable[[], float]]:
    """Serve in this process; yield what tells its CPU time."""
    host = Host(settings)
    await wire(host)
    await host.start()
    yield time.process_time
    await host.leave()


@asynccontextmanager
async def _process(settings: Settings) -> AsyncIterator[Callable[[], float]]:
    """Serve in a process of its own; yield what tells its CPU time."""
    values = settings.model_dump(mode="json") | {"database_password": settings.password}
    environment = {
        f"INTERCHANGE_{name.upper()}": str(value)
        for name, value in values.items()
        if value is not None
    }
    paths = {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'gen'}"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.message", env=os.environ | environment | paths
    )
    watched = psutil.Process(process.pid)
    try:
        async with grpc.aio.insecure_channel(settings.listen) as channel:
            await asyncio.wait_for(channel.channel_ready(), 30)
        yield lambda: float(sum(watched.cpu_times()[:2]))
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), 40)


def main() -> None:
    """Start what is needed, measure, and stop it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--callers", type=int, default=2)
    parser.add_argument("--conversations", type=int, default=2_000)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--silent", action="store_true", help="push nothing")
    parser.add_argument("--data", type=Path, default=Path("/var/tmp/interchange-messages-direct"))
    arguments = parser.parse_args()
    stack = Stack(StackSettings(data_dir=arguments.data, port_offset=PORT_OFFSET))
    stack.down(wipe=True)
    try:
        stack.up(only=["postgres", "redis", "kafka"])
        stack.migrate(["message"])
        names = topics.names(["conversation", "bot", "message"])
        topics.create(stack.kafka_bootstrap, names, 4, 1)
        uvloop.run(measure(arguments, stack))
    finally:
        stack.down(wipe=True)


if __name__ == "__main__":
    main()
