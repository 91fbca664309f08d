"""What a piece of work costs in CPU, counted from the processes that did it, whoever else uses the computer.

`spent` counts every process below this one once it has ended: this one is their reaper (PR_SET_CHILD_SUBREAPER,
prctl(2)), so that what bwrap leaves is waited for here. QEMU cannot be counted so: when bwrap's first process
is killed, the kernel ends what is in its pid namespace without anybody to wait for it (zap_pid_ns_processes()
in kernel/pid_namespace.c, Linux 6.1, ignores SIGCHLD). `run_cell` therefore writes down the CPU clock of each
QEMU just before that is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lkm.matrix import cell as cells
from lkm.matrix.cell import Cell
from lkm.matrix.outcome import CellResult
from lkm.vm import confine

_PR_SET_CHILD_SUBREAPER = 36
_BOOK = "LKM_BENCH_CPU"
_LIMIT = 10.0


@dataclass(frozen=True)
class Spent:
    """What a command cost: seconds of wall time, of CPU, and how many of those its guests had."""

    wall: float
    cpu: float
    guests: float
    output: str


def spent(argv: Sequence[str]) -> Spent:
    """Run a command to its end, with all that it leaves, and say what it cost. It has to succeed."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with tempfile.NamedTemporaryFile(prefix="lkm-bench-cpu-") as book:
        started, before = time.perf_counter(), _waited_for()
        env = {**os.environ, _BOOK: book.name}
        done = subprocess.run(argv, stdout=subprocess.PIPE, env=env, check=True, text=True)
        wall = time.perf_counter() - started
        _reap()
        guests = sum(map(float, Path(book.name).read_text().split()))
        return Spent(wall, _waited_for() - before + guests, guests, done.stdout)


def _waited_for() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _reap() -> None:
    """Wait for what was left to this process; all of it was told to end."""
    deadline = time.monotonic() + _LIMIT
    with contextlib.suppress(ChildProcessError):
        while True:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                assert time.monotonic() < deadline, "something that was started does not end"
                time.sleep(0.02)


def run_cell(cell: Cell) -> CellResult:
    """`lkm.matrix.cell.run_cell`, whose guests are counted."""
    _count_guests()
    return cells.run_cell(cell)


@functools.cache
def _count_guests() -> None:
    book, end = os.environ[_BOOK], confine.end

    def counted(process: subprocess.Popen[bytes]) -> None:
        spent = clock(confine.innermost(process.pid))
        with open(book, "a") as file:
            file.write(f"{spent}\n")
        end(process)

    confine.end = counted


def clock(pid: int) -> float:
    """The CPU clock of a process, its threads together, in seconds; 0 where it has ended.

    The number of the clock is what clock_getcpuclockid(3) makes of the process id.
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0
