"""QEMU's machine protocol, as little of it as a restore needs, without waiting for answers.

Commands are pipelined: QEMU executes them in order, so that a restore costs no round trip. (A QMP library
on asyncio would cost half of a whole run in imports; docs/explanation/decisions.md.)
"""

from __future__ import annotations

import base64
import json
import select
import socket
import time
from typing import Any

__all__ = ["Qmp", "QmpClosed", "QmpError"]


class QmpClosed(Exception):
    """QEMU has gone."""


class QmpError(Exception):
    """QEMU refused a command; the text is its own."""


class Qmp:
    """A QMP session over a connected socket. `events` holds what QEMU said unasked."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._in = b""
        self._sent = 0
        self._returns: dict[int, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []
        self.send("qmp_capabilities")

    def fileno(self) -> int:
        """The socket's descriptor, for select."""
        return self._sock.fileno()

    def close(self) -> None:
        """Close the session; QEMU goes on."""
        self._sock.close()

    def send(self, command: str, *, fd: int | None = None, **arguments: Any) -> int:
        """Send a command without waiting; returns its id. `fd` goes along as SCM_RIGHTS."""
        self._sent += 1
        message = {"execute": command, "id": self._sent, "arguments": arguments}
        data = json.dumps(message).encode() + b"\n"
        try:
            if fd is None:
                self._sock.sendall(data)
            else:
                socket.send_fds(self._sock, [data], [fd])
        except OSError as error:
            raise QmpClosed(str(error)) from error
        return self._sent

    def call(
        self, command: str, *, deadline: float, fd: int | None = None, **arguments: Any
    ) -> Any:
        """Send a command and wait for what it returns. Raises QmpError, TimeoutError, QmpClosed."""
        return self.result(self.send(command, fd=fd, **arguments), deadline=deadline)

    def result(self, command_id: int, *, deadline: float) -> Any:
        """What an earlier `send` returned."""
        while command_id not in self._returns:
            self._wait(deadline)
            self.read()
        answer = self._returns.pop(command_id)
        if "error" in answer:
            raise QmpError(answer["error"]["desc"])
        return answer["return"]

    def read(self) -> None:
        """Take in what has come, without waiting."""
        try:
            data = self._sock.recv(1 << 21)
        except BlockingIOError:
            return
        except OSError as error:
            raise QmpClosed(str(error)) from error
        if not data:
            raise QmpClosed("end of stream")
        *lines, self._in = (self._in + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "event" in message:
                self.events.append(message)
            elif "id" in message:
                self._returns[message["id"]] = message

    def event(self, name: str) -> dict[str, Any] | None:
        """The first event of that name that has come, if any."""
        return next((e for e in self.events if e["event"] == name), None)

    def wait_event(self, name: str, *, deadline: float) -> dict[str, Any]:
        """Wait for an event. Raises TimeoutError."""
        while (event := self.event(name)) is None:
            self._wait(deadline)
            self.read()
        return event

    def console(self, size: int, *, deadline: float) -> bytes:
        """Take what the ring buffer that stands for the serial console holds."""
        text = self.call(
            "ringbuf-read", device="console", size=size, format="base64", deadline=deadline
        )
        return base64.b64decode(text)

    def _wait(self, deadline: float) -> None:
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeoutError
