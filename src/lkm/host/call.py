"""One init_module(2) or delete_module(2) in a process of its own, which may hang or be killed in it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lkm import proc
from lkm.end import End
from lkm.errors import MachineError

__all__ = ["Called", "load", "unload"]

_PROGRAM = Path(__file__).with_name("syscall.py")
_GRACE = 1.0
"""Seconds in which a process that got SIGKILL is gone, unless the kernel does not let it go."""


@dataclass(frozen=True)
class Called:
    """How the call ended; the fields are those of `lkm.machine.Outcome`."""

    end: End
    errno: int = 0
    seconds: float = 0.0
    guest_seconds: float = 0.0
    stacks: str = ""
    remains: str = ""


def load(
    image: bytes, arguments: bytes, *, timeout: float, log: int, on_log: Callable[[], None]
) -> Called:
    """init_module(2); `on_log` is called when the descriptor `log` is readable meanwhile."""
    # The module need not be readable by the helper's path: it gets the bytes that were checked.
    with os.fdopen(os.memfd_create("lkm-module"), "w+b") as file:
        file.write(struct.pack("<I", len(arguments)) + arguments + image)
        file.flush()
        return _call(["load", str(file.fileno())], (file.fileno(),), timeout, log, on_log)


def unload(name: str, *, timeout: float, log: int, on_log: Callable[[], None]) -> Called:
    """delete_module(2); the rest as for `load`."""
    return _call(["unload", name], (), timeout, log, on_log)


def _call(
    words: Sequence[str],
    fds: tuple[int, ...],
    timeout: float,
    log: int,
    on_log: Callable[[], None],
) -> Called:
    argv = [sys.executable, "-I", "-S", str(_PROGRAM), *words]
    started = time.monotonic()
    with (
        tempfile.TemporaryFile() as said,
        _running(argv, said.fileno(), fds) as process,
    ):
        assert process.stdout is not None
        if not _await(process.stdout.fileno(), started + timeout, log, on_log):
            return _hung(process, timeout)
        answer = process.stdout.read().split()
        code = process.wait()
        seconds = time.monotonic() - started
        if code < 0:
            return Called(End.KILLED, seconds=seconds)
        if code or len(answer) != 2:
            said.seek(0)
            raise MachineError(
                f"the process that loads modules ended with {code}",
                stage=words[0],
                console_tail=said.read().decode(errors="replace"),
            )
        return Called(End.DONE, int(answer[0]), seconds, int(answer[1]) / 1e9)


@contextlib.contextmanager
def _running(
    argv: Sequence[str], stderr: int, fds: tuple[int, ...]
) -> Iterator[subprocess.Popen[bytes]]:
    """The process; killed on leaving, and waited for unless the kernel does not let it go."""
    process = proc.popen(argv, stdout=subprocess.PIPE, stderr=stderr, pass_fds=fds)
    try:
        yield process
    finally:
        _kill(process)
        if process.stdout:
            process.stdout.close()


def _kill(process: subprocess.Popen[bytes]) -> bool:
    """Whether it is gone."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
    return process.poll() is not None


def _await(answer: int, deadline: float, log: int, on_log: Callable[[], None]) -> bool:
    """Wait for the answer, or the end, of the process; False after the deadline."""
    poll = select.poll()
    poll.register(answer, select.POLLIN)
    poll.register(log, select.POLLIN)
    while (left := deadline - time.monotonic()) > 0:
        ready = dict(poll.poll(left * 1000))
        if log in ready:
            on_log()
        if answer in ready:
            return True
    return False


def _hung(process: subprocess.Popen[bytes], timeout: float) -> Called:
    stacks = _stack(process.pid)
    remains = ""
    if not _kill(process):
        state = _state(process.pid)
        remains = f"its process {process.pid} cannot be killed (state {state}), so reboot"
    return Called(End.HUNG, seconds=timeout, stacks=stacks, remains=remains)


def _stack(pid: int) -> str:
    """Where it is in the kernel (root's to read, with CONFIG_STACKTRACE)."""
    try:
        return Path(f"/proc/{pid}/stack").read_text()
    except OSError:
        return ""


def _state(pid: int) -> str:
    """The letter of proc(5): D is uninterruptible, R runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "unknown"
