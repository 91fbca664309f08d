"""`lkm_interpose`, the kernel module that the stubs ask: built once for a kernel, kept by its content."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from lkm import atomic, kbuild
from lkm import source as sources
from lkm.interpose.rewrite import GATE
from lkm.kernels.catalog import series_of
from lkm.kernels.kernel import Kernel
from lkm.paths import cache_dir
from lkm.progress import SILENT, Progress
from lkm.vm.rootfs import Rootfs

__all__ = ["NAME", "Tracker", "tracker_for"]

NAME = "lkm_interpose"
_SOURCE = Path(__file__).parent / "module"


@dataclass(frozen=True)
class Tracker:
    """The built module: the file to load, and the version of what it exports (None without modversions).

    `series` is the kernel's: (6, 12). A machine with `rootfs` has it loaded when it is frozen.
    """

    image: Path
    gate_crc: int | None
    series: tuple[int, int]
    rootfs: Rootfs


def tracker_for(kernel: Kernel, *, progress: Progress = SILENT) -> Tracker:
    """The module for this kernel, built where it is not on this disk.

    Raises BuildError with the compiler's words, HostError where this computer cannot build.
    """
    output = cache_dir() / "interpose"
    built = kbuild.build(sources.find(_SOURCE), kernel, progress=progress, output=output)
    made = built.objects[NAME]
    crc = next((e.crc for e in made.kernel_object.exports if e.name == GATE), None)
    return Tracker(made.stripped, crc, _series(kernel.release), _rootfs(made.stripped))


def _series(release: str) -> tuple[int, int]:
    major, minor = (*series_of(release).split("."), "0")[:2]
    return int(major), int(minor)


def _rootfs(image: Path) -> Rootfs:
    """Has the agent load the module last of those that it boots with."""
    data = image.read_bytes()
    identity = hashlib.sha256(data).hexdigest()[:24]
    home = cache_dir() / "interpose" / "boot" / identity
    file = home / "lkm" / "boot" / f"99-{NAME}.ko"
    if not file.is_file():
        with atomic.disk_errors(NAME):
            file.parent.mkdir(parents=True, exist_ok=True)
            atomic.write(file, data)
    return Rootfs(NAME, (home,), identity)
