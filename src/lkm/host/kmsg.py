"""The running kernel's log, record by record (Documentation/ABI/testing/dev-kmsg)."""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Iterator
from pathlib import Path

from lkm.errors import HostError
from lkm.log import Record, lost, parse_kmsg

__all__ = ["Kmsg"]

MARK = "lkm: mark"
"""What is written to the log to close an open line; it is left out of every log."""

_RECORD_MAX = 8192
"""The longest record in bytes: CONSOLE_EXT_LOG_MAX of kernel/printk/printk.c (5.10); less since 6.4."""
_LIMIT = 16 << 20
"""Bytes of one answer: a kernel that logs without end would keep it from ending."""


class Kmsg:
    """A place in the log, at its end when opened. Raises HostError where the log cannot be read."""

    def __init__(self, path: Path = Path("/dev/kmsg")) -> None:
        self._path = path
        self._raw = bytearray()
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise HostError(
                f"the kernel's log cannot be read: {path}: {error.strerror}",
                hint="sudo lkm dmesg --host",
            ) from error
        os.lseek(self._fd, 0, os.SEEK_END)

    def fileno(self) -> int:
        """The descriptor, for poll: readable where there is a new record."""
        return self._fd

    def close(self) -> None:
        """Close it."""
        os.close(self._fd)

    def begin(self) -> None:
        """Leave out all that was: the next `take` is of what comes now."""
        os.lseek(self._fd, 0, os.SEEK_END)
        self._raw.clear()
        self._mark()
        self.collect()

    def collect(self) -> None:
        """Read what has come, so that the kernel's ring does not drop it."""
        while len(self._raw) < _LIMIT and (record := self._read()):
            self._raw += record

    def take(self) -> tuple[tuple[Record, ...], int]:
        """The kernel's own records since `begin`, and how many were lost."""
        self._mark()
        self.collect()
        records = parse_kmsg(bytes(self._raw))
        self._raw.clear()
        # Programs write to the log, too (facility 1 and more): the service manager, our own marks.
        return tuple(record for record in records if record.facility == 0), lost(records)

    def read(self, *, whole: bool = False) -> list[Record]:
        """Every record, programs' too, since the last call; with `whole` from the oldest."""
        if whole:
            os.lseek(self._fd, 0, os.SEEK_SET)
            self._raw.clear()
        self.collect()
        records = parse_kmsg(bytes(self._raw))
        self._raw.clear()
        return [record for record in records if record.text != MARK]

    def follow(self) -> Iterator[Record]:
        """The records as they come, without end."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        while True:
            yield from self.read()
            poll.poll()

    def _read(self) -> bytes:
        """One record; empty where there is none yet."""
        while True:
            try:
                return os.read(self._fd, _RECORD_MAX)
            except BlockingIOError:
                return b""
            except OSError as error:
                # Overrun: the ring has dropped what came next, which shows in the sequence numbers.
                if error.errno != errno.EPIPE:
                    raise

    def _mark(self) -> None:
        """Close a line that was printed without its newline.

        It stays open for pr_cont(), and no reader is shown it before the next record (prb_reserve_in_last()
        of kernel/printk/printk_ringbuffer.c, 5.10 and later).
        """
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            return
        try:
            os.write(fd, f"<7>{MARK}\n".encode())
        except OSError:
            return
        finally:
            os.close(fd)
