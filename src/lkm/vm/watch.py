"""What tells that a guest has died, or where it hangs: QEMU's monitor and the agent's first process."""

from __future__ import annotations

import contextlib
import re
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

from lkm.errors import MachineError
from lkm.vm.channel import Channel, ChannelClosed, ChannelTimeout, fields
from lkm.vm.qemu import CONSOLE_SIZE
from lkm.vm.qmp import Qmp, QmpClosed, QmpError
from lkm.vm.wire import Frame, Op

__all__ = ["Watch"]

LAST_WORDS = 3.0
"""How long, in seconds, a guest that fell silent is given for each thing it is asked."""

_AT_ONCE = 64
"""How many frames are taken in at once: a module may send them without end."""


class Watch:
    """One for all who wait for something of the same guest, in any thread.

    `halted` says that it has halted or rebooted, `how` QEMU's word for that (`guest-reset`, `guest-shutdown`,
    `guest-panic`; run_state.json, ShutdownCause). Either end may be missing, where another session has it.
    """

    def __init__(self, qmp: Qmp | None, agent: Channel | None) -> None:
        self._qmp = qmp
        self._agent = agent
        self._lock = threading.RLock()
        self._killed: set[int] = set()
        self._console = b""
        self.halted = False
        self.how = ""

    def filenos(self) -> tuple[int, ...]:
        """The descriptors to wait for; then call `heed`."""
        return tuple(end.fileno() for end in (self._qmp, self._agent) if end is not None)

    def close(self) -> None:
        """Close both ends."""
        with self._lock:
            for end in (self._agent, self._qmp):
                if end is not None:
                    end.close()

    def heed(self) -> None:
        """Take in what has come, without waiting. Raises QmpClosed, ChannelClosed."""
        with self._lock:
            if self._qmp is not None:
                self._qmp.read()
                if event := self._qmp.event("SHUTDOWN"):
                    if not event["data"]["guest"]:
                        raise QmpClosed(f"qemu was ended from outside: {event['data']['reason']}")
                    self.halted = True
                    self.how = event["data"]["reason"]
            for _ in range(_AT_ONCE):
                if self._agent is None or (frame := self._agent.pending()) is None:
                    return
                if frame.op == Op.DIED:
                    self._killed.add(_number(frame))

    def was_killed(self, number: int) -> bool:
        """Whether the kernel has killed that session's process; says so once."""
        with self._lock:
            try:
                self._killed.remove(number)
            except KeyError:
                return False
            return True

    def let_run(self) -> None:
        """Have a guest go on that stands still, or that is still being loaded (qmp_cont())."""
        with self._lock:
            if self._qmp is not None:
                self._qmp.send("cont")

    def console(self) -> bytes:
        """What the serial console has had so far; empty where nobody can be asked."""
        with self._lock:
            if self._qmp is None:
                return b""
            # QEMU gives each byte once, and a guest's end is told to all who wait.
            with contextlib.suppress(QmpClosed, QmpError, TimeoutError):
                deadline = time.monotonic() + LAST_WORDS
                self._console += self._qmp.console(CONSOLE_SIZE, deadline=deadline)
            return self._console

    def last_words(self, number: int, *, hung: bool) -> tuple[bytes, str] | None:
        """The rest of a session's log, and for one that hangs its stack; None when the agent is silent."""
        with self._lock:
            if self._agent is None:
                return None
            log, stacks = b"", []
            deadline = time.monotonic() + LAST_WORDS
            try:
                asked = struct.pack("<I", number)
                for frame in self._agent.request(Op.KMSG, asked, deadline=deadline):
                    log += frame.payload if frame.op == Op.LOG else b""
                if hung:
                    for frame in self._agent.request(Op.STACKS, deadline=deadline):
                        stacks += [frame.payload] if frame.op == Op.DATA else []
            except (ChannelTimeout, ChannelClosed):
                return None
            mine = str(number).encode() + b"\0"
            stack = b"".join(data.removeprefix(mine) for data in stacks if data.startswith(mine))
            return log, stack.decode(errors="replace")

    def instruction_pointers(self) -> list[int]:
        """Where each processor is, by QEMU's own look; empty where nobody can be asked."""
        with self._lock:
            if self._qmp is None:
                return []
            deadline = time.monotonic() + LAST_WORDS
            command: dict[str, Any] = {"command-line": "info registers -a"}
            try:
                said = self._qmp.call("human-monitor-command", **command, deadline=deadline)
            except (QmpClosed, QmpError, TimeoutError):
                return []
            return [int(found, 16) for found in re.findall(r"\bRIP=([0-9a-f]{1,16})\b", str(said))]

    def interrupt(self) -> None:
        """Make a kernel that spins say where: an unknown NMI panics it, with its registers."""
        with self._lock:
            if self._qmp is None:
                return
            deadline = time.monotonic() + LAST_WORDS
            with contextlib.suppress(QmpClosed, QmpError, TimeoutError):
                self._qmp.call("inject-nmi", deadline=deadline)
                self._qmp.wait_event("SHUTDOWN", deadline=deadline)
                self.halted = True

    @contextlib.contextmanager
    def monitor(self) -> Iterator[Qmp]:
        """QEMU's monitor, for this thread alone. Raises MachineError where another session has it."""
        with self._lock:
            if self._qmp is None:
                raise MachineError("its monitor is in use by another session", stage="monitor")
            yield self._qmp


def _number(frame: Frame) -> int:
    number: int = fields("<i", frame.payload)[0]
    return number
