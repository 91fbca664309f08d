"""Into a machine that stays: a session of its agent that is free, and QEMU's monitor where it is."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lkm.errors import MachineError, UsageError
from lkm.machine import REAL_SETTLE
from lkm.vm import qemu
from lkm.vm.channel import Channel, ChannelClosed, ChannelTimeout
from lkm.vm.link import Link
from lkm.vm.machine import Machine
from lkm.vm.qmp import Qmp, QmpClosed
from lkm.vm.watch import Watch
from lkm.vm.wire import SESSIONS, Op

if TYPE_CHECKING:
    from lkm.vm.named import Named

__all__ = ["attach", "connected", "resynchronised"]

ANSWER_LIMIT = 5.0
"""Seconds that a session or the monitor of such a machine may take to answer."""


def attach(named: Named, *, with_monitor: bool = True) -> Machine:
    """A session with a machine that is up: the first of its control ports that nobody uses.

    With `with_monitor` also QEMU's monitor and the agent's first process, where they are free, so that
    a guest that dies can be asked why. Raises MachineError for a guest that is dead or does not answer,
    UsageError when every port is in use.
    """
    with contextlib.ExitStack() as stack, _gone(named):
        qmp = _monitor(named, stack)
        number, session = _session(named, stack)
        agent = mux = None
        if qmp and with_monitor:
            agent = Channel(stack.enter_context(connected(named.home / "watch")))
            mux = stack.enter_context(connected(named.home / "mux"))
        window = os.open(named.home / "window", os.O_RDWR | os.O_CLOEXEC)
        kept = stack.pop_all()
        watch = Watch(qmp, agent)
        link = Link(
            session, number=number, watch=watch, mux=mux, window=window, on_close=kept.close
        )
        return Machine(link, release=named.release, settle=REAL_SETTLE)


@contextlib.contextmanager
def _gone(named: Named) -> Iterator[None]:
    try:
        yield
    except (OSError, QmpClosed, TimeoutError) as error:
        raise MachineError(
            f"the machine {named.name!r} has gone: {error or 'no answer'}",
            stage="attach",
            hint=f"lkm down {named.name}; lkm up {named.name}",
        ) from error


def _monitor(named: Named, stack: contextlib.ExitStack) -> Qmp | None:
    """QEMU's monitor, where nobody else has it. Raises MachineError when the guest is dead."""
    if not _try_lock(named.home / "monitor.lock", stack):
        return None
    qmp = Qmp(stack.enter_context(connected(named.home / "qmp")))
    deadline = time.monotonic() + ANSWER_LIMIT
    status = qmp.call("query-status", deadline=deadline)["status"]
    if status == "running":
        return qmp
    console = qmp.console(qemu.CONSOLE_SIZE, deadline=deadline)
    raise MachineError(
        f"the machine {named.name!r} is dead: its kernel panicked or powered off ({status})",
        stage="attach",
        console_tail=console.decode(errors="replace"),
        hint=f"lkm down {named.name}; lkm up {named.name}",
    )


def _session(named: Named, stack: contextlib.ExitStack) -> tuple[int, Channel]:
    """The first session that is free and answers: one whose module hangs in the kernel does neither."""
    silent = 0
    for number in range(SESSIONS):
        with contextlib.ExitStack() as trying:
            if not _try_lock(named.home / f"session{number}.lock", trying):
                continue
            if session := _answering(named.home / f"session{number}", trying):
                stack.push(trying.pop_all())
                return number, session
            silent += 1
    if silent:
        raise MachineError(
            f"the agent of {named.name!r} does not answer on {silent} of {SESSIONS} sessions",
            stage="attach",
            hint=f"the guest may be hung: lkm down {named.name}; lkm up {named.name}",
        )
    raise UsageError(
        f"all {SESSIONS} sessions of the machine {named.name!r} are in use",
        hint="close one, or lkm up NAME2",
    )


def _answering(path: Path, stack: contextlib.ExitStack) -> Channel | None:
    # A client that was killed in the middle of a frame has left the agent waiting for its rest, for which it
    # takes what we say. That we hang up is what it notices.
    for limit in (ANSWER_LIMIT / 10, ANSWER_LIMIT):
        with contextlib.ExitStack() as trying:
            session = Channel(trying.enter_context(connected(path)))
            if resynchronised(session, limit):
                stack.push(trying.pop_all())
                return session
    return None


def resynchronised(channel: Channel, limit: float) -> bool:
    """Skip whatever an earlier session left half said, up to the echo of a token of ours."""
    token = os.urandom(16)
    deadline = time.monotonic() + limit
    try:
        channel.send(Op.PING, token, deadline=deadline)
        channel.skip_past(token, deadline)
    except (ChannelClosed, ChannelTimeout):
        return False
    return True


def _try_lock(path: Path, stack: contextlib.ExitStack) -> bool:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return False
    stack.callback(os.close, fd)
    return True


@contextlib.contextmanager
def connected(path: Path) -> Iterator[socket.socket]:
    """A connection to a socket of a machine's directory."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.connect(os.fspath(path))
        yield sock
