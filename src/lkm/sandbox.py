"""A process confined by bubblewrap: no network, nothing of the host but what is named, read-only."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lkm import proc
from lkm.errors import HostError

__all__ = ["Bind", "argv", "check_usable"]


@dataclass(frozen=True)
class Bind:
    """A directory or file of the host shown in the sandbox at `inside`, read-only unless said."""

    host: Path
    inside: str
    writable: bool = False


def argv(
    root: Path,
    command: Sequence[str],
    *,
    binds: Sequence[Bind] = (),
    cwd: str = "/",
    env: Mapping[str, str] | None = None,
) -> list[str]:
    """The bwrap command line that runs `command` in the toolchain root `root`. Pure, but for a listing
    of `root`.

    Mount points of `binds` below the root's own directories must exist there.
    """
    line = [
        "bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--clearenv",
        "--cap-drop", "ALL", "--hostname", "lkm", "--tmpfs", "/",
    ]  # fmt: skip
    for entry in sorted(root.iterdir()):
        inside = f"/{entry.name}"
        if entry.is_symlink():
            line += ["--symlink", str(entry.readlink()), inside]
        elif entry.is_dir() and entry.name not in _OWN:
            line += ["--ro-bind", str(entry), inside]
    line += ["--proc", "/proc", "--dev", "/dev"]
    line += ["--size", str(TMP_SIZE), "--tmpfs", "/tmp", "--dir", "/run"]
    for bind in binds:
        line += ["--bind" if bind.writable else "--ro-bind", str(bind.host), bind.inside]
    full_env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/tmp"}
    for name, value in {**full_env, **(env or {})}.items():
        line += ["--setenv", name, value]
    return [*line, "--chdir", cwd, "--", *command]


TMP_SIZE = 1 << 30
"""Bytes that /tmp may hold: it is memory."""
_OWN = {"dev", "proc", "tmp", "sys", "run", "home", "root", "mnt", "media", "boot", "srv"}


def check_usable(root: Path) -> None:
    """Raise HostError, with bwrap's own words and the remedy, where bubblewrap cannot run."""
    done = proc.run(argv(root, ["true"]), stage="sandbox", timeout=20)
    if done.returncode:
        raise HostError(
            "bubblewrap cannot make a sandbox here",
            evidence=done.output.splitlines()[-3:],
            hint=_IN_CONTAINER if _is_container() else _ON_HOST,
        )


_IN_CONTAINER = (
    "start the container with --privileged, or its runner with privileged = true (docs/how-to/ci.md);"
    " a chroot has to be entered by pivot_root"
)
_ON_HOST = (
    "allow unprivileged user namespaces: sudo sysctl -w kernel.unprivileged_userns_clone=1"
    " kernel.apparmor_restrict_unprivileged_userns=0, or run lkm as root"
)


def _is_container() -> bool:
    """Root of a whole computer is not refused namespaces; docker and podman leave a file."""
    return os.geteuid() == 0 or any(map(os.path.exists, ("/.dockerenv", "/run/.containerenv")))
