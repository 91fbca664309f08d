"""Which processes have a device open, by /proc/PID/fd: what keeps a module from being unloaded."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from lkm.errors import LkmError

if TYPE_CHECKING:
    from lkm.machine import Machine
    from lkm.vm.path import GuestPath

    Place: TypeAlias = Path | GuestPath

__all__ = ["OpenFile", "holders"]

_SYSTEMS_OWN = {1, 4, 5, 229, *range(136, 144)}
"""Majors that every system has open: memory, terminals, hvc (Documentation/admin-guide/devices.txt)."""
_CONTROL = "/dev/vport"
"""The ports by which lkm talks to a guest."""


@dataclass(frozen=True)
class OpenFile:
    """A device that a process has open; `driver` is the name of its major in /proc/devices."""

    pid: int
    comm: str
    path: str
    driver: str = ""

    def is_of(self, module: str) -> bool:
        """Whether the device or its driver is called as the module."""
        names = (os.path.basename(self.path), self.driver)  # noqa: PTH119 - a guest's path
        return any(module in name.replace("-", "_") for name in names)

    def __str__(self) -> str:
        return f"{self.comm} (pid {self.pid}) has {self.path} open"


def holders(machine: Machine, module: str) -> list[OpenFile]:
    """Who has a device of the module open, as far as names tell.

    Where none does and the machine is a guest: who has any device open that not every system has.
    """
    root = machine.root
    found: list[OpenFile] = []
    with contextlib.suppress(LkmError, OSError):
        found = list(_devices(root / "proc"))
    ours = [each for each in found if each.is_of(module)]
    return ours if ours or isinstance(root, Path) else found


def _devices(proc: Place) -> Iterator[OpenFile]:
    drivers = dict(_drivers((proc / "devices").read_text()))
    for process in proc.iterdir():
        if process.name.isdecimal():
            # It may end at any time.
            with contextlib.suppress(OSError):
                comm = (process / "comm").read_text().rstrip("\n")
                for major, path in _opened(process / "fd"):
                    yield OpenFile(int(process.name), comm, path, drivers.get(major, ""))


def _opened(directory: Place) -> Iterator[tuple[int, str]]:
    """Major and path of each device among the open files."""
    for entry in directory.iterdir():
        path = str(entry.readlink())
        if not path.startswith("/") or path.startswith(_CONTROL):
            continue
        status = entry.stat()
        is_device = stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)
        if is_device and os.major(status.st_rdev) not in _SYSTEMS_OWN:
            yield os.major(status.st_rdev), path


def _drivers(text: str) -> Iterator[tuple[int, str]]:
    """Majors and their names of /proc/devices (block/genhd.c and fs/char_dev.c)."""
    for line in text.splitlines():
        number, _, name = line.strip().partition(" ")
        if number.isdecimal():
            yield int(number), name
