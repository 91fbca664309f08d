"""The ways into a running guest, and what became of it when one of them falls silent."""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO

from lkm import proc
from lkm.end import End
from lkm.errors import MachineError
from lkm.vm.channel import Channel, ChannelClosed, ChannelTimeout
from lkm.vm.qemu import CONSOLE_SIZE
from lkm.vm.qmp import Qmp, QmpClosed, QmpError
from lkm.vm.wire import Frame, Op

__all__ = ["Link", "Reply"]

LAST_WORDS = 3.0
"""How long, in seconds, a guest that fell silent is given for each thing it is asked."""


@dataclass
class Reply:
    """What came back for one request.

    `status` is 0 or a positive errno; `data`, `stdout` and `stderr` are payloads in the order they came;
    `log` is raw /dev/kmsg records, `console` what the serial console has when the guest could not answer
    itself; `stacks` where its sessions are in the kernel, for one that hangs.
    """

    end: End = End.DONE
    status: int = 0
    value: bytes = b""
    data: list[bytes] = field(default_factory=list)
    log: bytes = b""
    console: bytes = b""
    stacks: str = ""


class _Stopped(Exception):
    """QEMU said that the guest halted."""


class _Killed(Exception):
    """The agent said that our session's process was killed."""


class Link:
    """One session with a guest's agent, with QEMU's monitor and the agent's first process beside it.

    Not for two threads at once. A `paused` guest stands still until the first request. `process` is None
    for a machine that somebody else owns; `qmp` and `watch` are None where another session has them.
    """

    def __init__(
        self,
        session: Channel,
        *,
        number: int,
        qmp: Qmp | None,
        watch: Channel | None,
        process: subprocess.Popen[bytes] | None = None,
        paused: bool = False,
        stderr: BinaryIO | None = None,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self._session = session
        self._number = number
        self._qmp = qmp
        self._watch = watch
        self._process = process
        self._stderr = stderr
        self._on_close = on_close
        self._closed = False
        self._end: _Stopped | _Killed | None = None
        self._paused = paused
        self.dead = False
        session.wake = tuple(end.fileno() for end in (qmp, watch) if end is not None)
        session.on_wake = self._heed

    @property
    def session(self) -> Channel:
        """The control port itself, for a conversation that is not question and answer."""
        return self._session

    @property
    def pid(self) -> int | None:
        """QEMU's process id, where this link owns it."""
        return self._process.pid if self._process else None

    def request(self, op: Op, payload: bytes = b"", *, timeout: float, stage: str) -> Reply:
        """Ask the agent; always comes back within `timeout` seconds plus some for last words.

        Raises MachineError only when QEMU itself is gone, or talks nonsense.
        """
        deadline = time.monotonic() + timeout
        request = self.begin(op, payload, deadline=deadline, stage=stage)
        return self.finish(request, deadline=deadline, stage=stage)

    def begin(
        self, op: Op, payload: bytes = b"", *, deadline: float, stage: str, request: int = 0
    ) -> int:
        """Send a request (or more for one, by its id) without waiting; `finish` takes the answer."""
        try:
            self._let_run()
            return self._session.send(op, payload, deadline=deadline, request=request)
        except ChannelTimeout:
            return request
        except (_Stopped, _Killed) as end:
            self._end = end
            return request
        except (ChannelClosed, QmpClosed) as error:
            raise self._broken(stage, error) from error

    def finish(
        self,
        request: int,
        *,
        deadline: float,
        stage: str,
        on_frame: Callable[[Frame], None] | None = None,
    ) -> Reply:
        """Collect the answer to a request; see `request`."""
        reply = Reply()
        try:
            if end := self._end:
                self._end = None
                raise end
            for frame in self._session.answers(request, deadline):
                if on_frame:
                    on_frame(frame)
                _collect(reply, frame)
        except _Stopped:
            reply.end = End.PANIC
        except _Killed:
            reply.end = End.KILLED
        except ChannelTimeout:
            reply.end = End.HUNG
        except (ChannelClosed, QmpClosed) as error:
            raise self._broken(stage, error) from error
        if reply.end is not End.DONE:
            self._last_words(reply)
        return reply

    def close(self) -> None:
        """Leave the guest; end QEMU where this link owns it. Can be called twice."""
        if self._closed:
            return
        self._closed = True
        for end in (self._session, self._watch, self._qmp):
            if end is not None:
                end.close()
        if self._process:
            proc.end(self._process)
        if self._stderr:
            self._stderr.close()
        self._on_close()

    def qemu_stderr(self) -> str:
        """What QEMU itself complained about."""
        if not self._stderr:
            return ""
        os.lseek(self._stderr.fileno(), 0, os.SEEK_SET)
        return self._stderr.read(65536).decode(errors="replace").strip()

    def console(self) -> bytes:
        """What the serial console holds now; empty where nobody can be asked."""
        if self._qmp is None:
            return b""
        with contextlib.suppress(QmpClosed, QmpError, TimeoutError):
            return self._qmp.console(CONSOLE_SIZE, deadline=time.monotonic() + LAST_WORDS)
        return b""

    def _let_run(self) -> None:
        # While the state is still being loaded QEMU takes this as a wish for later (qmp_cont()).
        if self._paused and self._qmp is not None:
            self._qmp.send("cont")
            self._paused = False

    def _heed(self, fd: int) -> None:
        if self._qmp is not None and fd == self._qmp.fileno():
            self._qmp.read()
            if event := self._qmp.event("SHUTDOWN"):
                if not event["data"]["guest"]:
                    raise QmpClosed(f"qemu was ended from outside: {event['data']['reason']}")
                raise _Stopped
            return
        while self._watch is not None and (frame := self._watch.pending()):
            if frame.op == Op.DIED and _died(frame) == self._number:
                raise _Killed

    def _last_words(self, reply: Reply) -> None:
        """Collect what a guest that did not answer can still tell."""
        if reply.end is not End.PANIC and self._ask_watch(reply):
            return
        if reply.end is End.HUNG:
            self._interrupt()
        self.dead = True
        reply.console = self.console()

    def _ask_watch(self, reply: Reply) -> bool:
        if self._watch is None:
            return False
        deadline = time.monotonic() + LAST_WORDS
        number = struct.pack("<I", self._number)
        rest = Reply()
        try:
            for frame in self._watch.request(Op.KMSG, number, deadline=deadline):
                _collect(rest, frame)
            if reply.end is End.HUNG:
                for frame in self._watch.request(Op.STACKS, deadline=deadline):
                    _collect(rest, frame)
        except (ChannelTimeout, ChannelClosed):
            return False
        reply.log += rest.log
        mine = str(self._number).encode() + b"\0"
        stacks = [data.removeprefix(mine) for data in rest.data if data.startswith(mine)]
        reply.stacks = b"".join(stacks).decode(errors="replace")
        return True

    def _interrupt(self) -> None:
        """Make a kernel that spins say where: an unknown NMI panics it, with its registers."""
        if self._qmp is None:
            return
        deadline = time.monotonic() + LAST_WORDS
        with contextlib.suppress(QmpClosed, QmpError, TimeoutError):
            self._qmp.call("inject-nmi", deadline=deadline)
            self._qmp.wait_event("SHUTDOWN", deadline=deadline)

    def _broken(self, stage: str, error: Exception) -> MachineError:
        self.dead = True
        if self._process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(1)
        said = self.qemu_stderr()
        ended = "" if not self._process else f" (qemu ended with {self._process.returncode})"
        return MachineError(f"the machine has gone: {error}{ended}", stage=stage, console_tail=said)


def _died(frame: Frame) -> int:
    number: int = struct.unpack_from("<i", frame.payload)[0]
    return number


def _collect(reply: Reply, frame: Frame) -> None:
    if frame.op == Op.LOG:
        reply.log += frame.payload
    elif frame.op == Op.DATA:
        reply.data.append(frame.payload)
    elif frame.op == Op.END:
        reply.status = frame.status
        reply.value = frame.payload
