"""Steps that run in parallel, each after those that it needs."""

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

Report = Callable[[str, str, float, str], None]
"""Told of each step: name, state (`started`, `ready`, `failed`), seconds, note."""


@dataclass(frozen=True, slots=True)
class Step:
    """A piece of work, and the names of the steps that come first."""

    name: str
    run: Callable[[threading.Event], str]
    after: frozenset[str] = frozenset()


def perform(steps: Iterable[Step], report: Report) -> None:
    """Run each step once all that it needs and that is given here is done.

    When one fails, those that run are told to stop waiting, no other is
    started, and its error is raised.
    """
    waiting = {step.name: step for step in steps}
    cancelled = threading.Event()
    running: dict[Future[None], str] = {}
    failure: BaseException | None = None
    with ThreadPoolExecutor(max_workers=max(1, len(waiting))) as pool:
        try:
            while waiting or running:
                busy = {*waiting, *running.values()}
                for step in [step for step in waiting.values() if not step.after & busy]:
                    del waiting[step.name]
                    running[pool.submit(_run, step, cancelled, report)] = step.name
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    del running[future]
                    failure = failure or future.exception()
                if failure:
                    waiting.clear()
                    cancelled.set()
        except BaseException:
            # Ctrl-C: what was started stays and is found by the next start.
            cancelled.set()
            raise
    if failure:
        raise failure


def _run(step: Step, cancelled: threading.Event, report: Report) -> None:
    began = time.monotonic()
    report(step.name, "started", 0.0, "")
    try:
        note = step.run(cancelled)
    except BaseException as error:
        report(step.name, "failed", time.monotonic() - began, str(error))
        raise
    report(step.name, "ready", time.monotonic() - began, note)
