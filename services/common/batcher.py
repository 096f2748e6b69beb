"""Coalesces concurrent calls into batches, without making a lone caller wait.

While a batch of a tenant is being written, what arrives meanwhile gathers and
becomes the next one: the load itself sets the size. Only after a batch of many
the next one waits a moment for the callers that were just answered.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeAlias, TypeVar

import asyncpg
import structlog

from services.common import deadline, telemetry
from services.common.errors import InterchangeError, Internal, ResourceExhausted, Unavailable

log = structlog.get_logger()

C = TypeVar("C")
R = TypeVar("R")

Outcome: TypeAlias = "R | InterchangeError"
Handle: TypeAlias = Callable[[str, Sequence[C]], Awaitable[list["R | InterchangeError"]]]
"""Writes the commands of one tenant in one transaction, each with its own outcome."""

WAITING_MAX = 20_000
CROWD = 8
"""Commands in a batch from which on the next one gathers."""
GATHER_S = 0.006


async def isolated(
    handle: "Handle[C, R]", tenant_id: str, commands: Sequence[C]
) -> list["R | InterchangeError"]:
    """Write a batch; when the database refuses its data, find the culprits by halves.

    Rules are checked before: what fails here got past them, and must not take
    its neighbours along.
    """
    try:
        return await handle(tenant_id, commands)
    except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:
        if len(commands) == 1:
            log.error("command refused by the database", error=str(error))
            return [Internal("REFUSED_BY_DATABASE", "the database refused the command")]
    middle = len(commands) // 2
    return [
        *await isolated(handle, tenant_id, commands[:middle]),
        *await isolated(handle, tenant_id, commands[middle:]),
    ]


class _Waiting(NamedTuple, Generic[C, R]):
    """One command, who waits for it, and the call that brought it."""

    command: C
    future: "asyncio.Future[R]"
    context: Context


@dataclass(slots=True)
class _Queue(Generic[C, R]):
    """What waits for one tenant."""

    waiting: "deque[_Waiting[C, R]]" = field(default_factory=deque)
    running: bool = False
    written: int = 0
    """Commands of the last batch."""


class Batcher(Generic[C, R]):
    """Gathers commands by tenant and hands them over in batches.

    A tenant has its own queue, so one that floods waits behind itself only.
    """

    def __init__(self, handle: "Handle[C, R]", size_max: int) -> None:
        self._handle = handle
        self._size_max = size_max
        self._queues: dict[str, _Queue[C, R]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit(self, tenant_id: str, command: C) -> R:
        """Return the outcome of one command, or raise its error."""
        queue = self._queues.setdefault(tenant_id, _Queue())
        if len(queue.waiting) >= WAITING_MAX:
            raise ResourceExhausted(
                "TOO_MANY_WAITING", f"{WAITING_MAX} commands of this tenant are waiting"
            )
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        queue.waiting.append(_Waiting(command, future, copy_context()))
        self._start(tenant_id, queue)
        return await future

    def _start(self, tenant_id: str, queue: _Queue[C, R]) -> None:
        # One at a time: what a second one would gain in overlap it would lose by
        # making both small. Measured at 64 callers: 6 commands a batch with two.
        if not queue.running and queue.waiting:
            queue.running = True
            # Not in the context of whoever starts it: that call may be long over.
            task = asyncio.create_task(self._run(tenant_id, queue), context=Context())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self, tenant_id: str, queue: _Queue[C, R]) -> None:
        # Let the callers that are ready now join, and in a crowd those to come:
        # a batch costs everybody downstream much that its commands share.
        await asyncio.sleep(GATHER_S if queue.written >= CROWD else 0)
        batch = [queue.waiting.popleft() for _ in range(min(len(queue.waiting), self._size_max))]
        queue.written = len(batch)
        # A caller that gave up is not written; its retry brings the same key.
        batch = [one for one in batch if not one.future.done()]
        try:
            if batch:
                commands = [one.command for one in batch]
                writing = isolated(self._handle, tenant_id, commands)
                _answer(batch, await asyncio.create_task(writing, context=_shared(batch)))
        except BaseException as error:
            _fail(batch, error)
            if not isinstance(error, Exception):
                raise
        finally:
            queue.running = False
            if queue.waiting:
                self._start(tenant_id, queue)
            elif queue.written < CROWD:
                self._queues.pop(tenant_id, None)


def _shared(batch: "list[_Waiting[C, R]]") -> Context:
    """Return the context in which a batch is written: a call's whose trace is kept, if any is.

    It has the time of the call that has most: one in a hurry must not make the
    others fail.
    """
    contexts = [one.context for one in batch]
    chosen = next((each for each in contexts if each.run(telemetry.inject)), contexts[0])
    left = [each.run(deadline.remaining) for each in contexts]
    longest = None if None in left else max(filter(None, left), default=0.0)
    context = chosen.copy()
    context.run(deadline.enter, longest)
    return context


def _answer(batch: "list[_Waiting[C, R]]", outcomes: "list[R | InterchangeError]") -> None:
    for (_, future, _), outcome in zip(batch, outcomes, strict=True):
        if future.done():
            continue
        if isinstance(outcome, InterchangeError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


def _fail(batch: "list[_Waiting[C, R]]", error: BaseException) -> None:
    if isinstance(error, asyncio.CancelledError):
        error = Unavailable("STOPPING", "the server is stopping; try again with the same key")
    for _, future, _ in batch:
        if not future.done():
            future.set_exception(error)
