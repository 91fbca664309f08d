"""What a command costs in CPU, counted from the processes that did it, whoever else uses the computer.

Every process below this one is counted when it is waited for, and what its own parent leaves is left to this
one (PR_SET_CHILD_SUBREAPER, prctl(2)). QEMU is counted because `confine.end` has bwrap wait for it: of what
ends with its pid namespace nobody hears (zap_pid_ns_processes() in kernel/pid_namespace.c, Linux 6.1).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

_PR_SET_CHILD_SUBREAPER = 36
_LIMIT = 10.0


@dataclass(frozen=True)
class Spent:
    """What a command cost, in seconds of wall time and of CPU, and what it printed."""

    wall: float
    cpu: float
    output: str


def spent(argv: Sequence[str]) -> Spent:
    """Run a command to its end, with all that it leaves, and say what it cost. It has to succeed."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    started, before = time.perf_counter(), _waited_for()
    done = subprocess.run(argv, stdout=subprocess.PIPE, check=True, text=True)
    wall = time.perf_counter() - started
    reap()
    return Spent(wall, _waited_for() - before, done.stdout)


def _waited_for() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def reap() -> None:
    """Wait for what was left to this process; all of it was told to end."""
    deadline = time.monotonic() + _LIMIT
    with contextlib.suppress(ChildProcessError):
        while True:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                assert time.monotonic() < deadline, "something that was started does not end"
                time.sleep(0.02)


def clock(pid: int) -> float:
    """The CPU clock of a process that runs, its threads together, in seconds.

    The number of the clock is what clock_getcpuclockid(3) makes of the process id.
    """
    return time.clock_gettime((~pid << 3) | 2)
