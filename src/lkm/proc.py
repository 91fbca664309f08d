"""The one place that starts processes.

Every child has no stdin, a process group of its own (so that Ctrl-C reaches lkm, which then ends its
children in order), is killed by the kernel when lkm dies, kill -9 included, and is always waited for.
PR_SET_PDEATHSIG fires when the *thread* that forked ends (prctl(2)), so one thread that lives as long as
the process does all the forking.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import queue
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from lkm.errors import HostError

__all__ = ["Crew", "Finished", "cores", "deathbound", "end", "find_tool", "popen", "run", "stream"]

log = logging.getLogger(__name__)

SYSTEM_PATH = ":/usr/sbin:/sbin"
"""Where to look besides PATH, which for an ordinary user may lack the system's own directories."""
TAIL_LINES = 200
"""How many of a child's last lines are kept."""


def cores() -> int:
    """How many cores this process may use: sched_getaffinity(2)."""
    return len(os.sched_getaffinity(0))


_PACKAGES = {
    "apt-get": "apt",
    "apt-cache": "apt",
    "bwrap": "bubblewrap",
    "dpkg-deb": "dpkg",
    "modprobe": "kmod",
    "prlimit": "util-linux",
    "qemu-system-x86_64": "qemu-system-x86",
    "setpriv": "util-linux",
}


@dataclass(frozen=True)
class Finished:
    """What a process that has ended left: its argv, exit status (negative: a signal) and last lines.

    stdout and stderr are one stream, in the order in which they were written.
    """

    argv: tuple[str, ...]
    returncode: int
    output: str
    seconds: float


@functools.cache
def find_tool(name: str) -> str:
    """The path of a program; HostError that names the Debian package where it is missing."""
    if path := shutil.which(name, path=os.environ.get("PATH", os.defpath) + SYSTEM_PATH):
        return path
    package = _PACKAGES.get(name, name)
    raise HostError(f"{name} is not installed", hint=f"sudo apt-get install {package}")


class _Spawner:
    """The thread that forks; one a process, made anew in a process that was forked off."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        threading.Thread(target=self._serve, name="lkm-spawner", daemon=True).start()

    def _serve(self) -> None:
        while True:
            job, future = self._jobs.get()
            try:
                future.set_result(job())
            except BaseException as error:  # noqa: BLE001 - handed to the thread that asked
                future.set_exception(error)

    def call(self, job: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        future: Future[subprocess.Popen[bytes]] = Future()
        self._jobs.put((job, future))
        try:
            return future.result()
        except KeyboardInterrupt:
            # The child may be born a moment later: it must not be forgotten.
            with contextlib.suppress(Exception):
                end(future.result(timeout=5))
            raise


_spawner: _Spawner | None = None
_spawner_lock = threading.Lock()


def _the_spawner() -> _Spawner:
    global _spawner  # noqa: PLW0603 - one a process is the point
    with _spawner_lock:
        if _spawner is None or _spawner.pid != os.getpid():
            _spawner = _Spawner()
        return _spawner


class Crew:
    """Threads that are interrupted together: a signal interrupts the main thread only."""

    _mine = threading.local()

    def __init__(self) -> None:
        self._stopped = False
        self.running: dict[subprocess.Popen[bytes], float] = {}

    @contextlib.contextmanager
    def member(self) -> Iterator[None]:
        """This thread belongs to the crew as long as the block lasts."""
        self._mine.crew = self
        try:
            yield
        finally:
            del self._mine.crew

    def stop(self) -> None:
        """Ends the members' processes; each member gets KeyboardInterrupt, now or at its next one."""
        self._stopped = True
        for process, grace in list(self.running.items()):
            kill_group(process, grace)

    @classmethod
    @contextlib.contextmanager
    def watching(cls, process: subprocess.Popen[bytes], grace: float) -> Iterator[None]:
        """The process is ended by the `stop` of the crew that this thread is in, if it is in one."""
        crew: Crew | None = getattr(cls._mine, "crew", None)
        if crew is None:
            yield
            return
        crew.running[process] = grace
        try:
            crew.check()
            yield
            crew.check()
        finally:
            crew.running.pop(process)

    @classmethod
    def check_mine(cls) -> None:
        """Raises KeyboardInterrupt in a member of a crew that was stopped."""
        if crew := getattr(cls._mine, "crew", None):
            crew.check()

    def check(self) -> None:
        """Raises KeyboardInterrupt in a crew that was stopped."""
        if self._stopped:
            raise KeyboardInterrupt


def deathbound(argv: Sequence[str]) -> list[str]:
    """`argv` wrapped so that the kernel kills it when this process dies.

    The shell between setpriv and the program closes the gap in which lkm could die before
    PR_SET_PDEATHSIG was set: a child that was already adopted does not start.
    """
    check = '[ "$PPID" = "$0" ] && exec "$@"'
    return [
        find_tool("setpriv"), "--pdeathsig", "KILL", "--",
        "/bin/sh", "-c", check, str(os.getpid()), *argv,
    ]  # fmt: skip


def popen(
    argv: Sequence[str],
    *,
    stdout: int | IO[bytes] = subprocess.DEVNULL,
    stderr: int | IO[bytes] = subprocess.DEVNULL,
    pass_fds: Sequence[int] = (),
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    outlives_us: bool = False,
) -> subprocess.Popen[bytes]:
    """Start a process; the caller waits for it. `outlives_us` is for `lkm up` alone."""
    tool = find_tool(argv[0])
    command = [tool, *argv[1:]] if outlives_us else deathbound([tool, *argv[1:]])
    log.debug("spawn %s", command)
    return _the_spawner().call(
        lambda: subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            pass_fds=pass_fds,
            env=env,
            cwd=cwd,
            process_group=None if outlives_us else 0,
            start_new_session=outlives_us,
        )
    )


def end(process: subprocess.Popen[bytes], *, grace: float = 0.0) -> None:
    """End a process and its group: SIGTERM and `grace` seconds where given, then SIGKILL; wait."""
    kill_group(process, grace)
    process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe:
            pipe.close()


def kill_group(process: subprocess.Popen[bytes], grace: float = 0.0) -> None:
    """What `end` sends. A bwrap that has just been started survives SIGTERM, with what it was to start."""
    if grace and process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace)
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def stream(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
    grace: float = 0.0,
) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose stdout and stderr come through one pipe; ended (`end`) and waited for on leaving."""
    process = popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, cwd=cwd, pass_fds=pass_fds
    )
    try:
        with Crew.watching(process, grace):
            yield process
    finally:
        end(process, grace=grace)


def run(
    argv: Sequence[str],
    *,
    stage: str,
    timeout: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
    on_line: Callable[[str], None] | None = None,
    keep_lines: int | None = TAIL_LINES,
    grace: float = 0.0,
) -> Finished:
    """Run a process to its end, whatever its exit status.

    `on_line` sees each line of output as it comes; the last `keep_lines` (all, for None) are returned.
    Raises HostError when the program is missing, or after `timeout` seconds, naming the `stage`. Interrupted,
    it has `grace` seconds to put its things in order.
    """
    started = time.monotonic()
    lines: deque[str] = deque(maxlen=keep_lines)
    with stream(argv, env=env, cwd=cwd, pass_fds=pass_fds, grace=grace) as process:
        assert process.stdout is not None
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

        timer = threading.Timer(timeout, expire)
        timer.daemon = True
        timer.start()
        try:
            for raw in process.stdout:
                line = raw.decode(errors="replace").rstrip("\n")
                lines.append(line)
                if on_line:
                    on_line(line)
            returncode = process.wait()
        finally:
            timer.cancel()
    if expired.is_set():
        raise HostError(
            f"{stage}: {argv[0]} was still running after {timeout:g} s", evidence=list(lines)[-12:]
        )
    return Finished(tuple(argv), returncode, "\n".join(lines), time.monotonic() - started)
