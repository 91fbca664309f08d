"""Files that a guest has besides lkm's own, packed into its initramfs: packages, a program to test."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lkm.vm.initramfs import DIRECTORIES, Entry

__all__ = ["Rootfs", "entries"]


@dataclass(frozen=True)
class Rootfs:
    """Directories whose files the guest finds below `/`; those of the later ones win.

    `name` says what it is for: a frozen machine of a rootfs that bears the same name and has another
    `identity`, a digest of the content, is outdated. In the guest every file is root's, and in memory.
    """

    name: str
    directories: tuple[Path, ...]
    identity: str

    def with_more(self, other: Rootfs) -> Rootfs:
        """Both; the other's files win."""
        return Rootfs(
            f"{self.name} {other.name}",
            (*self.directories, *other.directories),
            f"{self.identity}-{other.identity}",
        )


def entries(rootfs: Rootfs) -> Iterator[Entry]:
    """Every directory, file and link of a rootfs, parents first. What is none of these is left out.

    A link of `/` where lkm's guest has a directory is left out: `bin`, in Debian a link to usr/bin, holds
    busybox there, and PATH leads to both.
    """
    for directory in rootfs.directories:
        for path in _below(directory):
            name = str(path.relative_to(directory))
            if not (path.is_symlink() and name in DIRECTORIES):
                yield from _entry(path, name)


def _below(directory: Path) -> Iterator[Path]:
    for entry in sorted(directory.iterdir()):
        yield entry
        if entry.is_dir() and not entry.is_symlink():
            yield from _below(entry)


def _entry(path: Path, name: str) -> Iterator[Entry]:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        yield Entry(name, mode, os.fsencode(path.readlink()))
    elif stat.S_ISDIR(mode):
        yield Entry(name, mode)
    elif stat.S_ISREG(mode):
        yield Entry(name, mode, path.read_bytes())
