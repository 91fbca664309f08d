"""QEMU in bubblewrap: whoever breaks out of a guest finds no network, no home, and no file of the user's."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from lkm import proc

__all__ = ["Confined", "Running", "argv"]

_SYSTEM = (
    "/usr", "/lib", "/lib32", "/lib64", "/libx32", "/bin", "/sbin", "/opt", "/nix", "/gnu",
    "/etc/alternatives", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d",
)  # fmt: skip
"""Where QEMU, its libraries and its firmware are, on any distribution: shown read-only."""


def argv(
    command: Sequence[str],
    *,
    read: Sequence[Path] = (),
    written: Sequence[Path] = (),
    devices: Sequence[Path] = (),
    env: Mapping[str, str] | None = None,
) -> list[str]:
    """The bwrap command line that runs `command` with these files and no others of the caller's.

    Its environment is `env`. Its descriptors stay open there. It is killed when the caller is; its exit code is
    that of `command`, or 128 and the number of the signal that ended it.
    """
    line = [
        "bwrap", "--unshare-all", "--die-with-parent", "--clearenv", "--cap-drop", "ALL",
    ]  # fmt: skip
    for name in _SYSTEM:
        path = Path(name)
        if path.is_symlink():
            line += ["--symlink", str(path.readlink()), name]
        elif path.exists():
            line += ["--ro-bind", name, name]
    line += ["--proc", "/proc", "--dev", "/dev"]
    for option, paths in (("--ro-bind", read), ("--bind", written), ("--dev-bind", devices)):
        for path in paths:
            line += [option, str(path), str(path)]
    for name, value in (env or {}).items():
        line += ["--setenv", name, value]
    return [*line, "--chdir", "/", "--", *command]


class Running(Protocol):
    """A QEMU, however it was started."""

    @property
    def pid(self) -> int:
        """Its own number, as this computer's processes see it."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status: negative, or 128 and more, for a signal. Raises TimeoutExpired."""
        ...

    def end(self) -> None:
        """Kill it, and wait until nothing of it is left. Can be called twice."""
        ...


class Confined:
    """What a bwrap runs."""

    def __init__(self, bwrap: subprocess.Popen[bytes]) -> None:
        self._bwrap = bwrap

    @property
    def pid(self) -> int:
        """The process that bwrap runs; bwrap itself where nothing is below it."""
        return _innermost(self._bwrap.pid)

    def wait(self, timeout: float | None = None) -> int:
        """See `Running`."""
        return self._bwrap.wait(timeout)

    def end(self) -> None:
        """See `Running`.

        What bwrap runs goes first: bwrap reaps it then and ends by itself. Killing bwrap's own first process
        leaves that to the kernel, which takes 25 ms more; killing bwrap leaves a zombie to a container whose
        first process reaps none.
        """
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            if (pid := self.pid) != self._bwrap.pid:
                os.kill(pid, signal.SIGKILL)
                self._bwrap.wait(_GRACE)
        proc.end(self._bwrap)


_GRACE = 2.0


def _innermost(pid: int) -> int:
    try:
        below = _children(pid)
    except OSError:
        return pid
    return _innermost(below[0]) if below else pid


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
