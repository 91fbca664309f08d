"""Addresses decoded by lkm and by binutils' addr2line: every row of every line table, the same answer.

    python -m bench.addr2line [-k K ...] [-v] [--json]

The modules of examples/ and tests/data are built for each kernel, 5.10, 6.1 and the newest on this disk where
none is given, each by its own compiler; some of them once more with compressed debug sections. addr2line is
that of the kernel's toolchain root (`addr2line -fi -j SECTION`). The exit code is 1 where an answer differs.
"""

from __future__ import annotations

import argparse
import json
import posixpath
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from bench.modinfo_kmod import chosen
from lkm import kbuild, sandbox
from lkm import source as sources
from lkm.kernels.kernel import Kernel
from lkm.sandbox import Bind
from lkm.symbolize import DebugInfo, Location, Place

__all__ = ["Compared", "Difference", "answers_of_addr2line", "compare", "differences"]

ROOT = Path(__file__).parents[1]
SOURCES = (
    "examples/getargs", "examples/mulfile", "examples/params", "examples/chardev",
    "examples/procfs", "examples/netdev", "tests/data/clock", "tests/data/modules/crash.c",
    "tests/data/modules/oops_init.c", "tests/data/modules/sleeper.c",
)  # fmt: skip
"""What is built for each kernel: ten sources, eleven modules."""

Answer = tuple[tuple[str, str, int], ...]
"""(function, file, line) from the innermost inlined call to the function itself; line 0 where there is none."""


@dataclass(frozen=True)
class Difference:
    """An address for which the two do not say the same."""

    module: str
    location: Location
    lkm: Answer
    addr2line: Answer


@dataclass(frozen=True)
class Compared:
    """What one kernel's modules came to. Seconds are lkm's, for all addresses, without reading the file."""

    kernel: str
    compiler: str
    modules: int
    addresses: int
    inlined: int
    seconds: float
    different: tuple[Difference, ...]


def differences(kernel: Kernel, path: Path) -> tuple[list[Difference], list[Answer]]:
    """Where the two differ on the rows of a .ko's line tables, and every answer of lkm's."""
    info = DebugInfo(path.read_bytes(), path.name)
    locations = info.line_addresses()
    ours = [_answer(info.places_at(*location)) for location in locations]
    theirs = list(answers_of_addr2line(kernel, path, locations))
    found = [
        Difference(path.name, location, mine, other)
        for location, mine, other in zip(locations, ours, theirs, strict=True)
        if mine != other
    ]
    return found, ours


def _answer(places: Iterable[Place]) -> Answer:
    return tuple((place.function, place.file or "?", place.line or 0) for place in places)


def answers_of_addr2line(
    kernel: Kernel, path: Path, locations: Sequence[Location]
) -> Iterator[Answer]:
    """What addr2line says of locations that are sorted by section."""
    for section, group in groupby(locations, key=lambda location: location.section):
        offsets = "".join(f"{location.offset:#x}\n" for location in group)
        words = ["addr2line", "-a", "-f", "-i", "-j", section, "-e", f"/tmp/objects/{path.name}"]
        argv = sandbox.argv(kernel.toolchain.root, words, binds=[Bind(path.parent, "/tmp/objects")])
        done = subprocess.run(
            argv, input=offsets, capture_output=True, text=True, timeout=120, check=True
        )
        for block in re.split(r"^0x[0-9a-f]+\n", done.stdout, flags=re.MULTILINE)[1:]:
            lines = block.splitlines()
            found = tuple(map(_frame, lines[0::2], lines[1::2]))
            yield () if found == _UNKNOWN else found


_UNKNOWN = (("??", "?", 0),)


def _frame(function: str, place: str) -> tuple[str, str, int]:
    file, _, line = place.partition(" (discriminator")[0].rpartition(":")
    path = posixpath.normpath(file) if file != "??" else "?"
    return (
        function,
        path if line.isdigit() and line != "0" else "?",
        int(line) if line.isdigit() else 0,
    )


def compare(kernel: Kernel, paths: Sequence[Path]) -> Compared:
    """Every address of these modules."""
    different: list[Difference] = []
    addresses = inlined = 0
    seconds = 0.0
    for path in paths:
        found, ours = differences(kernel, path)
        different += found
        addresses += len(ours)
        inlined += sum(len(answer) > 1 for answer in ours)
        seconds += _seconds(path)
    return Compared(
        kernel.release,
        kernel.toolchain.cc,
        len(paths),
        addresses,
        inlined,
        seconds,
        tuple(different),
    )


def _seconds(path: Path) -> float:
    data = path.read_bytes()
    started = time.perf_counter()
    info = DebugInfo(data, path.name)
    for location in info.line_addresses():
        info.places_at(*location)
    return time.perf_counter() - started


def _modules(kernel: Kernel, scratch: Path) -> list[Path]:
    """The sources built for a kernel, and two of them compressed."""
    built: list[Path] = []
    for name in SOURCES:
        source = sources.find(ROOT / name)
        build = kbuild.build(source, kernel, output=scratch / Path(name).name)
        built += [each.path for each in build.objects.values()]
    compressed = []
    for path in built[:2]:
        target = scratch / f"{path.stem}-zlib.ko"
        _objcopy(kernel, path, target)
        compressed.append(target)
    return built + compressed


def _objcopy(kernel: Kernel, path: Path, target: Path) -> None:
    words = ["objcopy", "--compress-debug-sections=zlib", f"/in/{path.name}", f"/out/{target.name}"]
    binds = [Bind(path.parent, "/in"), Bind(target.parent, "/out", writable=True)]
    subprocess.run(sandbox.argv(kernel.toolchain.root, words, binds=binds), timeout=60, check=True)


def main() -> int:
    """Build, compare, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("-k", "--kernel", action="append", default=[])
    parser.add_argument("-v", "--verbose", action="store_true", help="show each difference")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = []
    for kernel in chosen(arguments.kernel):
        with tempfile.TemporaryDirectory(prefix="lkm-addr2line-") as scratch:
            found.append(compare(kernel, _modules(kernel, Path(scratch))))
        if not arguments.json:
            _report(found[-1], arguments.verbose)
    if arguments.json:
        print(json.dumps([{**vars(each), "different": len(each.different)} for each in found]))
    return 1 if any(each.different for each in found) else 0


def _report(found: Compared, verbose: bool) -> None:
    print(
        f"{found.kernel}, {found.compiler}: {found.modules} modules, {found.addresses} addresses,"
        f" {found.inlined} of them inlined, {len(found.different)} differ; lkm took {found.seconds:.2f} s",
        flush=True,
    )
    for each in found.different if verbose else ():
        print(f"  {each.module} {each.location.section}+{each.location.offset:#x}")
        print(f"    lkm       {each.lkm}\n    addr2line {each.addr2line}")


if __name__ == "__main__":
    sys.exit(main())
