"""What a client asked and was not answered yet: it is asked again on the next connection."""

import asyncio
from collections.abc import Callable, Iterator

from services.gateway import frames_out
from services.gateway.client.errors import ClientError, Refused
from services.gateway.frames_in import ClientFrame
from services.gateway.frames_out import Answer

AGAIN_S = 1.0
"""Pause before something is asked again that failed for a passing reason."""


class Asking:
    """Frames on their way, by their `ref`."""

    def __init__(self, write: Callable[[ClientFrame], None]) -> None:
        self._write = write
        self._asked: dict[str, tuple[ClientFrame, asyncio.Future[Answer]]] = {}
        self._timers: set[asyncio.TimerHandle] = set()
        self._count = 0

    def __iter__(self) -> Iterator[ClientFrame]:
        return iter([frame for frame, _ in self._asked.values()])

    def next_ref(self) -> str:
        """Return a `ref` that no frame had."""
        self._count += 1
        return str(self._count)

    async def answer(self, frame: ClientFrame, timeout_s: float, *, now: bool = True) -> Answer:
        """Send a frame, `now` or when somebody else does, and return its answer.

        Raises Refused, or TimeoutError.
        """
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._asked[frame.ref] = frame, future
        try:
            if now:
                self._write(frame)
            async with asyncio.timeout(timeout_s):
                return await future
        finally:
            del self._asked[frame.ref]

    def take(self, frame: Answer) -> bool:
        """Take what may be an answer; False when it is news."""
        found = self._asked.get(frame.ref)
        if found is None:
            return False
        future = found[1]
        if not isinstance(frame, frames_out.Error):
            if not future.done():
                future.set_result(frame)
            return True
        refused = Refused(frame.code, frame.reason, frame.message, frame.field)
        if refused.passing:
            self.later(AGAIN_S, lambda: self._again(frame.ref))
        elif not future.done():
            future.set_exception(refused)
        return True

    def fail(self, error: ClientError) -> None:
        """Tell all who wait that there will be no answer."""
        for _, future in self._asked.values():
            if not future.done():
                future.set_exception(error)
        for timer in self._timers:
            timer.cancel()

    def later(self, seconds: float, work: Callable[[], None]) -> None:
        """Do something in a while, unless the client is closed first."""

        def run() -> None:
            self._timers.discard(timer)
            work()

        timer = asyncio.get_running_loop().call_later(seconds, run)
        self._timers.add(timer)

    def _again(self, ref: str) -> None:
        found = self._asked.get(ref)
        if found is not None:
            self._write(found[0])
