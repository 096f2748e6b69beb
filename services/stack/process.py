"""Processes that outlive the command that started them."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from services.stack.secrets import private_folder

MARK = "INTERCHANGE_STACK_PROCESS"
"""Environment variable that names the stack and the process: it finds a process
again whose pid file was never written, because the starter was killed first."""

CREATED_TOLERANCE_S = 2.0

_children: dict[int, subprocess.Popen[bytes]] = {}
"""Processes started here. They are kept, so that a dead one can be reaped."""


@dataclass(frozen=True, slots=True)
class User:
    """Who runs a process, when it is somebody else."""

    uid: int
    gid: int


class Process:
    """One named process of a stack: its pid file, its log and its end."""

    def __init__(self, name: str, data_dir: Path) -> None:
        self.name = name
        self.pid_path = data_dir / "run" / f"{name}.json"
        self.log_path = data_dir / "logs" / f"{name}.log"
        self.mark = f"{data_dir}:{name}"

    def find(self) -> psutil.Process | None:
        """Return the live process, or None. A recycled pid is never taken for ours."""
        return self._recorded() or self._adopt()

    def start(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        user: User | None = None,
    ) -> None:
        """Start detached, in a session of its own, so that Ctrl-C does not reach it."""
        self.pid_path.parent.mkdir(parents=True, exist_ok=True)
        private_folder(self.log_path.parent)
        if self.log_path.exists():
            self.log_path.replace(self.log_path.with_suffix(".log.1"))
        with self.log_path.open("ab") as log:
            child = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**environment, MARK: self.mark},
                start_new_session=True,
                user=user.uid if user else None,
                group=user.gid if user else None,
                extra_groups=[] if user else None,
            )
        _children[child.pid] = child
        with contextlib.suppress(psutil.NoSuchProcess):
            self._record(psutil.Process(child.pid))

    def stop(self, timeout_s: float, soft: signal.Signals = signal.SIGTERM) -> bool:
        """Ask it to end, wait, kill what is left. Return whether anything ran."""
        process = self.find()
        if process is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(soft)
            _wait_gone(process, timeout_s)
        self.kill()
        return process is not None

    def kill(self) -> None:
        """End it and whatever it left behind, at once."""
        process = self._recorded()
        victims = [*self.strays(), *([process] if process else [])]
        for victim in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()
        for victim in victims:
            _wait_gone(victim, 10)
        self.pid_path.unlink(missing_ok=True)

    def strays(self) -> list[psutil.Process]:
        """Return live processes of this name, whether a pid file knows them or not."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def exit_code(self) -> int | None:
        """Return how it ended, where this very process started it and it has ended."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            child = _children.get(json.loads(self.pid_path.read_text())["pid"])
            return child.poll() if child else None
        return None

    def tail(self, lines: int = 15) -> str:
        """Return the last lines of the log."""
        with contextlib.suppress(OSError), self.log_path.open(errors="replace") as log:
            return "".join(deque(log, maxlen=lines)).rstrip()
        return ""

    def _recorded(self) -> psutil.Process | None:
        with contextlib.suppress(OSError, ValueError, KeyError, psutil.Error):
            known = json.loads(self.pid_path.read_text())
            process = psutil.Process(known["pid"])
            same = abs(process.create_time() - known["created"]) < CREATED_TOLERANCE_S
            return process if same and _is_alive(process) else None
        return None

    def _adopt(self) -> psutil.Process | None:
        family = {process.pid: process for process in self.strays()}
        for process in family.values():
            with contextlib.suppress(psutil.Error):
                if process.ppid() not in family and self._leads(process):
                    self._record(process)
                    return process
        return None

    def _leads(self, process: psutil.Process) -> bool:
        """Tell the process that was started from a child that survived it."""
        return os.getsid(process.pid) == process.pid

    def _is_ours(self, process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.Error, OSError):
            return process.environ().get(MARK) == self.mark and _is_alive(process)
        return False

    def _record(self, process: psutil.Process) -> None:
        private_folder(self.pid_path.parent)
        draft = self.pid_path.with_suffix(".draft")
        draft.write_text(json.dumps({"pid": process.pid, "created": process.create_time()}))
        draft.replace(self.pid_path)


def _is_alive(process: psutil.Process) -> bool:
    child = _children.get(process.pid)
    if child is not None and child.poll() is not None:
        return False
    return bool(process.status() != psutil.STATUS_ZOMBIE)


def _wait_gone(process: psutil.Process, timeout_s: float) -> None:
    for _ in _ticks(timeout_s):
        try:
            if not process.is_running() or not _is_alive(process):
                return
        except psutil.NoSuchProcess:
            return


def _ticks(timeout_s: float, pause_s: float = 0.05) -> Iterator[None]:
    end = time.monotonic() + timeout_s
    while True:
        yield
        if time.monotonic() >= end:
            return
        time.sleep(pause_s)
