"""The real Kbuild in the sandbox: the command line, its limits, and how it ended."""

# ruff: noqa: PTH110, PTH118 - paths of the sandbox are text
from __future__ import annotations

import os
import re
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lkm import proc, sandbox
from lkm.errors import HostError, UsageError
from lkm.kbuild.limits import LIMITS, Limits, jobs, watched
from lkm.kernels.kernel import Kernel
from lkm.progress import Progress
from lkm.sandbox import Bind
from lkm.source import ModuleSource

__all__ = [
    "STRIPPED", "Outcome", "Place", "argv", "execute", "limited", "make_arguments", "no_sandbox", "place",
    "run", "run_command",
]  # fmt: skip

STRIPPED = ".lkm/stripped"
"""Where the build leaves copies of the modules without debug info, below the work tree."""

_STARTED = ".lkm/started"


@dataclass(frozen=True)
class Place:
    """Where the sandbox shows a source: at its own path wherever that is possible."""

    source: ModuleSource
    kernel: Kernel
    tree: Path
    inside: str

    def to_host(self, path: str) -> str:
        """The host's path of an absolute path in the sandbox; the user's own file for a source's."""
        if path == self.inside or path.startswith(self.inside + "/"):
            return str(self.source.directory) + path[len(self.inside) :]
        return str(self.kernel.to_host(path))

    def locate(self, path: str) -> str:
        """The path to show for one that a build printed; as it is, where nothing on the host has it.

        Relative paths are the module directory's (Linux 6.13 and later) or the build tree's.
        """
        for candidate in (
            os.path.join(base, path) for base in (self.inside, self.kernel.build_dir)
        ):
            candidate = os.path.normpath(candidate)
            if candidate.startswith(self.inside + "/"):
                if path.startswith("/") or os.path.exists(
                    self.tree / candidate[len(self.inside) + 1 :]
                ):
                    return self.to_host(candidate)
            elif os.path.exists(shown := self.to_host(candidate)):
                return shown
        return path


_NEUTRAL = "/lkm/source"
_SAFE_PATH = r"/[\w./+@~-]+"


def place(source: ModuleSource, kernel: Kernel, tree: Path) -> Place:
    """Where to show `source`: its own path, or a neutral one where that cannot be.

    make splits names at blanks and colons, and nothing can be mounted below a directory of the
    toolchain root that does not have the mount point.
    """
    own = str(source.directory)
    try:
        own.encode()
    except UnicodeEncodeError:
        return Place(source, kernel, tree, _NEUTRAL)
    first = Path(own).parts[1:2]
    root = kernel.toolchain.root
    mountable = (
        first
        and (first[0] in _FREE or not (root / first[0]).exists())
        and first[0] not in _KERNEL_S
    )
    inside = own if mountable and re.fullmatch(_SAFE_PATH, own) else _NEUTRAL
    return Place(source, kernel, tree, inside)


_FREE = {"tmp", "run", "home", "root", "mnt", "media", "srv"}
"""Directories of a root that the sandbox does not bind, so that mount points can be made there."""

_KERNEL_S = {"dev", "proc", "sys"}

_VARIABLE = r"(?s)([A-Za-z_]\w*)=(.*)"
_RESERVED = {"ARCH", "KBUILD_EXTMOD", "KBUILD_OUTPUT", "M", "MAKEFLAGS", "MO", "O", "SHELL"}


def make_arguments(flags: Sequence[str]) -> tuple[str, ...]:
    """make's command line variables for `flags`: `NAME=VALUE` as it is, `-DX` in KCFLAGS.

    Raises UsageError for anything else, and for variables that lkm itself sets.
    """
    variables = {"KBUILD_MODPOST_WARN": ""}  # an unresolved symbol stays an error
    compiler: list[str] = []
    for flag in flags:
        match = re.fullmatch(_VARIABLE, flag)
        if match and match[1] not in _RESERVED:
            variables[match[1]] = match[2]
        elif not match and flag.startswith("-"):
            compiler.append(shlex.quote(flag).replace("$", "$$"))
        else:
            raise UsageError(
                f"cannot build with {flag!r}: it is neither a compiler flag nor a variable that may be set",
                hint="-DDEBUG for the compiler, W=1 for make",
            )
    if compiler:
        variables["KCFLAGS"] = " ".join([*filter(None, [variables.get("KCFLAGS")]), *compiler])
    return tuple(f"{name}={value}" for name, value in variables.items())


# One entry to the sandbox for everything. $1 is the module directory, the rest is make's command line.
# modules.order names objects since Linux 6.2 and modules before it. BTF goes unless the module registers
# kfuncs: a module built where there is no vmlinux has none either, and parsing it takes a third of insmod.
_SCRIPT = f"""\
directory=$1; shift
rm -rf "$directory/.lkm" && mkdir -p "$directory/{STRIPPED}" && : >"$directory/{_STARTED}" || exit 126
"$@" || exit
cd "$directory" || exit
[ -f modules.order ] || exit 0
while read -r object; do
    module=${{object%.*}}.ko
    btf='-R .BTF -R .BTF.base'
    grep -q '\\.BTF_ids' "$module" && btf=
    strip --strip-debug $btf -o "{STRIPPED}/${{module##*/}}" "$module" || exit
done <modules.order
"""


def argv(place: Place, arguments: Sequence[str], limits: Limits = LIMITS) -> list[str]:
    """The whole command line of a build, from prlimit(1) to make's last variable."""
    kernel = place.kernel
    variables = [f"M={place.inside}", *arguments]
    if kernel.provider != "debian":  # Debian's headers name their own compiler and architecture
        variables += [f"ARCH={kernel.arch.kbuild}", f"CC={kernel.toolchain.cc}"]
    make = [
        "make", "--no-print-directory", "--output-sync=target", f"--jobs={jobs()}",
        "-C", kernel.build_dir, *variables, "modules",
    ]  # fmt: skip
    return limited(
        sandbox.argv(
            kernel.toolchain.root,
            ["/bin/sh", "-c", _SCRIPT, "sh", place.inside, *make],
            binds=_binds(place),
            cwd=place.inside,
        ),
        limits,
    )


def limited(command: Sequence[str], limits: Limits) -> list[str]:
    """`command` with what the kernel itself can limit; `execute` sees to the rest."""
    return [
        "prlimit", f"--nproc={2 * limits.processes}", f"--as={limits.memory}",
        f"--fsize={limits.file}", "--core=0", "--", *command,
    ]  # fmt: skip


def _binds(place: Place) -> list[Bind]:
    """Outer mounts before the ones inside them."""
    binds = [Bind(host, inside) for host, inside in place.kernel.binds]
    worktree = place.source.worktree
    if worktree and place.inside != _NEUTRAL:
        binds.append(Bind(worktree, str(worktree)))
        if (worktree / ".git").is_dir():  # remotes may carry passwords
            binds.append(Bind(_empty_directory(place), str(worktree / ".git")))
    binds.append(Bind(place.tree, place.inside, writable=True))
    return sorted(binds, key=lambda bind: bind.inside.rstrip("/").count("/"))


def _empty_directory(place: Place) -> Path:
    path = place.tree.with_name("empty")
    path.mkdir(parents=True, exist_ok=True)
    return path


@dataclass(frozen=True)
class Outcome:
    """How make ended. `stopped` says which limit it hit, where lkm ended it."""

    argv: tuple[str, ...]
    returncode: int
    lines: tuple[str, ...]
    seconds: float
    stopped: str | None = None


def run(
    place: Place, arguments: Sequence[str], log: Path, progress: Progress, limits: Limits
) -> Outcome:
    """Run make to its end or to a limit; its output goes to the file `log` as it comes.

    Raises HostError where the sandbox itself cannot start.
    """
    return run_command(place, argv(place, arguments, limits), log, progress, limits)


def run_command(
    place: Place, command: Sequence[str], log: Path, progress: Progress, limits: Limits
) -> Outcome:
    """What `run` does, for another command line that leaves the same traces in the work tree."""
    started = time.monotonic()
    with open(log, "wb") as file:

        def sink(chunk: bytes) -> None:
            file.write(chunk)
            _report(progress, place.source.name, chunk)

        returncode, stopped = execute(command, place.tree, limits, sink)
    lines = tuple(log.read_text("utf-8", errors="replace").splitlines())
    if returncode and not stopped and not (place.tree / _STARTED).exists():
        raise no_sandbox(place.source, place.kernel, lines)
    return Outcome(tuple(command), returncode, lines, time.monotonic() - started, stopped)


def execute(
    command: Sequence[str], tree: Path, limits: Limits, sink: Callable[[bytes], None]
) -> tuple[int, str | None]:
    """Run a confined command, whose output `sink` gets as it comes, to its end or to a limit.

    Gives its exit status, and which limit it went over where lkm ended it. `tree` is where it may write.
    """
    with proc.stream(command) as process, watched(process, tree, limits) as watch:
        assert process.stdout is not None
        written = 0
        while chunk := os.read(process.stdout.fileno(), 1 << 16):
            written += len(chunk)
            if written > limits.output:
                watch.stop(f"printed more than {limits.output >> 20} MiB")
            else:
                sink(chunk)
        return process.wait(), watch.reason


def _report(progress: Progress, name: str, chunk: bytes) -> None:
    for step in re.findall(rb"^  ([A-Z].*)$", chunk, re.MULTILINE):
        progress.step(f"{name}: {' '.join(step.decode(errors='replace').split())}")


def no_sandbox(source: ModuleSource, kernel: Kernel, lines: Sequence[str]) -> HostError:
    """The error for a sandbox that said `lines` and did not start. Raises HostError where none can."""
    sandbox.check_usable(kernel.toolchain.root)
    return HostError(
        f"the sandbox for {source.directory} did not start",
        evidence=lines[-3:],
        hint=f"lkm build a copy of it: cp -r {source.directory} /tmp/",
    )
