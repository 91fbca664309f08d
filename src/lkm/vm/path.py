"""A name in the guest's file system, used as pathlib's."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from lkm.vm.link import told
from lkm.vm.wire import Op

if TYPE_CHECKING:
    from lkm.vm.machine import Machine

__all__ = ["GuestPath", "GuestStat", "creation"]

_MKDIR, _UNLINK, _RMDIR, _RENAME, _CHMOD, _SYMLINK = range(6)


def creation(path: str) -> int:
    """O_CREAT where a file that is not there may be made: not among the devices, where it would hide a mistake.

    /dev/shm and the like are file systems of their own.
    """
    parts = PurePosixPath(path).parts
    is_device = parts[1:2] == ("dev",) and not set(parts[2:3]) & _NO_DEVICES
    return 0 if is_device else os.O_CREAT


_NO_DEVICES = {"shm", "mqueue", "hugepages"}


class GuestStat(NamedTuple):
    """What stat(2) says, under os.stat_result's names; times in nanoseconds."""

    st_mode: int
    st_ino: int
    st_dev: int
    st_nlink: int
    st_uid: int
    st_gid: int
    st_size: int
    st_atime_ns: int
    st_mtime_ns: int
    st_ctime_ns: int
    st_rdev: int


class GuestPath:
    """An absolute path in a guest. What the guest refuses is OSError with its errno."""

    def __init__(self, machine: Machine, path: str | os.PathLike[str]) -> None:
        self._machine = machine
        self._path = PurePosixPath("/", path)

    def __str__(self) -> str:
        return str(self._path)

    def __fspath__(self) -> str:
        return str(self._path)

    def __repr__(self) -> str:
        return f"GuestPath({str(self._path)!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, GuestPath):
            return NotImplemented
        return self._path == other._path and self._machine is other._machine

    def __hash__(self) -> int:
        return hash(self._path)

    def __truediv__(self, other: str | os.PathLike[str]) -> GuestPath:
        return GuestPath(self._machine, self._path / other)

    @property
    def name(self) -> str:
        """Its last part."""
        return self._path.name

    @property
    def parent(self) -> GuestPath:
        """The directory that it is in."""
        return GuestPath(self._machine, self._path.parent)

    def read_bytes(self) -> bytes:
        """The whole file."""
        return self._machine.read(str(self))

    def read_text(self, encoding: str = "utf-8") -> str:
        """The whole file as text."""
        return self.read_bytes().decode(encoding)

    def write_bytes(self, data: bytes) -> int:
        """Write it with one write(2), as a sysfs attribute wants it.

        A file that is not there is made, but not in /dev, where a driver makes them: that is FileNotFoundError.
        """
        flags = os.O_WRONLY | os.O_TRUNC | creation(str(self))
        self._machine.write(str(self), data, flags=flags)
        return len(data)

    def write_text(self, text: str, encoding: str = "utf-8") -> int:
        """Write text with one write(2), and return its length in characters; see `write_bytes`."""
        self.write_bytes(text.encode(encoding))
        return len(text)

    def stat(self) -> GuestStat:
        """stat(2)."""
        return self._stat(itself=False)

    def lstat(self) -> GuestStat:
        """lstat(2): of a link itself."""
        return self._stat(itself=True)

    def exists(self) -> bool:
        """Whether there is such a file, of any type."""
        return self._mode() is not None

    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self._mode() or 0)

    def is_dir(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self._mode() or 0)

    def is_char_device(self) -> bool:
        """Whether it is a character device."""
        return stat.S_ISCHR(self._mode() or 0)

    def is_block_device(self) -> bool:
        """Whether it is a block device."""
        return stat.S_ISBLK(self._mode() or 0)

    def iterdir(self) -> Iterator[GuestPath]:
        """What the directory holds, sorted by name."""
        for _, name in self._machine.list_dir(str(self)):
            yield self / name

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Make the directory, with `parents` those above it too."""
        try:
            self._change(_MKDIR, mode)
        except FileNotFoundError:
            if not parents or self.parent == self:
                raise
            self.parent.mkdir(parents=True, exist_ok=True)
            self._change(_MKDIR, mode)
        except FileExistsError:
            if not exist_ok or not self.is_dir():
                raise

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the file or link."""
        try:
            self._change(_UNLINK)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def rmdir(self) -> None:
        """Remove the empty directory."""
        self._change(_RMDIR)

    def rename(self, target: str | os.PathLike[str]) -> GuestPath:
        """Give it another name; returns that."""
        renamed = GuestPath(self._machine, target)
        self._change(_RENAME, 0, str(renamed))
        return renamed

    def chmod(self, mode: int) -> None:
        """Set its permissions."""
        self._change(_CHMOD, mode)

    def symlink_to(self, target: str) -> None:
        """Make it a symbolic link to `target`."""
        self._change(_SYMLINK, 0, target)

    def readlink(self) -> str:
        """What the link says."""
        return os.fsdecode(
            self._machine.ask(Op.READLINK, self._name(), "readlink", str(self)).value
        )

    def _mode(self) -> int | None:
        try:
            return self.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _stat(self, *, itself: bool) -> GuestStat:
        payload = struct.pack("<I", itself) + self._name()
        reply = self._machine.ask(Op.STAT, payload, "stat", str(self))
        return GuestStat(*told("<11q", reply.value))

    def _change(self, what: int, mode: int = 0, second: str | None = None) -> None:
        payload = struct.pack("<II", what, mode) + self._name()
        if second is not None:
            payload += os.fsencode(second) + b"\0"
        self._machine.ask(Op.CHANGE, payload, "change", str(self))

    def _name(self) -> bytes:
        return os.fsencode(str(self)) + b"\0"
