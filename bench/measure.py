"""What a piece of work costs: wall seconds, CPU seconds here, CPU seconds in the database; and peak memory."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

# Server processes that work on their own account; what they do is no part of a statement.
BACKGROUND = ("checkpointer", "background writer", "walwriter", "autovacuum", "logical replication")


@dataclass(frozen=True)
class Cost:
    """Seconds of one run. `cpu`: this process and its children; `database`: the server's backends."""

    wall: float
    cpu: float
    database: float

    @property
    def whole(self) -> float:
        return self.cpu + self.database


@dataclass
class Meter:
    """Measures against the server of postmaster `pid`, which must be a local process."""

    pid: int

    def measure(self, work: Callable[[], object]) -> Cost:
        before = self._now()
        work()
        after = self._now()
        return Cost(after.wall - before.wall, after.cpu - before.cpu, after.database - before.database)

    def _now(self) -> Cost:
        times = os.times()
        own = times.user + times.system + times.children_user + times.children_system
        return Cost(time.monotonic(), own, self._database())

    def _database(self) -> float:
        """CPU seconds of all backends that are, and of all that have ended: these the postmaster has waited for."""
        postmaster = psutil.Process(self.pid)
        while True:
            ended = postmaster.cpu_times()
            total = ended.children_user + ended.children_system
            for backend in postmaster.children():
                with contextlib.suppress(psutil.Error):
                    if not any(name in " ".join(backend.cmdline()) for name in BACKGROUND):
                        total += _seconds(backend)
            # One that ends just now would be among neither, or both.
            now = postmaster.cpu_times()
            if (now.children_user, now.children_system) == (ended.children_user, ended.children_system):
                return float(total)


def _seconds(process: psutil.Process) -> float:
    """CPU seconds of a process, by the nanosecond where the kernel tells (its clock ticks are 10 ms)."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{process.pid}/schedstat").read_text().split()[0]) / 1e9
    times = process.cpu_times()
    return float(times.user + times.system)


def peak_memory() -> int:
    """Most bytes that this process ever held in memory (of its own: not those of what it was forked from)."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def best(costs: Iterator[Cost] | list[Cost], by: Callable[[Cost], float]) -> float:
    """The least: what disturbs a measurement only ever adds to it."""
    return min(by(cost) for cost in costs)
