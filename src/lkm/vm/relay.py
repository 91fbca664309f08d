"""A program in the guest that is connected to this terminal."""

from __future__ import annotations

import itertools
import os
import select
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from lkm.errors import MachineError, errno_name
from lkm.vm.channel import Channel, ChannelClosed, ChannelTimeout
from lkm.vm.link import told
from lkm.vm.process import payload_of
from lkm.vm.wire import CHUNK, Op

if TYPE_CHECKING:
    from lkm.vm.machine import Machine

__all__ = ["relay"]

_BATCH = 8


def relay(
    machine: Machine,
    argv: Sequence[str],
    *,
    stdin: int,
    stdout: int,
    stderr: int,
    terminal: Callable[[], tuple[int, int]] | None = None,
    env: Mapping[str, str] | None = None,
    wake: int | None = None,
) -> int:
    """Run a program with these descriptors of ours as its own, and return its exit code.

    `terminal` gives (rows, columns): the program then gets a terminal of its own, whose size follows
    whenever something can be read from the descriptor `wake` (written to by a SIGWINCH handler).
    """
    size = terminal() if terminal else (0, 0)
    session = machine.link.session
    payload = payload_of(argv, env or {}, "/root", pty=terminal is not None, size=size)
    session.send(Op.EXEC, payload, deadline=_soon())
    inputs = [fd for fd in (session.fileno(), stdin, wake) if fd is not None]
    untaken = False
    try:
        while True:
            # A few at a time: a program that never stops printing must still hear its Ctrl-C.
            frames = list(itertools.islice(iter(session.pending, None), _BATCH))
            for frame in frames:
                if frame.op == Op.END:
                    return _exit_code(argv, frame.status, frame.payload)
                if frame.op in (Op.STDOUT, Op.STDERR):
                    _write_all(stdout if frame.op == Op.STDOUT else stderr, frame.payload)
                untaken = untaken and frame.op != Op.TAKEN
            # What the program has not taken is not read from our stdin either.
            unsent = [session.fileno()] if session.flush() else []
            heeded = [fd for fd in inputs if fd != stdin or not untaken]
            ready, _, _ = select.select(heeded, unsent, [], 0 if len(frames) == _BATCH else None)
            if wake in ready:
                os.read(wake or 0, 512)
                if terminal:
                    session.queue(Op.WINSIZE, struct.pack("<HH", *terminal()))
            if stdin in ready:
                untaken = _relay_input(session, stdin)
                if not untaken:
                    inputs.remove(stdin)
    except (ChannelClosed, ChannelTimeout) as error:
        raise MachineError("the machine has gone", stage="sh", hint="lkm ps; lkm up") from error


def _relay_input(session: Channel, stdin: int) -> bool:
    """Pass on what is there; False at its end."""
    data = os.read(stdin, CHUNK)
    session.queue(Op.STDIN if data else Op.STDIN_EOF, data)
    return bool(data)


def _exit_code(argv: Sequence[str], status: int, value: bytes) -> int:
    if status:
        raise MachineError(f"{argv[0]} cannot be started: {errno_name(status)}", stage="sh")
    code: int = told("<i", value)[0]
    return code if code >= 0 else 128 - code


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _soon() -> float:
    return time.monotonic() + 30
