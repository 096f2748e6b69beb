"""The trainer of an instance: one training at a time, in a process of its own.

A training is claimed by its row with a lease, which is renewed while the process
works. An instance that is killed stops renewing, and another takes the training
over; one that leaves releases it at once.
"""

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog
from prometheus_client import Counter, Histogram

from services.common.config import Settings
from services.nlu import content
from services.nlu.jobs import ATTEMPTS_MAX, Job, Jobs
from services.nlu.learner import UNLEARNABLE

ERROR_PAUSE_S = 1.0
RETRY_PAUSE_MS = 2_000
STDERR_MAX = 2_000
"""Characters of what a failed process wrote that are logged."""

TRAININGS = Counter("interchange_nlu_trainings_total", "Trainings that ended.", ["outcome"])
SECONDS = Histogram(
    "interchange_nlu_training_seconds",
    "Time that a training took.",
    buckets=(0.5, 1, 2, 5, 10, 20, 40, 60, 120, 300, 900),
)

log = structlog.get_logger()


class Unlearnable(Exception):
    """The examples teach nothing; the text says why."""


class LearnerDied(Exception):
    """The process ended without a model."""


Learn = Callable[[bytes], Awaitable[bytes]]
"""Trains on a serialized TrainModelRequest; raises Unlearnable or LearnerDied."""


class Trainer:
    """Does the trainings that are to be done, until cancelled."""

    def __init__(self, jobs: Jobs, learn: Learn, settings: Settings) -> None:
        self._jobs = jobs
        self._learn = learn
        self._poll_s = settings.nlu_watch_ms / 1000
        self._renew_s = settings.nlu_training_lease_ms / 3000
        self._lease_s = settings.nlu_training_lease_ms / 1000
        self._timeout_s = settings.nlu_training_timeout_ms / 1000
        self._queued = asyncio.Event()

    def wake(self) -> None:
        """Look for a training at once."""
        self._queued.set()

    async def run(self) -> None:
        """Train what is to be trained, until cancelled."""
        while True:
            self._queued.clear()
            try:
                job = await self._jobs.claim()
                if job is not None:
                    await self._train(job)
                    continue
            except Exception as error:
                log.error("trainer failed", error=repr(error))
                await asyncio.sleep(ERROR_PAUSE_S)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._queued.wait(), self._poll_s)

    async def _train(self, job: Job) -> None:
        began = time.monotonic()
        if job.attempts > ATTEMPTS_MAX:
            outcome = await self._give_up(job, f"{ATTEMPTS_MAX} trainers died over it")
        else:
            outcome = await self._attempt(job)
        TRAININGS.labels(outcome).inc()
        SECONDS.observe(time.monotonic() - began)
        log.info(
            "training ended", tenant_id=job.tenant_id, model_id=job.model_id,
            version=job.version, outcome=outcome, seconds=round(time.monotonic() - began, 1),
        )  # fmt: skip

    async def _attempt(self, job: Job) -> str:
        """Train once; return how that ended."""
        learning = asyncio.ensure_future(self._learn(job.examples))
        leasing = asyncio.create_task(self._keep_lease(job))
        try:
            await asyncio.wait(
                {learning, leasing}, timeout=self._timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if learning.done():
                return await self._settle(job, learning)
            if leasing.done():
                return "lost"
            return await self._give_up(job, f"it took longer than {self._timeout_s:g} s")
        except asyncio.CancelledError:
            # Before the process is gone: leaving is not to wait for it.
            await self._jobs.release(job, counts=False)
            raise
        finally:
            for task in (learning, leasing):
                task.cancel()
            await asyncio.gather(learning, leasing, return_exceptions=True)

    async def _settle(self, job: Job, learning: "asyncio.Future[bytes]") -> str:
        try:
            model = learning.result()
            accuracy = content.read_header(model).accuracy_millis
        except Unlearnable as error:
            return await self._give_up(job, str(error))
        except (LearnerDied, content.Damaged, OSError) as error:
            log.warning("learner died", model_id=job.model_id, error=str(error))
            await self._jobs.release(job, pause_ms=RETRY_PAUSE_MS)
            return "died"
        return "ready" if await self._jobs.finish(job, model, accuracy) else "lost"

    async def _give_up(self, job: Job, failure: str) -> str:
        return "failed" if await self._jobs.fail(job, failure) else "lost"

    async def _keep_lease(self, job: Job) -> None:
        """Renew the lease; return once it is lost, or cannot be known to be ours."""
        expiry = time.monotonic() + self._lease_s
        while time.monotonic() < expiry:
            await asyncio.sleep(self._renew_s)
            try:
                if not await self._jobs.renew(job):
                    return
                expiry = time.monotonic() + self._lease_s
            except Exception as error:
                log.warning("lease not renewed", model_id=job.model_id, error=repr(error))


async def learn(examples: bytes) -> bytes:
    """Train in a process of its own, which goes when this is cancelled."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.nlu.learner",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=_environment(),
    )
    try:
        out, err = await process.communicate(examples)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode == UNLEARNABLE:
        raise Unlearnable(out.decode())
    if process.returncode:
        said = err.decode(errors="replace")[-STDERR_MAX:]
        raise LearnerDied(f"exit code {process.returncode}: {said}")
    return out


def _environment() -> dict[str, str]:
    """Return what the process needs, which is no secret of ours."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    threads = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    return {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": path, **threads}
