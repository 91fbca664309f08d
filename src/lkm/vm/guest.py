"""The agent's binary: compiled once a toolchain, in its root, and kept by the content of its source."""

from __future__ import annotations

import functools
import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from lkm import atomic, proc, sandbox
from lkm.errors import BuildError, MachineError, UsageError
from lkm.kernels.kernel import Toolchain
from lkm.paths import cache_dir

__all__ = ["agent_binary", "agent_identity", "busybox_binary", "program"]

_SOURCE = Path(__file__).parent / "agent"
_FLAGS = ("-static", "-Os", "-Wall", "-s", "-std=gnu11")


@functools.cache
def agent_identity() -> str:
    """A digest of the agent's source and of how it is compiled."""
    digest = hashlib.sha256(" ".join(_FLAGS).encode())
    for path in sorted(_SOURCE.glob("*.[ch]")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def agent_binary(toolchain: Toolchain) -> Path:
    """The agent for that toolchain's architecture, compiled where it is not on this disk yet.

    Raises MachineError with the compiler's words when it does not compile.
    """
    home = cache_dir() / "agents"
    binary = home / f"{toolchain.identity[:16]}-{agent_identity()}"
    if binary.exists():
        return binary
    what = "the guest's agent"
    with atomic.disk_errors(what), atomic.exclusive(binary, what):
        if not binary.exists():
            prefix = f".partial-{binary.name}."
            with tempfile.TemporaryDirectory(prefix=prefix, dir=home) as out:
                _compile(toolchain, Path(out))
                Path(out, "agent").replace(binary)
    atomic.sweep(home)
    return binary


def program(toolchain: Toolchain, source: Path, flags: Sequence[str] = ()) -> Path:
    """A static program made of one .c file, named as that is without its suffix; kept by its content.

    What it includes by `"name.h"` is looked for beside it. Raises UsageError for a file that is not there,
    BuildError with the compiler's words.
    """
    try:
        digest = hashlib.sha256(source.read_bytes())
        for header in sorted(source.parent.glob("*.h")):
            digest.update(header.name.encode() + b"\0" + header.read_bytes())
    except OSError as error:
        raise UsageError(f"cannot read {source}: {error.strerror}") from error
    digest.update("\0".join((toolchain.identity, *flags)).encode())
    home = cache_dir() / "programs" / digest.hexdigest()[:20]
    binary = home / source.stem
    if binary.exists():
        return binary
    with atomic.exclusive(home, source.name), atomic.making(home, source.name) as partial:
        _compile_program(toolchain, source, flags, partial)
    return binary


def _compile_program(toolchain: Toolchain, source: Path, flags: Sequence[str], out: Path) -> None:
    inside = f"/src/{source.name}"
    command = [
        toolchain.cc,
        "-static",
        "-O1",
        "-g",
        "-Wall",
        "-o",
        f"/out/{source.stem}",
        inside,
        *flags,
    ]
    binds = [
        sandbox.Bind(out, "/out", writable=True),
        sandbox.Bind(source.parent.absolute(), "/src"),
    ]
    done = proc.run(
        sandbox.argv(toolchain.root, command, binds=binds), stage="compile", timeout=120
    )
    if done.returncode:
        raise BuildError(
            f"{source.name} does not compile",
            argv=command,
            returncode=done.returncode,
            diagnostics=done.output.replace("/src/", f"{source.parent}/").splitlines(),
        )


def _compile(toolchain: Toolchain, out: Path) -> None:
    # A copy: root in a user namespace cannot read a checkout in another user's private home.
    shutil.copytree(_SOURCE, out / "source")
    sources = [f"/out/source/{path.name}" for path in sorted(_SOURCE.glob("*.c"))]
    command = [toolchain.cc, *_FLAGS, "-o", "/out/agent", *sources]
    binds = [sandbox.Bind(out, "/out", writable=True)]
    done = proc.run(sandbox.argv(toolchain.root, command, binds=binds), stage="agent", timeout=120)
    if not done.returncode:
        return
    if "No space left" in done.output:
        raise atomic.no_space("the guest's agent")
    raise MachineError(
        f"{toolchain.cc} cannot compile the agent", stage="agent", console_tail=done.output
    )


def busybox_binary(toolchain: Toolchain) -> Path:
    """The static busybox of the toolchain root (package busybox-static)."""
    for name in ("usr/bin/busybox", "bin/busybox"):
        if (path := toolchain.root / name).is_file():
            return path
    raise MachineError(
        f"no busybox in {toolchain.root}",
        stage="initramfs",
        hint=f"rm -r {toolchain.root}; lkm makes it anew",
    )
