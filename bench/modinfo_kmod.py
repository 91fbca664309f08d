"""`lkm modinfo` against kmod's modinfo: the same files, the same flags, byte for byte.

    python -m bench.modinfo_kmod [-k K ...] [--json]

Every module of each kernel, 5.10, 6.1 and the newest on this disk where none is given, is shown by both. kmod's
is that of the kernel's own suite, run in its toolchain root. The exit code is 1 where something differs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from lkm import cli, ko, sandbox
from lkm.cli.modinfo import text_of
from lkm.kernels import store
from lkm.kernels.kernel import Kernel, Toolchain
from lkm.sandbox import Bind

__all__ = ["FORMS", "Shown", "differing", "kmods", "modules_of", "ours"]

FORMS: tuple[tuple[str, ...], ...] = (
    (),
    ("-0",),
    ("-p",),
    ("-0", "-p"),
    ("-F", "alias"),
    ("-F", "depends"),
    ("-F", "filename"),
    ("-F", "license"),
    ("-F", "parm"),
    ("-F", "parmtype"),
    ("-F", "signer"),
    ("-0", "-F", "signature"),
)
"""The flags with which each file is shown."""

INSIDE = PurePosixPath("/tmp/modules")
"""Where the sandbox shows the files, and what both sides call their directory."""


@dataclass(frozen=True)
class Shown:
    """What one kernel's modules came to: files, texts compared, bytes of them, and the pairs that differ."""

    kernel: str
    kmod: str
    files: int
    texts: int
    bytes: int
    different: tuple[str, ...]
    seconds: float


def kmods(tools: Toolchain, home: Path, files: Sequence[Path], flags: Sequence[str]) -> bytes:
    """What the suite's modinfo prints for files below `home`, all in one process."""
    names = [str(INSIDE / file.relative_to(home)) for file in files]
    words = ["/sbin/modinfo", *flags, *names]
    argv = sandbox.argv(tools.root, words, binds=[Bind(home, str(INSIDE))])
    done = subprocess.run(argv, capture_output=True, timeout=300, check=False)
    if done.returncode:
        raise RuntimeError(f"modinfo ended with {done.returncode}: {done.stderr.decode()[-500:]}")
    return done.stdout


@cache
def facts_of(path: Path) -> ko.KernelObject:
    """The file's facts, read once for all flags."""
    return ko.read(path)


def ours(home: Path, files: Sequence[Path], flags: Sequence[str]) -> bytes:
    """What `lkm modinfo` prints for the same files, one after the other."""
    arguments = cli.parse("modinfo", [*flags, "FILE"])
    texts = (
        text_of(facts_of(file), str(INSIDE / file.relative_to(home)), arguments) for file in files
    )
    return "".join(texts).encode("utf-8", "surrogateescape")


def differing(
    tools: Toolchain, home: Path, files: Sequence[Path], flags: Sequence[str]
) -> list[Path]:
    """The files of which the two texts are not the same, found by halves."""
    if not files or ours(home, files, flags) == kmods(tools, home, files, flags):
        return []
    if len(files) == 1:
        return list(files)
    middle = len(files) // 2
    return [
        each
        for half in (files[:middle], files[middle:])
        for each in differing(tools, home, half, flags)
    ]


def modules_of(kernel: Kernel) -> tuple[Path, list[Path]]:
    """The directory of a kernel's own modules, and all of them, sorted."""
    home = kernel.modules_dir or kernel.build_dir_on_host
    found = (path for path in home.rglob("*.ko*") if path.is_file() and not path.is_symlink())
    return home, sorted(
        path for path in found if path.name.endswith((".ko", ".ko.xz", ".ko.zst", ".ko.gz"))
    )


def compared(kernel: Kernel) -> Shown:
    """Every module of a kernel with every set of flags."""
    started = time.monotonic()
    home, files = modules_of(kernel)
    facts_of.cache_clear()
    different = [
        f"{' '.join(('modinfo', *flags))} {path.name}"
        for flags in FORMS
        for path in differing(kernel.toolchain, home, files, flags)
    ]
    return Shown(
        kernel=kernel.release,
        kmod=version_of(kernel.toolchain),
        files=len(files),
        texts=len(files) * len(FORMS),
        bytes=sum(len(ours(home, files, flags)) for flags in FORMS),
        different=tuple(different),
        seconds=time.monotonic() - started,
    )


def version_of(tools: Toolchain) -> str:
    """`kmod version 34`."""
    argv = sandbox.argv(tools.root, ["/sbin/modinfo", "--version"])
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.splitlines()[0]


def chosen(names: Sequence[str]) -> list[Kernel]:
    """The kernels of these names; without names 5.10, 6.1 and the newest that is on this disk."""
    if names:
        return [store.get(name) for name in names]
    return [store.get("5.10"), store.get("6.1"), store.installed()[-1]]


def main() -> int:
    """Compare, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("-k", "--kernel", action="append", default=[])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = [compared(kernel) for kernel in chosen(arguments.kernel)]
    if arguments.json:
        print(json.dumps([vars(each) for each in found]))
    else:
        for each in found:
            report(each)
    return 1 if any(each.different for each in found) else 0


def report(shown: Shown) -> None:
    """One line a kernel, and one for each text that differs."""
    print(
        f"{shown.kernel}, {shown.kmod}: {shown.files} modules, {shown.texts} texts of"
        f" {shown.bytes / 1e6:.1f} MB, {len(shown.different)} differ, {shown.seconds:.0f} s"
    )
    for each in shown.different:
        print(f"  {each}")


if __name__ == "__main__":
    sys.exit(main())
