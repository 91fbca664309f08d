"""One control port: requests out, frames in, never waiting without a limit."""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

from lkm.vm.wire import CHUNK, HEADER, Frame, Op, pack

__all__ = ["Channel", "ChannelClosed", "ChannelTimeout", "Garbled", "fields"]

_SLICE = 0.25
"""Seconds."""


class ChannelClosed(Exception):
    """The other end has gone, or spoke what is not a frame."""


class Garbled(ChannelClosed):
    """The other end spoke what the agent never says: a module may have overwritten it, or speak for it."""


class ChannelTimeout(Exception):
    """No answer within the limit."""


def fields(form: str, payload: bytes) -> tuple[Any, ...]:
    """What a payload begins with, as struct has it. Raises Garbled where it is too short."""
    try:
        return struct.unpack_from(form, payload)
    except struct.error as error:
        raise Garbled(f"a payload of {len(payload)} bytes: {error}") from error


class Channel:
    """Frames over a connected socket. Not for two threads at once.

    `wake` are other descriptors that the wait must heed: when one is readable, and now and then, since
    another thread may have read it empty, `on_wake` is called, and may raise to end the wait.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._in = bytearray()
        self._out = bytearray()
        # Not from 1 on: a module that sends answers of its own has to find the number first.
        self._next_id = int.from_bytes(os.urandom(3), "little") + 1
        self.wake: tuple[int, ...] = ()
        self.on_wake: Callable[[], None] = lambda: None

    def fileno(self) -> int:
        """The socket's descriptor, for select."""
        return self._sock.fileno()

    def close(self) -> None:
        """Close the socket; the agent's session then waits for the next host."""
        self._sock.close()

    def send(
        self,
        op: Op,
        payload: bytes = b"",
        *,
        deadline: float,
        request: int = 0,
        earlier: bool = False,
    ) -> int:
        """Send a frame and return its request id (a new one for 0); `earlier` as for `wire.pack`."""
        request = self.queue(op, payload, request=request, earlier=earlier)
        while self.flush():
            if self._wait(deadline, write=True):
                # Both ends may be waiting for the other to read.
                self._take()
        return request

    def queue(
        self, op: Op, payload: bytes = b"", *, request: int = 0, earlier: bool = False
    ) -> int:
        """Have a frame ready for `flush`; for a caller that waits by itself. Returns its request id."""
        if not request:
            request = self._next_id
            self._next_id += 1
        self._out += pack(op, payload, request, earlier=earlier)
        return request

    def flush(self) -> bool:
        """Send what the socket takes now of what is queued; True where some of it is left."""
        try:
            while self._out:
                del self._out[: self._sock.send(self._out)]
        except BlockingIOError:
            return True
        except OSError as error:
            raise ChannelClosed(str(error)) from error
        return False

    def receive(self, deadline: float) -> Frame:
        """The next frame."""
        while (frame := self._parse()) is None:
            self._fill(deadline)
        return frame

    def pending(self) -> Frame | None:
        """A frame that is here already, without waiting."""
        frame = self._parse()
        return self._parse() if frame is None and self._take() else frame

    def request(self, op: Op, payload: bytes = b"", *, deadline: float) -> Iterator[Frame]:
        """Send a request and yield its frames, the last of which is `Op.END`."""
        return self.answers(self.send(op, payload, deadline=deadline), deadline)

    def answers(self, request: int, deadline: float) -> Iterator[Frame]:
        """The frames that answer `request`; those of a request that was given up are dropped."""
        while True:
            frame = self.receive(deadline)
            if frame.id != request:
                continue
            yield frame
            if frame.op == Op.END:
                return

    def skip_past(self, token: bytes, deadline: float) -> None:
        """Throw away all that comes up to and with `token`, frames or not."""
        while (at := self._in.find(token)) < 0:
            del self._in[: max(0, len(self._in) - len(token))]
            self._fill(deadline)
        del self._in[: at + len(token)]

    def _fill(self, deadline: float) -> None:
        if not self._take():
            self._wait(deadline)
        elif time.monotonic() > deadline:
            raise ChannelTimeout

    def _take(self) -> bool:
        """Take in what has come; False where nothing has."""
        try:
            data = self._sock.recv(1 << 18)
        except BlockingIOError:
            return False
        except OSError as error:
            raise ChannelClosed(str(error)) from error
        if not data:
            raise ChannelClosed("end of stream")
        self._in += data
        return True

    def _parse(self) -> Frame | None:
        if len(self._in) < HEADER.size:
            return None
        length, op, status, request = HEADER.unpack_from(self._in)
        if length > CHUNK:
            raise Garbled(f"a frame of {length} bytes")
        if len(self._in) < HEADER.size + length:
            return None
        payload = bytes(self._in[HEADER.size : HEADER.size + length])
        del self._in[: HEADER.size + length]
        return Frame(op, status, request, payload)

    def _wait(self, deadline: float, *, write: bool = False) -> bool:
        """Wait for the socket; True where something can be read."""
        if write and time.monotonic() > deadline:
            raise ChannelTimeout
        if self._sock.fileno() < 0:
            raise ChannelClosed("closed")
        poll = select.poll()
        poll.register(self._sock, select.POLLOUT | select.POLLIN if write else select.POLLIN)
        for fd in self.wake:
            poll.register(fd, select.POLLIN)
        left = max(0.0, deadline - time.monotonic())
        ready = dict(poll.poll((min(left, _SLICE) if self.wake else left) * 1000))
        if self.wake and (not ready or any(fd in ready for fd in self.wake)):
            self.on_wake()
        if not ready and time.monotonic() >= deadline:
            raise ChannelTimeout
        return bool(ready.get(self._sock.fileno(), 0) & select.POLLIN)
