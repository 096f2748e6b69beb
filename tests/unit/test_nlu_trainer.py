"""The trainer over fake trainings."""

import asyncio
from uuid import uuid4

import pytest

from services.common.config import Settings
from services.nlu import content, trainer, training
from services.nlu.jobs import Job, Jobs
from services.nlu.trainer import Learn, LearnerDied, Trainer, Unlearnable

MODEL = content.pack(training.train([("yes", "y"), ("no", "n")]))
FAST = Settings(nlu_watch_ms=10, nlu_training_lease_ms=100, nlu_training_timeout_ms=60_000)


class FakeJobs(Jobs):
    """One training, and what became of it."""

    def __init__(self, attempts: int = 1) -> None:
        self.waiting = [Job("demo", "shop", 1, attempts, b"examples", uuid4())]
        self.ours = True
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.renewed = asyncio.Event()

    async def claim(self) -> Job | None:
        return self.waiting.pop() if self.waiting else None

    async def renew(self, job: Job) -> bool:
        self.renewed.set()
        return self.ours

    async def release(self, job: Job, *, pause_ms: int = 0, counts: bool = True) -> None:
        self._end(f"released, pause {pause_ms > 0}, counts {counts}")

    async def finish(self, job: Job, content: bytes, accuracy_millis: int) -> bool:
        self._end("finished" if content == MODEL else "finished with something else")
        return self.ours

    async def fail(self, job: Job, failure: str) -> bool:
        self._end(f"failed: {failure}")
        return self.ours

    def _end(self, how: str) -> None:
        if not self.ended.done():
            self.ended.set_result(how)


async def outcome(jobs: FakeJobs, learn: Learn, settings: Settings = FAST) -> str:
    """Run a trainer until the training has ended."""
    running = asyncio.create_task(Trainer(jobs, learn, settings).run())
    try:
        return await asyncio.wait_for(asyncio.shield(jobs.ended), 20)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def succeed(examples: bytes) -> bytes:
    assert examples == b"examples"
    return MODEL


async def hang(examples: bytes) -> bytes:
    await asyncio.Event().wait()
    return b""


async def test_model_is_stored() -> None:
    assert await outcome(FakeJobs(), succeed) == "finished"


@pytest.mark.parametrize(
    ("error", "ending"),
    [
        (Unlearnable("too few"), "failed: too few"),
        (LearnerDied("exit code -9"), "released, pause True, counts True"),
        (OSError("no memory"), "released, pause True, counts True"),
    ],
)
async def test_failure_ends_or_repeats_the_training(error: Exception, ending: str) -> None:
    async def fail(examples: bytes) -> bytes:
        raise error

    assert await outcome(FakeJobs(), fail) == ending


async def test_what_is_no_model_is_not_stored() -> None:
    async def garble(examples: bytes) -> bytes:
        return b"half of a mod"

    assert await outcome(FakeJobs(), garble) == "released, pause True, counts True"


async def test_training_over_which_trainers_died_is_given_up() -> None:
    assert await outcome(FakeJobs(attempts=4), hang) == "failed: 3 trainers died over it"


async def test_training_that_takes_too_long_is_given_up() -> None:
    hasty = FAST.model_copy(update={"nlu_training_timeout_ms": 100})
    assert await outcome(FakeJobs(), hang, hasty) == "failed: it took longer than 0.1 s"


async def test_trainer_that_leaves_releases_at_once() -> None:
    jobs = FakeJobs()
    running = asyncio.create_task(Trainer(jobs, hang, FAST).run())
    await jobs.renewed.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert jobs.ended.result() == "released, pause False, counts False"


async def test_trainer_that_lost_its_lease_stops_and_goes_on() -> None:
    jobs = FakeJobs()
    cancelled = asyncio.Event()

    async def learn(examples: bytes) -> bytes:
        if cancelled.is_set():
            return MODEL
        try:
            return await hang(examples)
        except asyncio.CancelledError:
            cancelled.set()
            jobs.ours = True
            jobs.waiting.append(Job("demo", "shop", 2, 1, b"examples", uuid4()))
            raise

    jobs.ours = False
    assert await outcome(jobs, learn) == "finished"
    assert cancelled.is_set()


async def test_learner_says_what_examples_teach_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unlearnable, match="fewer than two"):
        await trainer.learn(b"")
    with pytest.raises(LearnerDied, match="DecodeError"):
        await trainer.learn(b"\xff\xff")
