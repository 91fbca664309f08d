"""The ways into a running guest, and what became of it when one of them falls silent."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

from lkm.end import End
from lkm.errors import MachineError, ModuleFailure, StateError
from lkm.vm.channel import Channel, ChannelClosed, ChannelTimeout, Garbled, fields
from lkm.vm.qmp import QmpClosed
from lkm.vm.watch import Watch
from lkm.vm.wire import LOG_CHANNEL, Frame, Op

if TYPE_CHECKING:
    from lkm.vm.confine import Running
    from lkm.vm.mux import Mux

__all__ = ["Link", "Reply", "closed_meanwhile", "collect", "told"]


@dataclass
class Reply:
    """What came back for one request.

    `status` is 0 or a positive errno; `data`, `stdout` and `stderr` are payloads in the order they came;
    `log` is raw /dev/kmsg records, `earlier` those of before the request, where they were asked for, `console`
    what the serial console has when the guest could not answer itself; `stacks` where its sessions are in the
    kernel, for one that hangs, or else where its processors are. `how` is QEMU's word for how a guest went
    down, or what became of a machine that is no more; `size` counts the bytes of all that came.
    """

    end: End = End.DONE
    status: int = 0
    value: bytes = b""
    data: list[bytes] = field(default_factory=list)
    log: bytes = b""
    earlier: bytes = b""
    console: bytes = b""
    stacks: str = ""
    how: str = ""
    size: int = 0


class _Stopped(Exception):
    """QEMU said that the guest halted."""


class _Killed(Exception):
    """The agent said that our session's process was killed."""


class _Gone(Exception):
    """The module's doing: QEMU has ended, or what answers is not the agent."""


_ANSWER_MAX = 256 << 20
"""How many bytes an answer may hold: what answers may be a module, which need not stop."""

_KILLS = (signal.SIGKILL, signal.SIGTERM)
_FROM_OUTSIDE = (None, 0, *(-each for each in _KILLS), *(128 + each for each in _KILLS))
"""How a QEMU ends that somebody on this computer ended; a guest makes it abort, or exit with an error."""


class Link:
    """One session with a guest's agent, with QEMU's monitor and the agent's first process beside it.

    Not for two threads at once. A `paused` guest stands still until the first request. `process` is None
    for a machine that somebody else owns. `mux` is the socket of the agent's channels, where there is
    one, `window` the file of the memory that is shared with the guest; both are closed with the link.
    `has_loaded` tells whether a module was loaded, or tried: what goes wrong then may be its doing.
    """

    def __init__(
        self,
        session: Channel,
        *,
        number: int,
        watch: Watch,
        mux: socket.socket | None = None,
        window: int | None = None,
        last_channel: int = LOG_CHANNEL,
        process: Running | None = None,
        paused: bool = False,
        stderr: BinaryIO | None = None,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self._session = session
        self._number = number
        self.watch = watch
        self._mux_sock = mux
        self.window = window
        self._last_channel = last_channel
        self._mux: Mux | None = None
        self._process = process
        self._stderr = stderr
        self._on_close = on_close
        self._closed = False
        self._end: _Stopped | _Killed | _Gone | None = None
        self.has_loaded = False
        self._paused = paused
        self.dead = False
        session.wake = watch.filenos()
        session.on_wake = self._heed

    @property
    def session(self) -> Channel:
        """The control port itself, for a conversation that is not question and answer."""
        return self._session

    @property
    def mux(self) -> Mux:
        """The agent's channels, for what goes on beside this session. Raises MachineError without them."""
        if self._mux is None:
            from lkm.vm.mux import Mux

            if self._mux_sock is None:
                raise MachineError("its channels are not to be had", stage="channel")
            self._mux = Mux(self._mux_sock, self.watch, self.let_run, self._last_channel)
        return self._mux

    @property
    def pid(self) -> int | None:
        """QEMU's process id, where this link owns it."""
        return self._process.pid if self._process else None

    def begin(
        self,
        op: Op,
        payload: bytes = b"",
        *,
        deadline: float,
        stage: str,
        request: int = 0,
        earlier: bool = False,
    ) -> int:
        """Send a request (or more for one, by its id) without waiting; `finish` takes the answer.

        `earlier` is as for `wire.pack`.
        """
        self.has_loaded |= op in (Op.LOAD, Op.IN_AND_OUT)
        try:
            self.let_run()
            return self._session.send(
                op, payload, deadline=deadline, request=request, earlier=earlier
            )
        except ChannelTimeout:
            return request
        except (_Stopped, _Killed) as end:
            self._end = end
            return request
        except (ChannelClosed, QmpClosed) as error:
            self._end = self._gone(stage, error)
            return request

    def finish(
        self,
        request: int,
        *,
        deadline: float,
        stage: str,
        on_frame: Callable[[Frame], None] | None = None,
    ) -> Reply:
        """Collect the answer to a request; always comes back by `deadline` plus some seconds for last words.

        Raises MachineError only when QEMU itself is gone and no module was loaded that can have done it;
        StateError when another thread has closed the link.
        """
        reply = Reply()
        try:
            if end := self._end:
                self._end = None
                raise end
            for frame in self._session.answers(request, deadline):
                if on_frame:
                    on_frame(frame)
                collect(reply, frame)
        except _Stopped:
            reply.end = End.PANIC
        except _Killed:
            reply.end = End.KILLED
        except ChannelTimeout:
            reply.end = End.HUNG
        except (ChannelClosed, QmpClosed, _Gone) as error:
            reply.end = End.GONE
            reply.how = str(error if isinstance(error, _Gone) else self._gone(stage, error))
            reply.console = self.console()
            return reply
        if reply.end is not End.DONE:
            self._last_words(reply)
        return reply

    def close(self) -> None:
        """Leave the guest; end QEMU where this link owns it. Can be called twice."""
        if self._closed:
            return
        self._closed = True
        if self._mux:
            self._mux.close()
        elif self._mux_sock:
            self._mux_sock.close()
        self._session.close()
        self.watch.close()
        if self.window is not None:
            os.close(self.window)
        if self._process:
            self._process.end()
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
        return self.watch.console()

    def let_run(self) -> None:
        """Have a guest go on that stood still until its first request."""
        if self._paused:
            self._paused = False
            self.watch.let_run()

    def _heed(self) -> None:
        self.watch.heed()
        if self.watch.halted:
            raise _Stopped
        if self.watch.was_killed(self._number):
            raise _Killed

    def _last_words(self, reply: Reply) -> None:
        """Collect what a guest that did not answer can still tell."""
        hung = reply.end is End.HUNG
        if reply.end is not End.PANIC and (words := self.watch.last_words(self._number, hung=hung)):
            reply.log += words[0]
            reply.stacks = words[1]
            return
        if hung:
            places = self.watch.instruction_pointers()
            reply.stacks = "".join(f"0x{place:016x}\n" for place in places)
            self.watch.interrupt()
        self.dead = True
        reply.how = self.watch.how
        reply.console = self.console()

    def _gone(self, stage: str, error: Exception) -> _Gone:
        """What became of a machine that a module was loaded on. Raises MachineError where none was."""
        if self._closed:
            raise closed_meanwhile() from error
        self.dead = True
        if isinstance(error, Garbled):
            if self.has_loaded:
                return _Gone(f"what answered was not the agent any more: {error}")
            raise MachineError(f"the agent talks nonsense: {error}", stage=stage) from error
        code = self._exit_code()
        said = self.qemu_stderr()
        if self.has_loaded and code not in _FROM_OUTSIDE:
            return _Gone("; ".join(filter(None, (f"qemu {_how(code)}", *said.splitlines()[-1:]))))
        ended = f" (qemu {_how(code)})" if self._process else ""
        text = f"the machine has gone: {error}{ended}"
        raise MachineError(text, stage=stage, console_tail=said) from error

    def _exit_code(self) -> int | None:
        """How QEMU ended; it has let go of its sockets a moment before."""
        if self._process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self._process.wait(2)
        return None


def _how(code: int | None) -> str:
    if code is None:
        return "goes on"
    number = -code if code < 0 else code - 128
    if number in set(signal.Signals):
        return f"was ended by {signal.Signals(number).name}"
    return f"ended with exit code {code}"


def told(form: str, payload: bytes) -> tuple[Any, ...]:
    """What an answer begins with, as struct has it. Raises ModuleFailure: the agent sends no shorter one."""
    try:
        return fields(form, payload)
    except Garbled as error:
        raise ModuleFailure(f"what answered was not the agent: {error}") from error


def closed_meanwhile() -> StateError:
    """The error for one who waited for a machine that another thread has closed."""
    hint = "restore a fresh one"
    return StateError("the machine", state="closed", required="running", hint=hint)


def collect(reply: Reply, frame: Frame) -> None:
    """Add what a frame carries to the answer. Raises Garbled for one that does not end."""
    reply.size += len(frame.payload)
    if reply.size > _ANSWER_MAX:
        raise Garbled(f"an answer of more than {_ANSWER_MAX >> 20} MiB")
    if frame.op == Op.LOG and frame.status:
        reply.earlier += frame.payload
    elif frame.op == Op.LOG:
        reply.log += frame.payload
    elif frame.op == Op.DATA:
        reply.data.append(frame.payload)
    elif frame.op == Op.END:
        reply.status = frame.status
        reply.value = frame.payload
