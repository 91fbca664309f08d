"""Starting QEMU: its ends of the connections are made first and handed over, so nothing waits and hopes."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from lkm import proc
from lkm.vm import qemu
from lkm.vm.channel import Channel
from lkm.vm.link import Link
from lkm.vm.qmp import Qmp

__all__ = ["Started", "load_state", "share_memory", "start"]


class Started:
    """A QEMU that has just been started, and the three connections to it."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        socks: dict[str, socket.socket],
        stderr: BinaryIO,
        *,
        paused: bool,
    ) -> None:
        self.paused = paused
        self.process = process
        self.stderr = stderr
        self.watch = Channel(socks["watch"])
        self.session = Channel(socks["session0"])
        self.qmp = Qmp(socks["qmp"])
        self.handed_over = False

    def link(self) -> Link:
        """Hand everything over to a Link, which closes it."""
        self.handed_over = True
        return Link(
            self.session,
            number=0,
            qmp=self.qmp,
            watch=self.watch,
            process=self.process,
            stderr=self.stderr,
            paused=self.paused,
        )

    def close(self) -> None:
        """End QEMU."""
        for end in (self.session, self.watch, self.qmp):
            end.close()
        proc.end(self.process)
        self.stderr.close()


@contextlib.contextmanager
def start(
    config: qemu.Config, ram: Path, *, boot: tuple[Path, Path] | None = None
) -> Iterator[Started]:
    """Start QEMU; it is ended on leaving unless it was handed over to a Link.

    With `boot`, (image, initramfs), the guest boots and its memory is the file `ram`; without, it waits
    for a state to load and has a private copy of the file.
    """
    ours: dict[str, socket.socket] = {}
    theirs: dict[str, socket.socket] = {}
    for name in ("qmp", "watch", "session0"):
        ours[name], theirs[name] = socket.socketpair()
    stderr = os.fdopen(os.memfd_create("qemu-stderr"), "r+b")
    try:
        ends = {name: sock.fileno() for name, sock in theirs.items()}
        image, initramfs = boot or (None, None)
        launch = qemu.Launch(ram, boot is not None, ends, image=image, initramfs=initramfs)
        process = proc.popen(
            qemu.argv(config, launch), stderr=stderr, pass_fds=tuple(ends.values())
        )
    except BaseException:
        for sock in ours.values():
            sock.close()
        stderr.close()
        raise
    finally:
        for sock in theirs.values():
            sock.close()
    started = Started(process, ours, stderr, paused=boot is None)
    try:
        yield started
    finally:
        if not started.handed_over:
            started.close()


def share_memory(qmp: Qmp) -> None:
    """Leave the memory, which is a file of its own, out of the migration stream."""
    qmp.send(
        "migrate-set-capabilities",
        capabilities=[{"capability": "x-ignore-shared", "state": True}],
    )


def load_state(qmp: Qmp, state: Path) -> None:
    """Tell QEMU to load a frozen state, without waiting; the guest goes on at `cont`."""
    share_memory(qmp)
    with state.open("rb") as source:
        qmp.send("getfd", fd=source.fileno(), fdname="state")
    qmp.send("migrate-incoming", uri="fd:state")
