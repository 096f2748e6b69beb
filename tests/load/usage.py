"""CPU time and memory of a stack's processes, by what they are."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress

import psutil

from services.stack.stack import Stack
from tests.load.table import grid

POSTGRES = "postgres"
CLIENT = "client"
ENDED = "postgres: ended"


class Usage:
    """CPU seconds by role, from the moment it is made.

    A role is a server; within Postgres it is the role of a connection, or the
    background process. What ended meanwhile is counted by the postmaster.
    """

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._idle = psutil.cpu_times().idle
        self._began = time.perf_counter()
        self._before = self._now()

    def spent(self, more: dict[str, float] | None = None) -> dict[str, float]:
        """Return the seconds since the beginning, the greatest first.

        `more` adds processes that the stack does not know, such as callers.
        """
        now = self._now()
        spent: dict[str, float] = dict(more or {})
        for (role, pid), seconds in now.items():
            before = self._before.get((role, pid), 0.0)
            spent[role] = spent.get(role, 0.0) + seconds - before
        ordered = sorted(spent.items(), key=lambda item: -item[1])
        self.wall_s = time.perf_counter() - self._began
        self.idle_s = psutil.cpu_times().idle - self._idle
        return {role: seconds for role, seconds in ordered if seconds >= 0.005}

    def table(self, spent: dict[str, float], count: int, unit: str) -> str:
        """Return as text the CPU µs of each role per unit, and what the machine did else."""
        ours = sum(spent.values())
        others = max(0.0, (os.cpu_count() or 1) * self.wall_s - self.idle_s - ours)
        rows: list[tuple[str, ...]] = [("process", f"CPU µs a {unit}", "CPU s", "of a core")]
        more = {"all": ours, "not ours": others, "idle": self.idle_s}
        for role, seconds in (spent | more).items():
            a_unit = "" if role in ("not ours", "idle") else f"{1e6 * seconds / count:.1f}"
            rows.append((role, a_unit, f"{seconds:.2f}", f"{100 * seconds / self.wall_s:.0f} %"))
        return grid(rows)

    def _now(self) -> dict[tuple[str, int], float]:
        found = {(CLIENT, os.getpid()): _seconds(psutil.Process())}
        for name, process in processes(self._stack):
            with suppress(psutil.NoSuchProcess):
                found[name, process.pid] = _seconds(process)
                if name == POSTGRES:
                    found |= _postgres(process)
        return found


def processes(stack: Stack) -> Iterator[tuple[str, psutil.Process]]:
    """Yield the servers that run, by name."""
    for server in stack.servers:
        process = server.process.find()
        if process is not None:
            yield server.name, process


def memory_mb(stack: Stack) -> dict[str, float]:
    """Return the resident memory of each server but Postgres, whose processes share theirs."""
    found = {}
    for name, process in processes(stack):
        if name != POSTGRES:
            with suppress(psutil.NoSuchProcess):
                found[name] = process.memory_info().rss / 2**20
    return found


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _postgres(postmaster: psutil.Process) -> dict[tuple[str, int], float]:
    times = postmaster.cpu_times()
    ended = times.children_user + times.children_system
    found = {(ENDED, postmaster.pid): float(ended)}
    for child in postmaster.children():
        with suppress(psutil.NoSuchProcess, IndexError):
            # "postgres: trade_api interchange 127.0.0.1(51174) idle", "postgres: walwriter"
            title = child.cmdline()[0].removeprefix("postgres: ").split()
            name = title[0] if len(title) > 2 else " ".join(title)
            found[f"postgres: {name}", child.pid] = _seconds(child)
    return found
