"""`lkm_interpose`, the kernel module that the stubs ask: built once for a kernel, kept by its content."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from lkm import atomic
from lkm.kernels.catalog import series_of
from lkm.kernels.kernel import Kernel
from lkm.paths import cache_dir
from lkm.progress import SILENT, Progress
from lkm.vm.rootfs import Rootfs

__all__ = ["BUILT_BY", "NAME", "Tracker", "tracker_for"]

NAME = "lkm_interpose"
BUILT_BY = 2
"""kbuild's VERSION, without an import: this runs while no QEMU has been started."""
_SOURCE = Path(__file__).parent / "module"
_UNCHANGING = ("debian", "debug")
"""Providers whose kernels never change under one identity, as a tree does."""


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
    record = _record(kernel)
    try:
        crc, identity = json.loads(record.read_text())
    except (OSError, ValueError):
        return _built(kernel, record, progress)
    image = _image(identity)
    if kernel.provider not in _UNCHANGING or not image.is_file():
        return _built(kernel, record, progress)
    return Tracker(image, crc, _series(kernel.release), _rootfs(identity))


def _record(kernel: Kernel) -> Path:
    """Where it is written down what was built last of the same input."""
    digest = hashlib.sha256(f"{BUILT_BY} {kernel.identity} {kernel.toolchain.identity}".encode())
    for path in sorted(_SOURCE.iterdir()):
        if path.is_file():
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return cache_dir() / "interpose" / "known" / digest.hexdigest()[:24]


def _built(kernel: Kernel, record: Path, progress: Progress) -> Tracker:
    from lkm import kbuild
    from lkm import source as sources
    from lkm.interpose.rewrite import GATE

    output = cache_dir() / "interpose"
    built = kbuild.build(sources.find(_SOURCE), kernel, progress=progress, output=output)
    made = built.objects[NAME]
    crc = next((e.crc for e in made.kernel_object.exports if e.name == GATE), None)
    data = made.stripped.read_bytes()
    identity = hashlib.sha256(data).hexdigest()[:24]
    with atomic.disk_errors(NAME):
        for file, content in (
            (_image(identity), data),
            (record, json.dumps([crc, identity]).encode()),
        ):
            file.parent.mkdir(parents=True, exist_ok=True)
            atomic.write(file, content)
    return Tracker(_image(identity), crc, _series(kernel.release), _rootfs(identity))


def _series(release: str) -> tuple[int, int]:
    major, minor = (*series_of(release).split("."), "0")[:2]
    return int(major), int(minor)


def _image(identity: str) -> Path:
    """The file that the agent loads last of those that it boots with."""
    return _home(identity) / "lkm" / "boot" / f"99-{NAME}.ko"


def _home(identity: str) -> Path:
    return cache_dir() / "interpose" / "boot" / identity


def _rootfs(identity: str) -> Rootfs:
    return Rootfs(NAME, (_home(identity),), identity)
