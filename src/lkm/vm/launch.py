"""Starting QEMU: its ends of the connections are made first and handed over, so nothing waits and hopes."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from lkm import proc
from lkm.errors import MachineError
from lkm.vm import confine, qemu
from lkm.vm.channel import Channel
from lkm.vm.confine import Confined, Running
from lkm.vm.link import Link
from lkm.vm.qmp import Qmp
from lkm.vm.watch import Watch
from lkm.vm.wire import LOG_CHANNEL

__all__ = ["Started", "load_state", "save_state", "start", "until_loaded"]


class Started:
    """A QEMU that has just been started, and the three connections to it."""

    def __init__(
        self,
        process: Running,
        socks: dict[str, socket.socket],
        stderr: BinaryIO,
        *,
        window: int,
        last_channel: int,
        paused: bool,
    ) -> None:
        self.paused = paused
        self.process = process
        self.stderr = stderr
        self.window = window
        self.last_channel = last_channel
        self.watch = Channel(socks["watch"])
        self.session = Channel(socks["session0"])
        self.mux = socks["mux"]
        self.qmp = Qmp(socks["qmp"])
        self.handed_over = False

    def link(self) -> Link:
        """Hand everything over to a Link, which closes it."""
        self.handed_over = True
        return Link(
            self.session,
            number=0,
            watch=Watch(self.qmp, self.watch),
            mux=self.mux,
            window=self.window,
            last_channel=self.last_channel,
            process=self.process,
            stderr=self.stderr,
            paused=self.paused,
        )

    def close(self) -> None:
        """End QEMU."""
        for end in (self.session, self.watch, self.mux, self.qmp):
            end.close()
        self.process.end()
        self.stderr.close()
        os.close(self.window)


@contextlib.contextmanager
def start(
    config: qemu.Config,
    ram: Path,
    *,
    boot: tuple[Path, Path] | None = None,
    share: bool = False,
    pass_fds: tuple[int, ...] = (),
    last_channel: int = LOG_CHANNEL,
) -> Iterator[Started]:
    """Start QEMU; it is ended on leaving unless it was handed over to a Link.

    With `boot`, (image, initramfs), the guest boots and its memory is the file `ram`; without, it waits
    for a state to load and has a private copy of the file, or with `share` the file itself. `pass_fds` are
    open there too: a file without a name is one as /dev/fd/N. `last_channel` is the last one of its mux that
    was in use when it was frozen.
    """
    ours: dict[str, socket.socket] = {}
    theirs: dict[str, socket.socket] = {}
    for name in ("qmp", "watch", "mux", "session0"):
        ours[name], theirs[name] = socket.socketpair()
    stderr = os.fdopen(os.memfd_create("qemu-stderr"), "r+b")
    window = os.memfd_create("window")
    try:
        os.truncate(window, qemu.WINDOW_SIZE)
        ends = {name: sock.fileno() for name, sock in theirs.items()}
        forked = None if boot else _forked(config, ram, share, stderr.fileno(), window, ends)
        process = forked or _started(config, ram, boot, share, stderr, window, ends, pass_fds)
    except BaseException:
        for sock in ours.values():
            sock.close()
        stderr.close()
        os.close(window)
        raise
    finally:
        for sock in theirs.values():
            sock.close()
    started = Started(
        process, ours, stderr, window=window, last_channel=last_channel, paused=boot is None
    )
    try:
        yield started
    finally:
        if not started.handed_over:
            started.close()


_restored = 0
"""How many machines this process has restored so far."""


def _forked(
    config: qemu.Config, ram: Path, share: bool, stderr: int, window: int, ends: Mapping[str, int]
) -> Running | None:
    """A QEMU that was linked before; None for the first of a process, and where there is no such thing."""
    global _restored  # noqa: PLW0603 - a count of what this process did
    _restored += 1
    if _restored == 1 or config.accel is not qemu.Accel.TCG:
        return None
    from lkm.vm import forks

    memory = os.open(ram, os.O_RDWR | os.O_CLOEXEC)
    try:
        there = {name: forks.FIRST_FD + 3 + at for at, name in enumerate(ends)}
        launch = qemu.Launch(
            Path(f"/dev/fd/{forks.FIRST_FD + 2}"),
            share,
            there,
            Path(f"/dev/fd/{forks.FIRST_FD + 1}"),
        )
        tool, *words = qemu.argv(config, launch)
        return forks.forked(
            proc.find_tool(tool),
            qemu.identity(config),
            words,
            (stderr, window, memory, *ends.values()),
        )
    finally:
        os.close(memory)


def _started(
    config: qemu.Config,
    ram: Path,
    boot: tuple[Path, Path] | None,
    share: bool,
    stderr: BinaryIO,
    window: int,
    ends: Mapping[str, int],
    pass_fds: tuple[int, ...],
) -> Running:
    image, initramfs = boot or (None, None)
    launch = qemu.Launch(
        ram,
        share or boot is not None,
        ends,
        Path(f"/dev/fd/{window}"),
        image=image,
        initramfs=initramfs,
    )
    command = _confined(config, launch)
    fds = (window, *ends.values(), *pass_fds)
    return Confined(proc.popen(command, stderr=stderr, pass_fds=fds))


def _confined(config: qemu.Config, launch: qemu.Launch) -> list[str]:
    command = qemu.argv(config, launch)
    command[0] = proc.find_tool(command[0])
    named = not launch.ram.is_relative_to("/dev/fd")
    return confine.argv(
        command,
        read=[path for path in (launch.image, launch.initramfs) if path],
        written=[launch.ram] if named else [],
        devices=[Path("/dev/kvm")] if config.accel is qemu.Accel.KVM else [],
    )


def share_memory(qmp: Qmp, *, on: bool = True) -> None:
    """Leave the memory, which is a file of its own, out of the migration stream, or have it in."""
    qmp.send(
        "migrate-set-capabilities",
        capabilities=[{"capability": "x-ignore-shared", "state": on}],
    )


def load_state(qmp: Qmp, state: Path, *, with_memory: bool = False) -> None:
    """Tell QEMU to load a frozen state, without waiting; the guest goes on at `cont`."""
    share_memory(qmp, on=not with_memory)
    with state.open("rb") as source:
        qmp.send("getfd", fd=source.fileno(), fdname="state")
    qmp.send("migrate-incoming", uri="fd:state")


def until_loaded(qmp: Qmp, deadline: float) -> None:
    """Wait until the state is loaded. A guest that was frozen while it stood still goes on only after that:

    its run state is part of what is loaded (process_incoming_migration_bh(), migration/migration.c).
    Raises MachineError, QmpClosed, QmpError, TimeoutError.
    """
    while (status := qmp.call("query-migrate", deadline=deadline).get("status")) != "completed":
        if status == "failed":
            raise MachineError("its state cannot be read", stage="restore")
        time.sleep(0.002)


def save_state(qmp: Qmp, fd: int, *, with_memory: bool = False, deadline: float) -> None:
    """Stop the guest and write its devices' state, without or with its memory, to an open file.

    Raises MachineError, QmpClosed, QmpError, TimeoutError.
    """
    share_memory(qmp, on=not with_memory)
    # The default is 128 MiB/s (MAX_THROTTLE, migration/migration.c).
    qmp.send("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
    qmp.call("getfd", fd=fd, fdname="state", deadline=deadline)
    qmp.call("migrate", uri="fd:state", deadline=deadline)
    while (status := qmp.call("query-migrate", deadline=deadline).get("status")) != "completed":
        if status == "failed" or time.monotonic() > deadline:
            raise MachineError(f"migration {status}", stage="freeze")
        time.sleep(0.005)
