"""What every server of a stack has in common."""

import contextlib
import os
import signal
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from services.stack.errors import PortTaken, StackError, StartFailed
from services.stack.process import Process, User
from services.stack.settings import StackSettings

READY_PAUSE_S = 0.1


class NotReady(Exception):
    """The server does not answer yet; the message says what was tried."""


@dataclass(frozen=True, slots=True)
class Port:
    """A port of a server and the setting that moves it."""

    number: int
    setting: str


class Server(ABC):
    """A server that runs as a process of its own.

    A subclass says how to prepare its files, how to start it and how to tell
    that it serves; here are the steps around that.
    """

    name: str
    stop_signal = signal.SIGTERM
    stop_timeout_s: float = 20

    def __init__(self, settings: StackSettings) -> None:
        self.settings = settings
        self.process = Process(self.name, settings.data_dir)

    @property
    @abstractmethod
    def ports(self) -> Sequence[Port]:
        """Ports that it listens on, the one that callers use first."""

    @property
    def folder(self) -> Path:
        """Folder of its own data."""
        return self.settings.data_dir / self.name

    @property
    def user(self) -> User | None:
        """Who runs it, when that is not the caller."""
        return None

    @abstractmethod
    def prepare(self) -> None:
        """Write what it needs before it starts; repair what a crash left behind."""

    @abstractmethod
    def command(self) -> Sequence[str]:
        """Return the command line. Secrets have no place in it."""

    @abstractmethod
    def check(self) -> None:
        """Return when it serves, else raise `NotReady`."""

    def environment(self) -> Mapping[str, str]:
        """Return its environment."""
        return dict(os.environ)

    def up(self, cancelled: threading.Event) -> str:
        """Start it unless it runs, and wait until it serves. Return a note."""
        if self.process.find() is not None:
            self._await_ready(cancelled)
            return "was running"
        self.process.kill()
        self.prepare()
        self._claim_ports()
        self.process.start(self.command(), self.environment(), self.folder, self.user)
        self._await_ready(cancelled)
        return ""

    def down(self) -> bool:
        """Stop it. Return whether it ran."""
        return self.process.stop(self.stop_timeout_s, self.stop_signal)

    def problem(self) -> str:
        """Say why it does not serve; empty when it does."""
        try:
            self.check()
        except NotReady as error:
            return str(error) or "no answer"
        return ""

    def _await_ready(self, cancelled: threading.Event) -> None:
        end = time.monotonic() + self.settings.start_timeout_s
        while problem := self.problem():
            if cancelled.is_set():
                raise StackError(f"{self.name} was not awaited: the start was cancelled")
            if self.process.find() is None:
                code = self.process.exit_code()
                raise self._failure("ended" if code is None else f"ended with code {code}")
            if time.monotonic() > end:
                waited = self.settings.start_timeout_s
                raise self._failure(f"was not ready after {waited} s: {problem}")
            time.sleep(READY_PAUSE_S)

    def _failure(self, what: str) -> StartFailed:
        return StartFailed(
            f"{self.name} {what}",
            f"The whole log is {self.process.log_path}; correct the cause and run "
            "`interchange up` again. INTERCHANGE_START_TIMEOUT_S gives it more time.",
            self.process.tail(),
        )

    def _claim_ports(self) -> None:
        for port in self.ports:
            if not _is_free(port.number):
                raise PortTaken(
                    f"{self.name} needs port {port.number}, which is taken by "
                    f"{_owner(port.number)}",
                    f"Stop that process, or set INTERCHANGE_{port.setting.upper()} to a free "
                    "port, or INTERCHANGE_PORT_OFFSET to move all ports.",
                )


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # A connection of a server that has just ended lingers in TIME_WAIT; it is no reason.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError:
            return False
        return True


def _owner(port: int) -> str:
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("inet"):
            if connection.laddr and connection.laddr.port == port and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return "another process"
