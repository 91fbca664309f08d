"""Files and trees into the guest and out of it, through memory that both see."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from lkm.errors import UsageError
from lkm.vm.file import GuestFile
from lkm.vm.path import GuestPath
from lkm.vm.qemu import WINDOW_SIZE
from lkm.vm.wire import Op

if TYPE_CHECKING:
    from lkm.vm.machine import Machine

__all__ = ["get", "put"]

_PART = 32 << 10
"""Bytes that go through the port at once."""
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


def put(machine: Machine, source: Path, target: GuestPath) -> None:
    """Copy a file, a link or a whole tree into the guest, with permissions; `target` is its name there.

    Raises UsageError for what cannot be read here, OSError for what the guest refuses.
    """
    try:
        kind = source.lstat().st_mode
        if stat.S_ISLNK(kind):
            target.unlink(missing_ok=True)
            target.symlink_to(str(source.readlink()))
        elif stat.S_ISDIR(kind):
            target.mkdir(mode=stat.S_IMODE(kind), parents=True, exist_ok=True)
            for entry in sorted(source.iterdir()):
                put(machine, entry, target / entry.name)
        elif stat.S_ISREG(kind):
            fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
            try:
                _put_file(machine, fd, str(target), stat.S_IMODE(kind))
                target.chmod(stat.S_IMODE(kind))
            finally:
                os.close(fd)
        else:
            raise UsageError(f"cannot put {source}: it is not a file, a link or a directory")
    except (FileNotFoundError, PermissionError) as error:
        if error.filename in (source, str(source)):
            raise UsageError(f"cannot put {source}: {error.strerror}") from error
        raise


def get(machine: Machine, source: GuestPath, target: Path) -> None:
    """Copy a file, a link or a whole tree out of the guest, with permissions; `target` is its name here.

    Raises OSError for what either side refuses, UsageError for what is no file, link or directory.
    """
    kind = source.lstat().st_mode
    if stat.S_ISLNK(kind):
        target.unlink(missing_ok=True)
        target.symlink_to(source.readlink())
    elif stat.S_ISDIR(kind):
        target.mkdir(exist_ok=True)
        for entry in source.iterdir():
            get(machine, entry, target / entry.name)
    elif stat.S_ISREG(kind):
        _get_file(machine, str(source), target)
    else:
        raise UsageError(f"cannot get {source}: it is not a file, a link or a directory")
    if not stat.S_ISLNK(kind):
        target.chmod(stat.S_IMODE(kind))


def _put_file(machine: Machine, fd: int, path: str, mode: int) -> None:
    with machine.window() as window, GuestFile(machine, path, _WRITE, permissions=mode) as file:
        while size := os.readv(fd, [window]):
            if not _through_window(file, Op.PUT, size):
                for at in range(0, size, _PART):
                    _write_all(file, bytes(window[at : min(at + _PART, size)]))


def _get_file(machine: Machine, path: str, target: Path) -> None:
    with (
        target.open("wb") as into,
        machine.window() as window,
        GuestFile(machine, path, os.O_RDONLY) as file,
    ):
        while size := _through_window(file, Op.GET, WINDOW_SIZE):
            into.write(window[:size])
        while data := file.read(_PART):
            into.write(data)


def _through_window(file: GuestFile, op: Op, size: int) -> int:
    """How many bytes it were: none at the end, and in a kernel that has no /dev/mem and so no window."""
    try:
        return file.bulk(op, size)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return 0


def _write_all(file: GuestFile, data: bytes) -> None:
    while data:
        data = data[file.write(data) or 0 :]
