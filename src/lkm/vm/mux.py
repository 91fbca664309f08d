"""Many conversations with the agent at once, from any thread: the twin of `agent/mux.c`.

One hidden thread reads what the guest says and hands it to whoever waits for it. It begins with the first
channel and ends with the machine.
"""

from __future__ import annotations

import contextlib
import select
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable

from lkm.vm.channel import ChannelClosed, ChannelTimeout, Garbled, fields
from lkm.vm.qmp import QmpClosed
from lkm.vm.watch import Watch
from lkm.vm.wire import CHUNK, HEADER, LOG_CHANNEL, Frame, Op, pack

__all__ = [
    "HELD_LIMIT",
    "Conversation",
    "ConversationEnded",
    "GuestHalted",
    "Mux",
    "MuxClosed",
    "Overflow",
]

HELD_LIMIT = 64 << 20
"""How many bytes that nobody has taken yet a conversation may hold; what floods more is ended."""

_SLICE = 0.25
_REQUEST = 0xFFFF


class ConversationEnded(Exception):
    """The process at the guest's end has gone; `signal` is what killed it, or 0."""

    def __init__(self, signal: int) -> None:
        super().__init__(f"ended by signal {signal}")
        self.signal = signal


class GuestHalted(Exception):
    """The guest has halted or rebooted."""


class MuxClosed(ChannelClosed):
    """This side has closed it, from another thread."""


class Overflow(Exception):
    """It said more than `HELD_LIMIT` bytes that nobody took."""


class Mux:
    """The agent's channels over one socket. `begin` is called before anything is sent.

    `last` is the last channel's number that has been used, also by an earlier life of the guest.
    """

    def __init__(
        self, sock: socket.socket, watch: Watch, begin: Callable[[], None], last: int
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._watch = watch
        self._begin = begin
        self._in = bytearray()
        self._sending = threading.Lock()
        self._changed = threading.Condition()
        self._open: dict[int, Conversation] = {}
        self.last = last
        self._gone: Exception | None = None
        self._thread: threading.Thread | None = None

    def log(self) -> Conversation:
        """The conversation about the log, for one who asks for it."""
        with self._changed:
            self._start()
            return self._open.setdefault(LOG_CHANNEL, Conversation(self, LOG_CHANNEL))

    def conversation(self) -> Conversation:
        """A new channel; its process in the guest begins with its first request."""
        with self._changed:
            self._start()
            self.last = self.last % 0xFFFF + 1
            while self.last in self._open or self.last == LOG_CHANNEL:
                self.last = self.last % 0xFFFF + 1
            made = Conversation(self, self.last)
            self._open[made.number] = made
            return made

    def end_all(self, seconds: float) -> bool:
        """End the processes of all conversations but the log's; whether they have gone within that time.

        One that sleeps in the kernel for ever, or spins there, does not go.
        """
        with self._changed:
            others = [one for number, one in self._open.items() if number != LOG_CHANNEL]
        for each in others:
            each.close()
        with self._changed:
            return self._changed.wait_for(lambda: self._open.keys() <= {LOG_CHANNEL}, seconds)

    def close(self) -> None:
        """End them all, on this side; who waits gets MuxClosed."""
        self._gone = MuxClosed("closed")
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        if self._thread:
            self._thread.join()
        self._sock.close()

    def send(self, data: bytes, deadline: float) -> None:
        """Send whole frames. Raises ChannelTimeout, ChannelClosed."""
        left = memoryview(data)
        if not self._sending.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise ChannelTimeout
        try:
            while left:
                try:
                    left = left[self._sock.send(left) :]
                except BlockingIOError:
                    self._until_writable(deadline)
                except OSError as error:
                    if isinstance(self._gone, MuxClosed):
                        raise MuxClosed("closed") from error
                    raise ChannelClosed(str(error)) from error
        finally:
            self._sending.release()

    def wait(self, conversation: Conversation, deadline: float) -> Frame:
        """The next frame of a conversation; see `Conversation.receive`."""
        with self._changed:
            while not conversation.frames:
                if conversation.ended is not None:
                    raise conversation.ended
                if self._gone:
                    raise self._gone
                if self._watch.halted:
                    raise GuestHalted
                if time.monotonic() >= deadline:
                    raise ChannelTimeout
                self._changed.wait(min(_SLICE, max(0.0, deadline - time.monotonic())))
            frame = conversation.frames.popleft()
            conversation.held -= len(frame.payload)
            return frame

    def _start(self) -> None:
        if self._thread is None:
            self._begin()
            self._thread = threading.Thread(target=self._read, name="lkm-mux", daemon=True)
            self._thread.start()

    def _until_writable(self, deadline: float) -> None:
        poll = select.poll()
        poll.register(self._sock, select.POLLOUT)
        while not poll.poll(_SLICE * 1000):
            if self._watch.halted:
                raise GuestHalted
            if time.monotonic() >= deadline:
                raise ChannelTimeout

    def _read(self) -> None:
        poll = select.poll()
        for fd in (self._sock.fileno(), *self._watch.filenos()):
            poll.register(fd, select.POLLIN)
        gone: Exception | None = None
        while gone is None:
            ready = {fd for fd, _ in poll.poll()}
            try:
                if self._sock.fileno() in ready:
                    self._take()
                if ready - {self._sock.fileno()}:
                    self._watch.heed()
                    gone = GuestHalted() if self._watch.halted else None
            except (ChannelClosed, QmpClosed) as error:
                gone = error
        with self._changed:
            self._gone = self._gone or gone
            self._changed.notify_all()

    def _take(self) -> None:
        try:
            data = self._sock.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError as error:
            raise ChannelClosed(str(error)) from error
        if not data:
            raise ChannelClosed("end of stream")
        self._in += data
        at = 0
        with self._changed:
            while len(self._in) - at >= HEADER.size:
                length, op, status, name = HEADER.unpack_from(self._in, at)
                if length > CHUNK:
                    raise Garbled(f"a frame of {length} bytes")
                end = at + HEADER.size + length
                if len(self._in) < end:
                    break
                payload = bytes(self._in[at + HEADER.size : end])
                self._deliver(name >> 16, Frame(op, status, name & _REQUEST, payload))
                at = end
            self._changed.notify_all()
        del self._in[:at]

    def _deliver(self, number: int, frame: Frame) -> None:
        conversation = self._open.get(number)
        if conversation is None:
            return
        if frame.op == Op.DIED:
            (by,) = fields("<i", frame.payload)
            conversation.ended = conversation.ended or ConversationEnded(by)
            del self._open[number]
            return
        conversation.held += len(frame.payload)
        if conversation.held <= HELD_LIMIT:
            conversation.frames.append(frame)
        elif conversation.ended is None:
            conversation.ended = Overflow()
            with contextlib.suppress(OSError):
                self._sock.send(pack(Op.CLOSE, b"", number << 16))


class Conversation:
    """One channel: requests out, frames in, each conversation independent of all others.

    `frames`, `held` and `ended` are the mux's. `pid` is the guest's process, where its user knows it.
    """

    def __init__(self, mux: Mux, number: int) -> None:
        self._mux = mux
        self.number = number
        self._next = 0
        self.frames: deque[Frame] = deque()
        self.held = 0
        self.ended: Exception | None = None
        self.pid: int | None = None
        self.lock = threading.RLock()

    def send(self, op: Op, payload: bytes = b"", *, deadline: float, request: int = 0) -> int:
        """Send a frame and return its request id (a new one for 0)."""
        if not request:
            self._next = request = self._next % _REQUEST + 1
        self._mux.send(pack(op, payload, self.number << 16 | request), deadline)
        return request

    def receive(self, deadline: float) -> Frame:
        """The next frame.

        Raises ChannelTimeout, ConversationEnded, GuestHalted, Overflow; ChannelClosed for a machine that has
        gone.
        """
        return self._mux.wait(self, deadline)

    def close(self) -> None:
        """End the process at the other end, whatever it does; its program or file goes with it."""
        if self.ended is None:
            with contextlib.suppress(ChannelTimeout, ChannelClosed, GuestHalted):
                self._mux.send(
                    pack(Op.CLOSE, b"", self.number << 16), deadline=time.monotonic() + 1
                )
            # What sleeps in the kernel for ever cannot be ended, and is not asked again.
            self.ended = self.ended or ConversationEnded(signal.SIGKILL)
