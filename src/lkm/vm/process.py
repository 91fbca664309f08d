"""Programs in the guest: run one and take its output, or connect one to this terminal."""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lkm.end import End
from lkm.errors import CommandError, MachineError, errno_name
from lkm.vm.channel import Channel, ChannelClosed, ChannelTimeout
from lkm.vm.machine import Machine
from lkm.vm.wire import Op

__all__ = ["Completed", "relay", "run"]

_PTY = 1
_BATCH = 8
_ENV = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "SHELL": "/bin/sh",
}


@dataclass(frozen=True)
class Completed:
    """A program that has ended: its exit code (negative: the signal that ended it) and its output."""

    argv: tuple[str, ...]
    returncode: int
    stdout: bytes
    stderr: bytes

    def check(self) -> Completed:
        """Itself, if the exit code is 0. Raises CommandError."""
        if self.returncode:
            raise CommandError(self.argv, self.returncode, stdout=self.stdout, stderr=self.stderr)
        return self


def run(
    machine: Machine,
    argv: Sequence[str],
    *,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    cwd: str = "/",
    timeout: float | None = None,
) -> Completed:
    """Run a program in the guest to its end, with `stdin` as its input.

    Raises CommandError when it is still running after `timeout` seconds, OSError when it could not be
    started at all.
    """
    session = machine.link.session
    deadline = time.monotonic() + (timeout or machine.timeout)
    out: dict[int, list[bytes]] = {Op.STDOUT: [], Op.STDERR: []}
    request = machine.link.begin(
        Op.EXEC, _payload(argv, env or {}, cwd), deadline=deadline, stage="run"
    )
    chunks = (stdin[at : at + (1 << 16)] for at in range(0, len(stdin), 1 << 16))
    for chunk in chunks:
        machine.link.begin(Op.STDIN, chunk, deadline=deadline, stage="run", request=request)
    machine.link.begin(Op.STDIN_EOF, deadline=deadline, stage="run", request=request)
    reply = machine.link.finish(
        request,
        deadline=deadline,
        stage="run",
        on_frame=lambda frame: out[frame.op].append(frame.payload) if frame.op in out else None,
    )
    stdout, stderr = b"".join(out[Op.STDOUT]), b"".join(out[Op.STDERR])
    if reply.end is End.HUNG:
        with contextlib.suppress(ChannelClosed, ChannelTimeout):
            session.send(Op.SIGNAL, struct.pack("<i", 9), deadline=time.monotonic() + 2)
        raise CommandError(argv, -9, stdout=stdout, stderr=stderr)
    if reply.end is not End.DONE:
        raise MachineError(
            f"the guest's end while {argv[0]!r} ran: {reply.end}",
            stage="run",
            console_tail=reply.console.decode(errors="replace"),
        )
    if reply.status:
        raise OSError(reply.status, errno_name(reply.status), argv[0])
    return Completed(tuple(argv), struct.unpack("<i", reply.value)[0], stdout, stderr)


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
    payload = _payload(argv, env or {}, "/root", pty=terminal is not None, size=size)
    session.send(Op.EXEC, payload, deadline=_soon())
    inputs = [fd for fd in (session.fileno(), stdin, wake) if fd is not None]
    try:
        while True:
            # A few at a time: a program that never stops printing must still hear its Ctrl-C.
            frames = list(itertools.islice(iter(session.pending, None), _BATCH))
            for frame in frames:
                if frame.op == Op.END:
                    return _exit_code(argv, frame.status, frame.payload)
                if frame.op in (Op.STDOUT, Op.STDERR):
                    _write_all(stdout if frame.op == Op.STDOUT else stderr, frame.payload)
            # What the guest does not take is not read from our stdin either.
            unsent = [session.fileno()] if session.flush() else []
            heeded = [fd for fd in inputs if fd != stdin or not unsent]
            ready, _, _ = select.select(heeded, unsent, [], 0 if len(frames) == _BATCH else None)
            if wake in ready:
                os.read(wake or 0, 512)
                if terminal:
                    session.queue(Op.WINSIZE, struct.pack("<HH", *terminal()))
            if stdin in ready and not _feed(session, stdin):
                inputs.remove(stdin)
    except (ChannelClosed, ChannelTimeout) as error:
        raise MachineError("the machine has gone", stage="sh", hint="lkm ps; lkm up") from error


def _payload(
    argv: Sequence[str],
    env: Mapping[str, str],
    cwd: str,
    *,
    pty: bool = False,
    size: tuple[int, int] = (0, 0),
) -> bytes:
    variables = [f"{name}={value}" for name, value in {**_ENV, **env}.items()]
    strings = [cwd, *argv, *variables]
    head = struct.pack("<IIIHH", _PTY if pty else 0, len(argv), len(variables), *size)
    return head + b"".join(os.fsencode(text) + b"\0" for text in strings)


def _feed(session: Channel, stdin: int) -> bool:
    data = os.read(stdin, 4096)
    session.queue(Op.STDIN if data else Op.STDIN_EOF, data)
    return bool(data)


def _exit_code(argv: Sequence[str], status: int, value: bytes) -> int:
    if status:
        raise MachineError(f"{argv[0]} cannot be started: {errno_name(status)}", stage="sh")
    code: int = struct.unpack("<i", value)[0]
    return code if code >= 0 else 128 - code


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _soon() -> float:
    return time.monotonic() + 30
