"""Programs in the guest, much as subprocess has them."""

from __future__ import annotations

import errno
import io
import os
import signal
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lkm.closing import Closing
from lkm.errors import CommandError, LkmError, UsageError
from lkm.vm.calls import FAILURES, blame
from lkm.vm.channel import ChannelTimeout
from lkm.vm.link import told
from lkm.vm.wire import CHUNK, Frame, Op

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from lkm.vm.machine import Machine

__all__ = ["Completed", "GuestProcess", "payload_of", "run"]

_PTY = 1
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

    @property
    def text(self) -> str:
        """Its standard output as text."""
        return self.stdout.decode(errors="backslashreplace")

    def check(self) -> Completed:
        """Itself, if the exit code is 0. Raises CommandError."""
        if self.returncode:
            raise CommandError(self.argv, self.returncode, stdout=self.stdout, stderr=self.stderr)
        return self


class GuestProcess(Closing):
    """A program that runs in the guest beside everything else; on leaving its `with` block it is killed.

    `pid` is its process id there; `stdin`, `stdout` and `stderr` are binary streams. Reading waits for at most
    `timeout` seconds, then raises ModuleFailure.
    """

    def __init__(
        self,
        machine: Machine,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        user: tuple[int, int] = (0, 0),
        timeout: float | None = None,
    ) -> None:
        machine.require_running()
        self.argv = tuple(argv)
        self.returncode: int | None = None
        self.timeout = timeout or machine.timeout
        self._machine = machine
        self._talk = machine.link.mux.conversation()
        self._output = {Op.STDOUT: bytearray(), Op.STDERR: bytearray()}
        self._untaken = 0
        deadline = time.monotonic() + self.timeout
        try:
            self._request = self._talk.send(
                Op.EXEC, payload_of(argv, env or {}, cwd, user=user), deadline=deadline
            )
            self.pid = self._started(deadline)
        except BaseException as error:
            self._talk.close()
            if isinstance(error, FAILURES):
                raise self._blamed(error) from error
            raise
        self.stdin: io.RawIOBase = _Stdin(self)
        self.stdout = io.BufferedReader(_Output(self, Op.STDOUT))
        self.stderr = io.BufferedReader(_Output(self, Op.STDERR))

    def poll(self) -> int | None:
        """The exit code, if it has ended (negative: the signal that ended it); None while it runs."""
        try:
            while self.returncode is None:
                self._heed(0.0)
        except ChannelTimeout:
            pass
        except FAILURES as error:
            raise self._blamed(error) from error
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return the exit code. Raises CommandError after `timeout` seconds.

        What it prints meanwhile is kept for `stdout` and `stderr`.
        """
        limit = timeout or self.timeout
        self._until(lambda: self.returncode is not None, limit)
        assert self.returncode is not None
        return self.returncode

    def communicate(self, stdin: bytes = b"", *, timeout: float | None = None) -> Completed:
        """Give it `stdin` and wait for its end. One that has not ended then is killed: CommandError."""
        limit = timeout or self.timeout
        deadline = time.monotonic() + limit
        chunks = [stdin[at : at + CHUNK] for at in range(0, len(stdin), CHUNK)]
        for chunk in chunks:
            if not self._feed(chunk, limit, deadline=deadline, kill=True):
                break
        self._end_input(limit, deadline=deadline, kill=True)
        self._until(lambda: self.returncode is not None, limit, deadline=deadline, kill=True)
        self._talk.close()
        return self._completed(self.returncode or 0)

    def send_signal(self, number: int) -> None:
        """kill(2) on it and what it has started in its process group; nothing where it has ended."""
        if self.poll() is None:
            self._say(Op.SIGNAL, struct.pack("<i", number))

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """Kill it where it still runs, and forget it."""
        self._talk.close()

    def __repr__(self) -> str:
        state = "runs" if self.returncode is None else f"ended with {self.returncode}"
        return f"<GuestProcess {' '.join(self.argv)!r} {state}>"

    def take(self, op: Op, size: int) -> bytes:
        """At most `size` bytes of what it printed, waiting for the first; empty at the end. For its streams."""
        have = self._output[op]
        self._until(lambda: bool(have) or self.returncode is not None, self.timeout)
        data = bytes(have[:size])
        del have[:size]
        return data

    def give(self, data: bytes) -> int:
        """Hand it input, as much as one frame holds. For its streams. Raises BrokenPipeError after its end."""
        chunk = data[:CHUNK]
        if not self._feed(chunk, self.timeout):
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        return len(chunk)

    def end_input(self) -> None:
        """Close its standard input. For its streams."""
        self._end_input(self.timeout)

    def _feed(
        self, chunk: bytes, limit: float, *, deadline: float | None = None, kill: bool = False
    ) -> bool:
        def taken() -> bool:
            return not self._untaken or self.returncode is not None

        self._until(taken, limit, deadline=deadline, kill=kill)
        if self.returncode is not None:
            return False
        self._untaken += 1
        self._say(Op.STDIN, chunk)
        return True

    def _end_input(
        self, limit: float, *, deadline: float | None = None, kill: bool = False
    ) -> None:
        self._until(
            lambda: not self._untaken or self.returncode is not None,
            limit,
            deadline=deadline,
            kill=kill,
        )
        if self.returncode is None:
            self._say(Op.STDIN_EOF, b"")

    def _say(self, op: Op, payload: bytes) -> None:
        try:
            deadline = time.monotonic() + self.timeout
            self._talk.send(op, payload, deadline=deadline, request=self._request)
        except FAILURES as error:
            raise self._blamed(error) from error

    def _until(
        self,
        done: Callable[[], bool],
        limit: float,
        *,
        deadline: float | None = None,
        kill: bool = False,
    ) -> None:
        deadline = deadline or time.monotonic() + limit
        try:
            while not done():
                self._heed(deadline)
        except ChannelTimeout as error:
            if kill:
                self._talk.close()
            raise self._late(limit) from error
        except FAILURES as error:
            raise self._blamed(error) from error

    def _late(self, limit: float) -> CommandError:
        error = CommandError(
            self.argv,
            -signal.SIGKILL,
            stdout=bytes(self._output[Op.STDOUT]),
            stderr=bytes(self._output[Op.STDERR]),
        )
        error.summary = f"'{' '.join(self.argv)}' has not ended after {limit:g} s"
        return error

    def _blamed(self, error: Exception) -> LkmError:
        doing = f"the program {' '.join(self.argv)!r}"
        return blame(self._machine, error, doing=doing, limit=self.timeout)

    def _started(self, deadline: float) -> int:
        while (frame := self._talk.receive(deadline)).op != Op.STARTED:
            if frame.op == Op.END:
                raise OSError(frame.status, os.strerror(frame.status), self.argv[0])
        pid: int = told("<i", frame.payload)[0]
        return pid

    def _heed(self, deadline: float) -> None:
        with self._talk.lock:
            if self.returncode is not None:
                return
            self._keep(self._talk.receive(deadline))

    def _keep(self, frame: Frame) -> None:
        if frame.op in self._output:
            self._output[Op(frame.op)] += frame.payload
            self._require_room()
        elif frame.op == Op.TAKEN:
            self._untaken -= 1
        elif frame.op == Op.END:
            self.returncode = told("<i", frame.payload)[0]

    def _require_room(self) -> None:
        if sum(map(len, self._output.values())) <= OUTPUT_LIMIT:
            return
        self._talk.close()
        raise UsageError(
            f"'{' '.join(self.argv)}' printed more than {OUTPUT_LIMIT >> 20} MiB, and was killed",
            evidence=[repr(bytes(self._output[Op.STDOUT][-60:]))],
            hint="have it write to a file in the guest and read that, or read its stdout as it comes",
        )

    def _completed(self, returncode: int) -> Completed:
        stdout, stderr = self._output[Op.STDOUT], self._output[Op.STDERR]
        return Completed(self.argv, returncode, bytes(stdout), bytes(stderr))


OUTPUT_LIMIT = 64 << 20
"""How much of a program's output is kept that nobody has read, in bytes."""


class _Output(io.RawIOBase):
    """What a program prints."""

    def __init__(self, process: GuestProcess, op: Op) -> None:
        super().__init__()
        self._process = process
        self._op = op

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer).cast("B")
        data = self._process.take(self._op, len(view))
        view[: len(data)] = data
        return len(data)


class _Stdin(io.RawIOBase):
    """What a program reads. Each write waits until the program has taken what came before."""

    def __init__(self, process: GuestProcess) -> None:
        super().__init__()
        self._process = process

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer, /) -> int:
        whole = bytes(memoryview(data))
        at = 0
        while at < len(whole):
            at += self._process.give(whole[at:])
        return at

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._process.end_input()

    def __del__(self) -> None:
        """Leave the program as it is."""


def run(
    machine: Machine,
    argv: Sequence[str],
    *,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    cwd: str = "/",
    user: tuple[int, int] = (0, 0),
    timeout: float | None = None,
) -> Completed:
    """Run a program in the guest to its end, with `stdin` as its input.

    Raises CommandError when it is still running after `timeout` seconds. One that cannot be started ends
    with 127 or 126, as in a shell.
    """
    with GuestProcess(machine, argv, env=env, cwd=cwd, user=user, timeout=timeout) as process:
        return process.communicate(stdin, timeout=timeout)


def payload_of(
    argv: Sequence[str],
    env: Mapping[str, str],
    cwd: str,
    *,
    pty: bool = False,
    size: tuple[int, int] = (0, 0),
    user: tuple[int, int] = (0, 0),
) -> bytes:
    """What Op.EXEC carries; the twin of struct wanted in `agent/exec.c`."""
    variables = [f"{name}={value}" for name, value in {**_ENV, **env}.items()]
    strings = [cwd, *argv, *variables]
    counts = (len(argv), len(variables))
    head = struct.pack("<IIIIIHH", _PTY if pty else 0, *counts, *user, *size)
    return head + b"".join(os.fsencode(text) + b"\0" for text in strings)
