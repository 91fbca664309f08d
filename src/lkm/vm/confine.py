"""QEMU in bubblewrap: whoever breaks out of a guest finds no network, no home, and no file of the user's."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from lkm import proc

__all__ = ["argv", "end", "innermost"]

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
) -> list[str]:
    """The bwrap command line that runs `command` with these files and no others of the caller's.

    Its descriptors stay open there. It is killed when the caller is; its exit code is that of `command`, or 128
    and the number of the signal that ended it.
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
    return [*line, "--chdir", "/", "--", *command]


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill what runs confined, and wait until nothing of it is left.

    What bwrap runs goes first: bwrap reaps it then and ends by itself. Killing bwrap's own first process leaves
    that to the kernel, which takes 25 ms more, and killing bwrap leaves a zombie to a container whose first
    process reaps none.
    """
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        if (pid := innermost(process.pid)) != process.pid:
            os.kill(pid, signal.SIGKILL)
            process.wait(_GRACE)
    proc.end(process)


_GRACE = 2.0


def innermost(pid: int) -> int:
    """The process that a bwrap of that number runs; the number itself where nothing is below it."""
    try:
        below = _children(pid)
    except OSError:
        return pid
    return innermost(below[0]) if below else pid


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
