"""One process: what it hosts, how it starts and how it leaves.

A start makes the server say SERVING last, a stop makes it say NOT_SERVING
first: in between, no call is lost.
"""

import asyncio
import gc
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

import structlog
import uvloop
from google.protobuf.descriptor import ServiceDescriptor

from services.common import interceptors, logs, metrics, server, telemetry
from services.common.config import Settings
from services.common.probes import Probes

CLOSE_MAX = 5.0
"""Seconds that one task or one close may take while the process leaves."""

log = structlog.get_logger(__name__)


class TaskError(Exception):
    """A background task ended with an exception; the process must be restarted."""


class Host:
    """One process: its gRPC server, its background tasks, its readiness.

    `serving` is set once calls are taken on `port`. `draining` is set when the
    process begins to leave: a stream without an end of its own watches it and
    ends, so that its client goes elsewhere.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.serving = asyncio.Event()
        self.draining = asyncio.Event()
        self.port = 0
        self.probes = Probes()
        self._server = server.create(settings)
        self._health = server.Health()
        self._services: list[str] = []
        self._tasks: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {}
        self._running: list[asyncio.Task[None]] = []
        self._closes: list[Callable[[], Awaitable[None]]] = []
        self._started = False
        self._forced = asyncio.Event()
        self._failure: TaskError | None = None
        self.probes.add("serving", self._check_serving)
        server.add_operations(self._server, self._health)

    def add_service(
        self,
        add_to_server: Callable[[Any, Any], None],
        servicer: object,
        descriptor: ServiceDescriptor,
    ) -> None:
        """Serve `servicer`: `add_to_server` is the generated add_XServicer_to_server.

        Raises ValueError when an rpc of the service declares no permission.
        """
        guard = interceptors.Guard(self._server, descriptor, self.settings)
        add_to_server(servicer, guard)
        self._services.append(descriptor.full_name)

    def add_task(self, name: str, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `run()` in the background from before SERVING until after the drain.

        A task may return. One that raises makes the process leave and exit
        non-zero.
        """
        if name in self._tasks:
            raise ValueError(f"task {name!r} was added twice")
        self._tasks[name] = run
        if self._started:
            self._start_task(name)

    def add_check(self, name: str, check: Callable[[], Awaitable[None]]) -> None:
        """Ask `check()` for readiness; it raises while not ready."""
        self.probes.add(name, check)

    def on_close(self, close: Callable[[], Awaitable[None]]) -> None:
        """Await `close()` at the end, after the tasks; the last added goes first."""
        self._closes.append(close)

    def stop(self) -> None:
        """Begin to leave; a second call cuts the drain short."""
        if self.draining.is_set():
            self._forced.set()
        self.draining.set()

    async def start(self) -> None:
        """Start tasks, server and probes, in this order, then say SERVING."""
        self.add_task("event-loop-lag", metrics.watch_loop)
        self._started = True
        for name in self._tasks:
            self._start_task(name)
        self.port = self._server.add_insecure_port(self.settings.listen)
        await self._server.start()
        await self.probes.start(self.settings.probe_listen)
        await self._health.serving(self._services)
        _settle_garbage()
        self.serving.set()
        log.info(
            "serving", port=self.port, probe_port=self.probes.port, services=sorted(self._services)
        )

    async def leave(self) -> None:
        """Drain the calls, cancel the tasks, then close; raise TaskError if one died."""
        self.draining.set()
        await self._drain()
        for task in reversed(self._running):
            task.cancel()
            await self._bounded(asyncio.wait([task]), task.get_name())
        for close in reversed(self._closes):
            await self._bounded(close(), getattr(close, "__qualname__", repr(close)))
        await self.probes.close()
        log.info("stopped")
        if self._failure is not None:
            raise self._failure

    async def _drain(self) -> None:
        """Let callers notice, then wait for the calls in flight."""
        notice = self.settings.drain_notice_ms / 1000
        await self._health.leave()
        if not self.port:
            return
        log.info("draining", notice_ms=self.settings.drain_notice_ms)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._forced.wait(), notice)
        grace = max(0.0, self.settings.drain_ms / 1000 - notice)
        stopping = asyncio.create_task(self._server.stop(grace))
        forced = asyncio.create_task(self._forced.wait())
        await asyncio.wait([stopping, forced], return_when=asyncio.FIRST_COMPLETED)
        if not stopping.done():
            await self._server.stop(None)
        forced.cancel()
        await stopping

    async def _bounded(self, action: Awaitable[Any], name: str) -> None:
        """Await one step of leaving: neither its failure nor its slowness stops the next."""
        try:
            await asyncio.wait_for(action, CLOSE_MAX)
        except Exception:
            log.exception("close failed", name=name)

    def _start_task(self, name: str) -> None:
        task = asyncio.create_task(self._tasks[name](), name=name)
        task.add_done_callback(self._task_done)
        self._running.append(task)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        name = task.get_name()
        log.error("task died", task=name, exc_info=error)
        if self._failure is None:
            self._failure = TaskError(f"task {name!r} died")
            self._failure.__cause__ = error
        self.draining.set()

    async def _check_serving(self) -> None:
        if self.draining.is_set():
            raise RuntimeError("draining")
        if not self.serving.is_set():
            raise RuntimeError("starting")


def _settle_garbage() -> None:
    """Collect rarely, and never what lives as long as the process.

    A batch makes thousands of objects without cycles: by default each batch
    would make the collector walk everything that is loaded.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


Wire = Callable[[Host], Awaitable[None]]
"""What a service's __main__ calls `wire`: it adds the service to the host."""


async def serve(settings: Settings, wires: Sequence[Wire]) -> None:
    """Host what `wires` add until SIGTERM or SIGINT; a second signal forces the end.

    Raises TaskError, after the drain, when a background task died.
    """
    host = Host(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, host.stop)
    leaving = asyncio.create_task(host.draining.wait())
    starting = asyncio.create_task(_start(host, wires))
    try:
        # A signal also ends a start that waits, for a database perhaps.
        await asyncio.wait([starting, leaving], return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            await leaving
    finally:
        starting.cancel()
        leaving.cancel()
        await asyncio.wait([starting, leaving])
        await host.leave()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def _start(host: Host, wires: Sequence[Wire]) -> None:
    for wire in wires:
        await wire(host)
    await host.start()


def main(*wires: Wire) -> None:
    """Run a process that hosts `wires`: its logs, traces, loop and exit code."""
    settings = Settings()
    service = _service_name(wires)
    logs.configure(settings.log_level, service)
    telemetry.configure(settings, service)
    try:
        uvloop.run(serve(settings, wires))
    except Exception:
        log.critical("process failed", exc_info=True)
        sys.exit(1)
    finally:
        telemetry.flush()


def _service_name(wires: Sequence[Wire]) -> str:
    """Return `trade` for services.trade.__main__, run as a script or not."""
    if len(wires) != 1:
        return "interchange"
    spec = sys.modules[wires[0].__module__].__spec__
    return spec.name.split(".")[1] if spec is not None else "interchange"
