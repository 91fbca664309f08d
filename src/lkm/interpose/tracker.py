"""`lkm_interpose`, the kernel module that the stubs ask: built once for a kernel, kept by its content."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lkm import kbuild
from lkm import source as sources
from lkm.interpose.rewrite import GATE
from lkm.kernels.catalog import series_of
from lkm.kernels.kernel import Kernel
from lkm.paths import cache_dir
from lkm.progress import SILENT, Progress

__all__ = ["NAME", "Tracker", "arguments", "tracker_for"]

NAME = "lkm_interpose"
_SOURCE = Path(__file__).parent / "module"


@dataclass(frozen=True)
class Tracker:
    """The built module: the file to load, and the version of what it exports (None without modversions).

    `series` is the kernel's: (6, 12).
    """

    image: Path
    gate_crc: int | None
    series: tuple[int, int]


def tracker_for(kernel: Kernel, *, progress: Progress = SILENT) -> Tracker:
    """The module for this kernel, built where it is not on this disk.

    Raises BuildError with the compiler's words, HostError where this computer cannot build.
    """
    output = cache_dir() / "interpose"
    built = kbuild.build(sources.find(_SOURCE), kernel, progress=progress, output=output)
    made = built.objects[NAME]
    crc = next((e.crc for e in made.kernel_object.exports if e.name == GATE), None)
    return Tracker(made.stripped, crc, _series(kernel.release))


def _series(release: str) -> tuple[int, int]:
    major, minor = (*series_of(release).split("."), "0")[:2]
    return int(major), int(minor)


def arguments(target: str, *, pages: bool, fail: int = 0, record: bool = False) -> str:
    """The parameters with which it watches the module `target`."""
    words = [f"target={target}"]
    if pages:
        words.append("pages=1")
    if fail:
        words.append(f"fail={fail}")
    if record:
        words.append("record=1")
    return " ".join(words)
