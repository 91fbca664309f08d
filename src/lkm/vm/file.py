"""A guest's file, as Python's own: io.RawIOBase over system calls that the guest makes."""

from __future__ import annotations

import contextlib
import io
import mmap
import os
import select
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from lkm.closing import Closing
from lkm.errors import LkmError
from lkm.machine import MachineState
from lkm.vm.calls import call, number
from lkm.vm.link import Reply
from lkm.vm.wire import Op

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from lkm.vm.machine import Machine

__all__ = ["GuestFile", "GuestMap"]

_CURRENT = 0xFFFF_FFFF_FFFF_FFFF
_READ_MOST = 16 << 20


class GuestFile(io.RawIOBase):
    """An open file of the guest, one system call a method, each with the guest's errno as OSError.

    It has a process of its own in the guest, so a read that blocks there blocks nobody else; two threads
    that use one GuestFile take turns. `timeout` is in seconds, for each call; a call that takes longer
    raises ModuleFailure with the place in the kernel, and the file is closed by force. It has no
    descriptor on this computer: `fileno()` raises UnsupportedOperation.
    """

    def __init__(
        self,
        machine: Machine,
        path: str,
        flags: int,
        *,
        permissions: int = 0o666,
        timeout: float | None = None,
    ) -> None:
        super().__init__()
        self.name = path
        self.timeout = timeout
        self._machine = machine
        self._access = flags & os.O_ACCMODE
        self._talk = machine.link.mux.conversation()
        payload = struct.pack("<II", flags, permissions) + os.fsencode(path) + b"\0"
        try:
            self._talk.pid = self._number(Op.OPEN, payload, "open")
        except BaseException:
            self._talk.close()
            super().close()
            raise

    def fileno(self) -> int:
        """Raises UnsupportedOperation: fcntl, select and mmap of this computer have nothing to act on."""
        raise io.UnsupportedOperation(
            f"{self.name} is a guest's file and has no descriptor here: use its own ioctl(), poll(), mmap()"
        )

    def readable(self) -> bool:
        """Whether it was opened for reading."""
        return self._access in (os.O_RDONLY, os.O_RDWR)

    def writable(self) -> bool:
        """Whether it was opened for writing."""
        return self._access in (os.O_WRONLY, os.O_RDWR)

    def seekable(self) -> bool:
        """Whether lseek(2) works on it."""
        try:
            self.tell()
        except OSError:
            return False
        return True

    def readinto(self, buffer: Buffer, /) -> int | None:
        """One read(2); the number of bytes, 0 at the end, None where it would block (EAGAIN)."""
        view = memoryview(buffer).cast("B")
        data = self._read(_CURRENT, min(len(view), _READ_MOST))
        if data is None:
            return None
        view[: len(data)] = data
        return len(data)

    def write(self, data: Buffer, /) -> int | None:
        """One write(2); the number of bytes that it took, None where it would block (EAGAIN)."""
        return self._write(_CURRENT, data)

    def pread(self, size: int, offset: int) -> bytes:
        """pread(2): at most `size` bytes from `offset` on."""
        return self._read(offset, size) or b""

    def pwrite(self, data: Buffer, offset: int) -> int:
        """pwrite(2): the number of bytes written at `offset`."""
        return self._write(offset, data) or 0

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """lseek(2): the new position."""
        return self._number(Op.SEEK, struct.pack("<qI", offset, whence), "seek")

    def tell(self) -> int:
        """The position, by lseek(2)."""
        return self.seek(0, os.SEEK_CUR)

    def ioctl(self, request: int, argument: int | Buffer = 0) -> int | bytes:
        """ioctl(2), as fcntl.ioctl() has it.

        With a number, what the call returned. With bytes, the buffer as the driver left it. With a
        bytearray or another writable buffer, that is changed in place and what the call returned is given.
        """
        if isinstance(argument, int):
            rest = struct.pack("<QIQ", request, 0, argument & _CURRENT)
            return number(self._ioctl(request, rest))
        view = memoryview(argument).cast("B")
        reply = self._ioctl(request, struct.pack("<QI", request, 1) + view)
        data = b"".join(reply.data)
        if view.readonly:
            return data
        view[:] = data
        return number(reply)

    def _ioctl(self, request: int, payload: bytes) -> Reply:
        return self._call(
            Op.IOCTL, payload, f"ioctl {request:#x} on", note=f" (ioctl {request:#x})"
        )

    def poll(self, events: int = select.POLLIN, timeout: float | None = 0.0) -> int:
        """poll(2) for `timeout` seconds of the guest's time (None: for ever): the events that are there."""
        limit = -1 if timeout is None else round(timeout * 1000)
        return self._number(Op.POLL, struct.pack("<Ii", events, limit), "poll")

    def mmap(
        self,
        length: int,
        *,
        offset: int = 0,
        prot: int = mmap.PROT_READ | mmap.PROT_WRITE,
        flags: int = mmap.MAP_SHARED,
    ) -> GuestMap:
        """Map `length` bytes of it (mmap(2)); one mapping a file at a time."""
        self._call(Op.MAP, struct.pack("<QQII", length, offset, prot, flags), "mmap")
        return GuestMap(self._call, length)

    def bulk(self, op: Op, size: int) -> int:
        """Op.PUT or Op.GET `size` bytes between the file and the machine's window; how many it were."""
        return self._number(op, struct.pack("<Q", size), "copy")

    def close(self) -> None:
        """close(2), with its errno. Can be called twice."""
        if self.closed:
            return
        try:
            super().close()
            if self._talk.ended is None and self._machine.state is MachineState.RUNNING:
                self._call(Op.FILE_CLOSE, b"", "close")
        finally:
            self._talk.close()

    def __del__(self) -> None:
        with contextlib.suppress(LkmError, OSError, AttributeError):
            self._talk.close()

    def __repr__(self) -> str:
        return f"<GuestFile {self.name!r}{' (closed)' if self.closed else ''}>"

    def _read(self, position: int, size: int) -> bytes | None:
        try:
            reply = self._call(Op.FILE_READ, struct.pack("<QI", position, size), "read")
        except BlockingIOError:
            return None
        return b"".join((*reply.data, reply.value))

    def _write(self, position: int, data: Buffer) -> int | None:
        payload = struct.pack("<Q", position) + memoryview(data).cast("B")
        try:
            return self._number(Op.FILE_WRITE, payload, "write")
        except BlockingIOError:
            return None

    def _number(self, op: Op, payload: bytes, doing: str) -> int:
        return number(self._call(op, payload, doing))

    def _call(self, op: Op, payload: bytes, doing: str, *, note: str = "") -> Reply:
        if self.closed and op != Op.FILE_CLOSE:
            raise ValueError(f"{doing} {self.name}: the file is closed")
        self._machine.require_running()
        return call(
            self._machine,
            self._talk,
            op,
            payload,
            doing=f"{doing} {self.name}",
            timeout=self.timeout,
            path=self.name,
            note=note,
        )


class GuestMap(Closing):
    """Memory of the guest that a file is mapped to; a fault in it is the guest's SIGBUS, ModuleFailure here."""

    def __init__(self, request: Callable[[Op, bytes, str], Reply], length: int) -> None:
        self._request = request
        self._length = length
        self._mapped = True

    def __len__(self) -> int:
        return self._length

    def read(self, offset: int = 0, size: int | None = None) -> bytes:
        """`size` bytes from `offset` on; to the end, for None."""
        size = self._length - offset if size is None else size
        reply = self._request(Op.PEEK, struct.pack("<QQ", offset, size), "read the mapping of")
        return b"".join(reply.data)

    def write(self, data: Buffer, offset: int = 0) -> None:
        """Put bytes there."""
        payload = struct.pack("<Q", offset) + memoryview(data).cast("B")
        self._request(Op.POKE, payload, "write to the mapping of")

    def __getitem__(self, where: slice) -> bytes:
        start, stop, step = where.indices(self._length)
        return self.read(start, max(0, stop - start))[::step]

    def __setitem__(self, where: slice, data: Buffer) -> None:
        start, stop, step = where.indices(self._length)
        if step != 1 or len(memoryview(data)) != stop - start:
            raise ValueError("a slice of a mapping takes as many bytes as it has")
        self.write(data, start)

    def close(self) -> None:
        """munmap(2). Can be called twice."""
        if self._mapped:
            self._mapped = False
            self._request(Op.UNMAP, b"", "unmap")
