"""What a build may use of this computer, and the thread that ends one that uses more.

RLIMIT_NPROC does not bind root (fork(2)), and no limit of the kernel's is about a directory's size or a
wall clock; so besides prlimit(1) a thread looks ten times a second.
"""

# ruff: noqa: PTH118, PTH208 - thousands of entries of /proc are looked at
from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import Popen

from lkm import config, proc

__all__ = ["LIMITS", "Limits", "Watch", "chosen", "jobs", "take_jobs", "watched"]


@dataclass(frozen=True)
class Limits:
    """What an untrusted Makefile may use: seconds, processes, and bytes."""

    seconds: float = 600
    processes: int = 2048
    memory: int = 8 << 30
    file: int = 1 << 30
    disk: int = 8 << 30
    output: int = 64 << 20


LIMITS = Limits()


def chosen() -> Limits:
    """The limits of a build, with the user's own time where that is set: `lkm.config`."""
    seconds = config.load().build_timeout
    return LIMITS if seconds is None else replace(LIMITS, seconds=seconds)


_jobs: int | None = None


def take_jobs(number: int) -> None:
    """Have each build of this process run so many of make's jobs at once, for others build beside it."""
    global _jobs  # noqa: PLW0603 - one a process is the point
    _jobs = number


def jobs() -> int:
    """How many of make's jobs a build runs at once: one a core, where nobody said otherwise."""
    return _jobs or proc.cores()


class Watch:
    """Ends a build that goes over a limit, and says over which."""

    def __init__(self, process: Popen[bytes], tree: Path, limits: Limits) -> None:
        self.reason: str | None = None
        self._process = process
        self._tree = tree
        self._limits = limits
        self._deadline = time.monotonic() + limits.seconds
        self._free = _free(tree)
        self._tasks = _tasks()
        self.done = threading.Event()

    def stop(self, reason: str) -> None:
        self.reason = self.reason or reason
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def watch(self) -> None:
        while not self.done.wait(0.1):
            if reason := self._excess():
                self.stop(reason)
                return

    def _excess(self) -> str | None:
        limits = self._limits
        if time.monotonic() > self._deadline:
            return f"ran longer than {limits.seconds:g} s"
        # The cheap looks are at the whole computer; only the dear ones after them can blame this build.
        if (
            _tasks() - self._tasks > limits.processes // 2
            and len(_descendants(self._process.pid)) > limits.processes
        ):
            return f"started more than {limits.processes} processes"
        if self._free - _free(self._tree) > limits.disk // 2 and _used(self._tree) > limits.disk:
            return f"wrote more than {limits.disk >> 20} MiB"
        return None


@contextmanager
def watched(process: Popen[bytes], tree: Path, limits: Limits) -> Iterator[Watch]:
    watch = Watch(process, tree, limits)
    thread = threading.Thread(target=watch.watch, name="lkm-build-watch", daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        watch.done.set()
        thread.join()


def _free(path: Path) -> int:
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def _tasks() -> int:
    """Threads on this computer: the fourth field of /proc/loadavg (proc(5))."""
    with open("/proc/loadavg", encoding="ascii") as file:
        return int(file.read().split()[3].partition("/")[2])


def _used(tree: Path) -> int:
    total = 0
    for top, _, names in os.walk(tree):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(top, name)).st_blocks * 512
    return total


def _descendants(pid: int) -> set[int]:
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with (
                suppress(OSError),
                open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file,
            ):
                parent = int(file.read().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(name))
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        new = children.get(waiting.pop(), [])
        found.update(new)
        waiting += new
    return found
