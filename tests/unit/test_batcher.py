"""Concurrent calls become batches; each keeps its own outcome."""

import asyncio
from collections.abc import Sequence

import asyncpg
import pytest

from services.common import deadline, identity
from services.common.batcher import Batcher, isolated
from services.common.errors import FailedPrecondition, InterchangeError, Internal, Unavailable
from services.common.identity import Caller


class Recorder:
    """Remembers the batches that it was handed; slow enough for others to gather."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, list[int]]] = []

    async def __call__(
        self, tenant_id: str, commands: Sequence[int]
    ) -> list[str | InterchangeError]:
        self.batches.append((tenant_id, list(commands)))
        await asyncio.sleep(0.005)
        return [
            FailedPrecondition("ODD", f"{command} is odd") if command % 2 else f"done {command}"
            for command in commands
        ]


async def test_lone_caller_is_written_at_once() -> None:
    recorder = Recorder()
    batcher: Batcher[int, str] = Batcher(recorder, 100)

    assert await batcher.submit("demo", 2) == "done 2"
    assert recorder.batches == [("demo", [2])]


async def test_calls_that_arrive_together_share_batches() -> None:
    recorder = Recorder()
    batcher: Batcher[int, str] = Batcher(recorder, 100)

    answers = await asyncio.gather(*(batcher.submit("demo", 2 * n) for n in range(200)))

    assert answers == [f"done {2 * n}" for n in range(200)]
    assert len(recorder.batches) <= 4
    assert max(len(batch) for _, batch in recorder.batches) <= 100


async def test_bad_command_fails_alone() -> None:
    batcher: Batcher[int, str] = Batcher(Recorder(), 100)

    answers = await asyncio.gather(
        *(batcher.submit("demo", n) for n in range(4)), return_exceptions=True
    )

    assert answers[0] == "done 0"
    assert answers[2] == "done 2"
    assert isinstance(answers[1], FailedPrecondition)
    assert isinstance(answers[3], FailedPrecondition)


async def test_tenants_never_share_a_batch() -> None:
    recorder = Recorder()
    batcher: Batcher[int, str] = Batcher(recorder, 100)

    await asyncio.gather(*(batcher.submit(f"tenant-{n % 3}", 2 * n) for n in range(30)))

    for tenant_id, batch in recorder.batches:
        assert all(f"tenant-{(command // 2) % 3}" == tenant_id for command in batch)


async def test_caller_that_gave_up_before_the_write_is_not_written() -> None:
    recorder = Recorder()
    batcher: Batcher[int, str] = Batcher(recorder, 1)
    kept = [asyncio.create_task(batcher.submit("demo", 2 * n)) for n in range(3)]
    given_up = asyncio.create_task(batcher.submit("demo", 98))
    await asyncio.sleep(0.001)

    given_up.cancel()
    await asyncio.gather(*kept)
    await asyncio.sleep(0.02)

    assert [98] not in [batch for _, batch in recorder.batches]


async def test_fault_reaches_every_caller_of_the_batch() -> None:
    async def broken(tenant_id: str, commands: Sequence[int]) -> list[str | InterchangeError]:
        raise Unavailable("DATABASE_UNAVAILABLE", "no database")

    batcher: Batcher[int, str] = Batcher(broken, 100)

    answers = await asyncio.gather(
        *(batcher.submit("demo", n) for n in range(5)), return_exceptions=True
    )

    assert all(isinstance(answer, Unavailable) for answer in answers)


async def test_command_that_the_database_refuses_leaves_its_neighbours() -> None:
    async def refusing(tenant_id: str, commands: Sequence[int]) -> list[str | InterchangeError]:
        if 13 in commands:
            raise asyncpg.CheckViolationError("13 is unlucky")
        return [f"done {command}" for command in commands]

    outcomes = await isolated(refusing, "demo", range(20))

    assert isinstance(outcomes[13], Internal)
    assert [o for n, o in enumerate(outcomes) if n != 13] == [
        f"done {n}" for n in range(20) if n != 13
    ]


async def test_faults_of_the_surroundings_are_not_blamed_on_commands() -> None:
    async def down(tenant_id: str, commands: Sequence[int]) -> list[str | InterchangeError]:
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await isolated(down, "demo", range(3))


async def test_caller_in_a_hurry_takes_no_time_from_the_others() -> None:
    """A batch has the time of the caller with most, whoever came first."""
    left: list[float | None] = []

    async def write(tenant_id: str, commands: Sequence[int]) -> list[int | InterchangeError]:
        left.append(deadline.remaining())
        return list(commands)

    batcher: Batcher[int, int] = Batcher(write, 100)

    async def call(seconds: float) -> int:
        deadline.enter(seconds)
        return await batcher.submit("demo", 1)

    await asyncio.gather(*(asyncio.create_task(call(seconds)) for seconds in (0.0, 60.0, 1.0)))

    assert left == [pytest.approx(60, abs=5)]


async def test_later_batch_is_not_written_in_the_name_of_an_earlier_call() -> None:
    """What gathers behind a batch is started by it, but is not its caller's."""
    seen: list[str] = []

    async def write(tenant_id: str, commands: Sequence[int]) -> list[int | InterchangeError]:
        seen.append(identity.current().subject)
        await asyncio.sleep(0)
        return list(commands)

    batcher: Batcher[int, int] = Batcher(write, 1)

    async def call(subject: str) -> int:
        identity.enter(Caller("demo", subject, ("trader",)))
        return await batcher.submit("demo", 1)

    subjects = [f"caller-{number}" for number in range(8)]
    await asyncio.gather(*(asyncio.create_task(call(subject)) for subject in subjects))

    assert seen == subjects
