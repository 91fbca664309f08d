"""Packages of a Debian suite, unpacked into a directory that a guest can have as its files."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lkm import atomic, paths
from lkm.arch import X86_64, Arch
from lkm.kernels import toolchain
from lkm.progress import SILENT, Progress

if TYPE_CHECKING:
    from lkm.kernels import apt

__all__ = ["Unpacked", "ensure"]

SCHEMA = 1


@dataclass(frozen=True)
class Unpacked:
    """A directory with packages and all that they depend on; `identity` changes when one of them does."""

    root: Path
    identity: str


def ensure(
    suite: str, packages: Sequence[str], *, arch: Arch = X86_64, progress: Progress = SILENT
) -> Unpacked:
    """`packages` of `suite` with their dependencies, fetched first where they are not on this disk.

    Verified by apt and unpacked as the calling user; no maintainer script runs, and documentation is left
    out. Raises HostError without network or space, and for a package that the suite does not have.
    """
    home = _home(suite, packages, arch)
    if found := _find(home):
        return found
    with atomic.exclusive(home, f"the rootfs {home.name}", progress=progress):
        atomic.sweep(home.parent)
        return _find(home) or _make(home, suite, packages, arch, progress)


def _home(suite: str, packages: Sequence[str], arch: Arch) -> Path:
    words = " ".join([arch.debian, *sorted(set(packages))])
    key = hashlib.sha256(words.encode()).hexdigest()[:12]
    return paths.cache_dir() / "rootfs" / f"{suite}-{key}"


def _find(home: Path) -> Unpacked | None:
    try:
        meta = json.loads((home / "meta.json").read_text())
        whole = meta["schema"] == SCHEMA and (home / "root/usr").is_dir()
        return Unpacked(home / "root", str(meta["identity"])) if whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _make(
    home: Path, suite: str, packages: Sequence[str], arch: Arch, progress: Progress
) -> Unpacked:
    from lkm.kernels import apt, downloads

    def make(world: apt.World) -> Unpacked:
        wanted = apt.closure(world, packages)
        what = f"the rootfs {home.name}"
        with downloads.area(home) as archives, atomic.making(home, what) as partial:
            progress.step(f"fetching {len(wanted)} packages of Debian {suite}")
            files = downloads.get(world, wanted, archives, progress=progress)
            progress.step(f"unpacking {len(wanted)} packages of Debian {suite}")
            _fill(partial / "root", files, progress)
            names = sorted(f"{package.filename} {package.digest}" for package in wanted)
            identity = hashlib.sha256("\n".join(names).encode()).hexdigest()
            meta = {"schema": SCHEMA, "identity": identity, "packages": names}
            (partial / "meta.json").write_text(json.dumps(meta, indent=1))
        return Unpacked(home / "root", identity)

    return apt.retrying(apt.world(suite, arch), make, progress)


def _fill(root: Path, files: Sequence[Path], progress: Progress) -> None:
    root.mkdir()
    toolchain.unpack(toolchain.links_first(files), root, progress=progress)
    for name in toolchain.USELESS:
        shutil.rmtree(root / "usr/share" / name, ignore_errors=True)
