"""Freezing a machine in use: what was prepared in it is then restored as often as wanted.

A restored machine's memory is private to its QEMU, so it goes through a stream into a second QEMU that never
runs, whose memory is a file, and whose state is then frozen as a booted machine's is.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from lkm import atomic
from lkm.errors import MachineError
from lkm.vm import qemu
from lkm.vm.launch import load_state, save_state, start, until_loaded
from lkm.vm.link import Link
from lkm.vm.qmp import QmpClosed, QmpError
from lkm.vm.snapshot import Snapshot
from lkm.vm.stored import snapshots_dir

__all__ = ["freeze"]

_LIMIT = 60.0


def freeze(link: Link, config: qemu.Config, release: str) -> Snapshot:
    """The machine as it is now, which goes on. Its files have no names: they go with `os.close` of `fds`.

    Raises MachineError, and HostError for a full disk.
    """
    link.let_run()
    deadline = time.monotonic() + _LIMIT
    try:
        with atomic.disk_errors("a snapshot"), _unnamed() as stream:
            with link.watch.monitor() as qmp:
                qmp.call("stop", deadline=deadline)
                try:
                    save_state(qmp, stream, with_memory=True, deadline=deadline)
                finally:
                    qmp.send("cont")
            with _unnamed(keep=True) as ram, _unnamed(keep=True) as state:
                os.truncate(ram, config.memory_mib << 20)
                _settle(config, stream, ram, state, deadline)
                return Snapshot(snapshots_dir(), config, release, (ram, state), link.mux.last)
    except (QmpClosed, QmpError, TimeoutError) as error:
        raise MachineError(str(error) or "qemu does not answer", stage="freeze") from error


def _settle(config: qemu.Config, stream: int, ram: int, state: int, deadline: float) -> None:
    """Read the stream into `ram`, and what is not memory into `state`."""
    path = Path(f"/dev/fd/{ram}")
    with start(config, path, share=True, pass_fds=(ram,)) as second:
        os.lseek(stream, 0, os.SEEK_SET)
        load_state(second.qmp, Path(f"/dev/fd/{stream}"), with_memory=True)
        until_loaded(second.qmp, deadline)
        save_state(second.qmp, state, deadline=deadline)


@contextlib.contextmanager
def _unnamed(*, keep: bool = False) -> Iterator[int]:
    """An open file without a name; it stays open with `keep`, unless the block fails."""
    fd = os.open(snapshots_dir(), os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        yield fd
    except BaseException:
        os.close(fd)
        raise
    if not keep:
        os.close(fd)
