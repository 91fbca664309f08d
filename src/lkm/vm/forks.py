"""QEMUs that are forked off one that is loaded and linked already, and confined already.

Half of what QEMU's start costs is the dynamic linker: 12,000 symbols of 50 libraries and 236,000 relative
relocations (QEMU 7.2 of Debian 12). A process that needs a second machine starts a server (`forks.c`) that has
that behind it, as AFL's fork server and Android's zygote do, and every machine from then on is a fork of it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import select
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lkm import atomic, proc, sandbox
from lkm.errors import LkmError
from lkm.paths import cache_dir
from lkm.vm import confine

if TYPE_CHECKING:
    from lkm.kernels.kernel import Toolchain

__all__ = ["FIRST_FD", "Forked", "close", "forked", "make_library"]

FIRST_FD = 100
"""Where the descriptors of a request are in its process: FIRST_FD, FIRST_FD + 1, ... (`forks.c`)."""

_SOURCE = Path(__file__).with_suffix(".c")
_FLAGS = (
    "-shared", "-fPIC", "-nostdlib", "-O2", "-Wall", "-s", "-fno-stack-protector", "-U_FORTIFY_SOURCE",
)  # fmt: skip
_WORDS = 160
"""How many words a command line may have: the server's own has as many, which make room for them."""
_LIMIT = 10.0
"""Seconds that a server may take for anything it is asked."""


@functools.cache
def _library() -> Path:
    digest = hashlib.sha256(" ".join(_FLAGS).encode() + _SOURCE.read_bytes()).hexdigest()
    return cache_dir() / "agents" / f"forks-{digest[:16]}.so"


def make_library(toolchain: Toolchain) -> None:
    """Compile what a server needs, where it is not on this disk yet. Without it there are no servers.

    The toolchain has to be for this computer's processor.
    """
    library = _library()
    if library.exists():
        return
    with contextlib.suppress(LkmError), atomic.exclusive(library, library.name):
        if not library.exists():
            _compile(toolchain, library)


def _compile(toolchain: Toolchain, library: Path) -> None:
    prefix = f".partial-{library.name}."
    with tempfile.TemporaryDirectory(prefix=prefix, dir=library.parent) as out:
        Path(out, "forks.c").write_bytes(_SOURCE.read_bytes())
        command = [toolchain.cc, *_FLAGS, "-o", "/out/made.so", "/out/forks.c"]
        binds = [sandbox.Bind(Path(out), "/out", writable=True)]
        proc.run(sandbox.argv(toolchain.root, command, binds=binds), stage="forks", timeout=120)
        with contextlib.suppress(FileNotFoundError):
            Path(out, "made.so").replace(library)


class Forked:
    """A QEMU that a server has forked off; see `confine.Running`."""

    def __init__(self, server: _Server, number: int, pidfd: int) -> None:
        self._server = server
        self._number = number
        self._pidfd = pidfd
        self._lock = threading.Lock()
        self._status: int | None = None
        self.pid = _pid_of(pidfd)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, negative for a signal. Raises TimeoutExpired."""
        with self._lock:
            if self._status is None:
                poll = select.poll()
                poll.register(self._pidfd, select.POLLIN)
                if not poll.poll(None if timeout is None else timeout * 1000):
                    raise subprocess.TimeoutExpired("qemu", timeout or 0)
                self._status = self._server.status_of(self._number)
                os.close(self._pidfd)
            return self._status

    def end(self) -> None:
        """Kill it, and wait until nothing of it is left."""
        with self._lock:
            if self._status is None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        self.wait()


def _pid_of(pidfd: int) -> int:
    """Its number here (proc(5), fdinfo); it has another one where it runs."""
    lines = Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pid:"))


class _Server:
    """A QEMU that forks. Raises OSError where it does not answer as it should."""

    def __init__(self, tool: str, library: Path) -> None:
        self._lock = threading.Lock()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(_LIMIT)
        command = confine.argv(
            [tool, *["-"] * _WORDS],
            read=[library],
            env={"LD_PRELOAD": os.fspath(library), "FORKS_FD": str(theirs.fileno())},
        )
        try:
            with theirs:
                self._process = proc.popen(command, pass_fds=(theirs.fileno(),))
        except BaseException:
            self._control.close()
            raise
        # At the latest when this process ends; all that it has forked off ends with it.
        self.close = weakref.finalize(self, _end, self._control, self._process, os.getpid())
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    def fork(self, words: Sequence[str], fds: Sequence[int]) -> Forked | None:
        """One that has these words after its name, the first descriptor as its stderr; None if it cannot."""
        request = b"F" + b"".join(os.fsencode(word) + b"\0" for word in words)
        with self._lock:
            socket.send_fds(self._control, [request], fds)
            number, pidfds = self._answer()
        return Forked(self, number, pidfds[0]) if pidfds else None

    def status_of(self, number: int) -> int:
        """The status of one that has ended; that of SIGKILL where the server has gone with it."""
        with self._lock, contextlib.suppress(OSError):
            self._control.send(b"W%d\0" % number)
            return os.waitstatus_to_exitcode(self._answer()[0])
        return -signal.SIGKILL

    def _answer(self) -> tuple[int, list[int]]:
        data, fds, _, _ = socket.recv_fds(self._control, 4, 1)
        if len(data) < 4:
            raise BrokenPipeError
        return struct.unpack("i", data)[0], fds


def _end(control: socket.socket, process: subprocess.Popen[bytes], owner: int) -> None:
    if os.getpid() != owner:
        control.close()
        return
    # It sees that nobody is at the other end.
    with contextlib.suppress(OSError):
        control.shutdown(socket.SHUT_RDWR)
    control.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_LIMIT)
    confine.Confined(process).end()


class _Servers:
    """This process's servers, one for a QEMU; what a fork of this process inherited is not its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._all: dict[str, _Server | None] = {}

    def get(self, tool: str, identity: str) -> _Server | None:
        """The server of that QEMU; None where there is none."""
        with self._lock:
            if self._pid != os.getpid():
                self._pid, self._all = os.getpid(), {}
            if identity not in self._all:
                self._all[identity] = self._started(tool)
            return self._all[identity]

    def do_without(self, identity: str) -> None:
        """Start what comes as ever; what the server has forked off goes on."""
        with self._lock:
            self._all[f"{identity}, broken"] = self._all[identity]
            self._all[identity] = None

    def close(self) -> None:
        """End them; the next one that is asked for is made anew."""
        with self._lock:
            servers, self._all = self._all, {}
            for server in servers.values():
                if server:
                    server.close()

    def _started(self, tool: str) -> _Server | None:
        library = _library()
        if library.exists():
            with contextlib.suppress(OSError):
                return _Server(tool, library)
        return None


_servers = _Servers()


def close() -> None:
    """End this process's servers, with the machines that they have forked off."""
    _servers.close()


def forked(tool: str, identity: str, words: Sequence[str], fds: Sequence[int]) -> Forked | None:
    """A QEMU with these words after its name; None where it has to be started as ever.

    `identity` changes when QEMU is replaced. `fds` are open there from FIRST_FD on; the first is its stderr.
    """
    server = _servers.get(tool, identity)
    if server is None or len(words) > _WORDS:
        return None
    try:
        return server.fork(words, fds)
    except OSError:
        _servers.do_without(identity)
        return None
