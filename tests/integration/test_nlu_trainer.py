"""Trainings in processes of their own: killed, taken over, and never twice."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import psutil
import pytest

from services.common.config import Settings
from services.nlu import __main__ as nlu
from services.nlu.classifier import Classifier
from services.nlu.content import Damaged
from services.nlu.jobs import Job, PostgresJobs
from services.nlu.trainer import LearnerDied, learn
from services.stack.stack import Stack
from tests.integration.nlu_scene import (
    FAILED,
    READY,
    Caller,
    instance,
    learn_here,
    refused,
    tenant,
    until,
)


@pytest.fixture(scope="module")
def settings(servers: Stack) -> Settings:
    servers.migrate(["nlu"])
    return Settings(
        listen="127.0.0.1:0",
        database_url=f"postgresql://{servers.postgres.address}/interchange",
        database_password=servers.database_password(),
        drain_notice_ms=0,
        nlu_watch_ms=20,
    )


@pytest.fixture
async def owner(servers: Stack, settings: Settings) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(servers.database_url())
    yield connection
    await connection.close()


def learners() -> list[psutil.Process]:
    """Return the processes of this one that train."""
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if "services.nlu.learner" in " ".join(_arguments(child))
    ]


def _arguments(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


class Hanging:
    """Takes trainings and never ends, as if what it runs in had stopped."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()

    async def __call__(self, examples: bytes) -> bytes:
        self.begun.set()
        await asyncio.Event().wait()
        return b""


async def test_learner_is_a_process_and_goes_with_who_asked(settings: Settings) -> None:
    async with instance(settings) as stub:
        call = Caller(stub, tenant())
        model = await call.train()

        async def started() -> list[psutil.Process]:
            return learners()

        [process] = await until(started)
        assert process.nice() >= 0
        leaving = process
    # The instance left in the midst of it: the process is gone, and the training is not.
    assert not psutil.pid_exists(leaving.pid) or leaving.status() == psutil.STATUS_ZOMBIE
    async with instance(settings) as stub:
        assert (await call.at(stub).ended(model)).state == READY


async def test_killed_learner_is_started_again(settings: Settings, monkeypatch: Any) -> None:
    killed: list[int] = []

    async def learn_and_die(data: bytes) -> bytes:
        if killed:
            return await learn_here(data)
        working = asyncio.create_task(learn(data))

        async def started() -> list[psutil.Process]:
            return learners()

        [process] = await until(started)
        killed.append(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        return await working

    monkeypatch.setattr(nlu, "learn", learn_and_die)
    async with instance(settings) as stub:
        model = await Caller(stub, tenant()).trained()

    assert (model.state, model.version) == (READY, 1)
    assert len(killed) == 1


async def test_training_of_an_instance_that_hangs_is_taken_over(
    settings: Settings, monkeypatch: Any
) -> None:
    """Its lease runs out; when it wakes, it finds that the training is not its own."""
    hanging, stopped = Hanging(), settings.model_copy(update={"nlu_training_lease_ms": 1_500})
    renew = PostgresJobs.renew

    async def hang(self: PostgresJobs, job: Job) -> bool:
        if self._lease_ms == stopped.nlu_training_lease_ms:
            raise ConnectionError("as if the instance had stopped")
        return await renew(self, job)

    claim = PostgresJobs.claim

    async def claim_once(self: PostgresJobs) -> Job | None:
        # One that hangs claims nothing more either, or it would use up the attempts.
        if self._lease_ms == stopped.nlu_training_lease_ms and hanging.begun.is_set():
            raise ConnectionError("as if the instance had stopped")
        return await claim(self)

    monkeypatch.setattr(PostgresJobs, "renew", hang)
    monkeypatch.setattr(PostgresJobs, "claim", claim_once)
    monkeypatch.setattr(nlu, "learn", hanging)
    async with instance(stopped) as first:
        call = Caller(first, tenant())
        model = await call.train()
        await hanging.begun.wait()
        monkeypatch.setattr(nlu, "learn", learn_here)
        async with instance(settings) as second:
            assert (await call.at(second).ended(model)).state == READY
        assert (await call.detect("hello there")).intent == "greeting"


async def test_two_instances_train_a_version_once(
    settings: Settings, owner: Any, monkeypatch: Any
) -> None:
    taken: list[bytes] = []

    async def counting(data: bytes) -> bytes:
        taken.append(data)
        return await learn_here(data)

    monkeypatch.setattr(nlu, "learn", counting)
    async with instance(settings) as one, instance(settings) as other:
        calls = [Caller(stub, tenant()) for stub in (one, other) * 3]
        models = await asyncio.gather(*(call.trained() for call in calls))

    assert [model.state for model in models] == [READY] * 6
    assert len(taken) == 6


async def test_training_that_kills_its_trainers_fails(settings: Settings, monkeypatch: Any) -> None:
    attempts: list[bytes] = []

    async def dying(data: bytes) -> bytes:
        attempts.append(data)
        raise LearnerDied("out of memory")

    monkeypatch.setattr(nlu, "learn", dying)
    monkeypatch.setattr("services.nlu.trainer.RETRY_PAUSE_MS", 10)
    async with instance(settings) as stub:
        model = await Caller(stub, tenant()).trained()

    assert model.state == FAILED
    assert "died" in model.failure
    assert len(attempts) == 3


async def test_training_that_takes_too_long_fails(settings: Settings, monkeypatch: Any) -> None:
    monkeypatch.setattr(nlu, "learn", Hanging())
    hasty = settings.model_copy(update={"nlu_training_timeout_ms": 100})
    async with instance(hasty) as stub:
        model = await Caller(stub, tenant()).trained()
    assert (model.state, model.failure) == (FAILED, "it took longer than 0.1 s")


async def test_content_that_is_damaged_does_not_take_the_place_of_what_serves(
    settings: Settings, owner: Any, monkeypatch: Any
) -> None:
    tried, loop, load = asyncio.Event(), asyncio.get_running_loop(), Classifier.load

    def seen(data: bytes) -> Classifier:
        try:
            return load(data)
        except Damaged:
            loop.call_soon_threadsafe(tried.set)
            raise

    monkeypatch.setattr(Classifier, "load", seen)
    monkeypatch.setattr(nlu, "learn", learn_here)
    async with instance(settings) as stub:
        call = Caller(stub, tenant())
        await call.trained()
        await call.serves(1)
        # A version of a later format, as after a release that was taken back.
        await owner.execute(
            "INSERT INTO nlu.models SELECT tenant_id, model_id, 2, state, 2, 2, '', 0, "
            "create_time, finish_time FROM nlu.models WHERE tenant_id = $1",
            call.tenant,
        )
        await owner.execute(
            "INSERT INTO nlu.contents VALUES ($1, 'shop', 2, $2, sha256($2))", call.tenant, b"new"
        )
        await owner.execute("UPDATE nlu.active SET version = 2 WHERE tenant_id = $1", call.tenant)
        await tried.wait()
        assert (await call.detect("good morning")).model_version == 1
        await call.trained()
        await call.serves(3)


async def test_only_two_newest_contents_are_kept(
    settings: Settings, owner: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(nlu, "learn", learn_here)
    async with instance(settings) as stub:
        call = Caller(stub, tenant())
        for _ in range(4):
            await call.trained()
    query = "SELECT version FROM nlu.contents WHERE tenant_id = $1 ORDER BY version"
    assert [row[0] for row in await owner.fetch(query, call.tenant)] == [3, 4]
    trainings = "SELECT count(*) FROM nlu.trainings WHERE tenant_id = $1"
    assert await owner.fetchval(trainings, call.tenant) == 0


async def test_tenant_with_many_trainings_is_refused_more(
    settings: Settings, monkeypatch: Any
) -> None:
    monkeypatch.setattr(nlu, "learn", Hanging())
    async with instance(settings) as stub:
        call = Caller(stub, tenant())
        for _ in range(4):
            await call.train()
        assert (await refused(call.train()))[:2] == ("RESOURCE_EXHAUSTED", "TOO_MANY_TRAININGS")


def test_service_does_not_load_the_library_that_trains() -> None:
    """Its memory would be that of every instance."""
    code = "import sys, services.nlu.__main__; print({'sklearn', 'scipy'} & set(sys.modules))"
    path = os.pathsep.join(entry for entry in sys.path if entry)
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={"PYTHONPATH": path},
    )  # fmt: skip
    assert out.stdout.strip() == "set()"


async def test_learner_ends_when_who_started_it_was_killed() -> None:
    """Its input stays open: it does not end for want of that."""
    reading, writing = os.pipe()
    code = (
        "import subprocess, sys\n"
        "learner = subprocess.Popen([sys.executable, '-m', 'services.nlu.learner'])\n"
        "print(learner.pid, flush=True)\n"
        "learner.wait()\n"
    )
    path = os.pathsep.join(entry for entry in sys.path if entry)
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdin=reading, stdout=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": path},
    )  # fmt: skip
    os.close(reading)
    assert parent.stdout is not None
    learner = psutil.Process(int(await parent.stdout.readline()))

    async def watches() -> bool:
        return learner.num_threads() > 1

    async def gone() -> bool:
        return not learner.is_running() or learner.status() == psutil.STATUS_ZOMBIE

    await until(watches)
    parent.kill()
    await parent.wait()
    await until(gone)
    os.close(writing)
