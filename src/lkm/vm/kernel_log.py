"""All that a guest's kernel has printed since it was restored, in order, from whichever thread asks."""

from __future__ import annotations

import contextlib
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from lkm.log import Record, merge, parse_console, parse_kmsg
from lkm.vm.channel import ChannelTimeout
from lkm.vm.mux import Conversation
from lkm.vm.wire import MARK, Op

if TYPE_CHECKING:
    from lkm.vm.link import Link

__all__ = ["KernelLog"]

_LIMIT = 10.0
_MOMENT = 0.1


class KernelLog:
    """Grows when it is asked to, and by what the session's answers carry, which its machine gives to `take`.

    After the guest's end it has what the console kept. `ask` has the session tell what is new, where nobody
    else is using it; else a conversation is asked, which costs a process of the guest. With `is_behind` the
    session has told what this log has not, and the conversation has all of it. What begins with `aside_of`,
    where that is set, is in `aside` and not in `records`.
    """

    def __init__(self, link: Link, ask: Callable[[], bool], *, is_behind: bool = False) -> None:
        self.aside_of: str | None = None
        self.aside: list[Record] = []
        self._link = link
        self._ask = ask
        self._is_behind = is_behind
        self._last = -1
        self._growing = threading.Lock()
        self._conversation: Conversation | None = None
        self._records: list[Record] = []
        self._lock = threading.Lock()
        self._queue = threading.Lock()

    @property
    def records(self) -> list[Record]:
        """What has been taken in so far."""
        return self._records

    def begin_with(self, records: Sequence[Record]) -> None:
        """What the machine that this one is a copy of had printed."""
        self._records += records
        self._last = max((r.seq for r in records if r.seq is not None), default=-1)

    def position(self, records: Sequence[Record]) -> int:
        """Where the first of these is that is here; the end for none."""
        numbers = {record.seq for record in records}
        found = (at for at, record in enumerate(self._records) if record.seq in numbers)
        return next(found, len(self._records))

    def take(self, raw: bytes) -> None:
        """Add records of /dev/kmsg; what is here already comes from more than one."""
        with self._growing:
            new = [r for r in parse_kmsg(raw) if r.seq is not None and r.seq > self._last]
            self._last = max((r.seq for r in new if r.seq is not None), default=self._last)
            self._keep(new)

    def refresh(self) -> list[Record]:
        """Take in what is new, and return it. Raises what a conversation does."""
        with self._turn():
            return self._refresh()

    def wait(self, deadline: float) -> list[Record]:
        """Wait for something new and return it; empty after a moment, so that others have their turn."""
        with self._turn():
            if new := self._refresh():
                return new
            deadline = min(deadline, time.monotonic() + _MOMENT)
            talk = self._talk()
            request = talk.send(Op.KMSG, struct.pack("<I", 2), deadline=deadline)
            before = len(self._records)
            try:
                while len(self._records) == before:
                    frame = talk.receive(deadline)
                    if frame.id == request and frame.op == Op.LOG:
                        self.take(frame.payload)
            except ChannelTimeout:
                pass
            limit = time.monotonic() + _LIMIT
            talk.send(Op.STOP, deadline=limit, request=request)
            self._until_end(talk, request, limit)
            return self._records[before:]

    def end(self, console: bytes) -> None:
        """Add what a guest that has died could not send."""
        with self._turn():
            known = sorted([*self._records, *self.aside], key=lambda record: record.time)
            merged = merge(known if self.aside else self._records, parse_console(console))
            self._records.clear()
            self.aside.clear()
            self._keep(merged)

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        # Whoever waits for the lock holds the queue: one who comes back at once stands behind.
        with self._queue:
            self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()

    def _refresh(self) -> list[Record]:
        before = len(self._records)
        if self._is_behind or not self._ask():
            deadline = time.monotonic() + _LIMIT
            talk = self._talk()
            request = talk.send(Op.KMSG, struct.pack("<I", 0), deadline=deadline)
            self._until_end(talk, request, deadline)
            self._is_behind = False
        return self._records[before:]

    def _talk(self) -> Conversation:
        if self._conversation is None:
            self._conversation = self._link.mux.log()
        return self._conversation

    def _until_end(self, talk: Conversation, request: int, deadline: float) -> None:
        raw = b""
        while True:
            frame = talk.receive(deadline)
            if frame.id == request and frame.op == Op.LOG:
                raw += frame.payload
            if frame.id == request and frame.op == Op.END:
                break
        self.take(raw)

    def _keep(self, records: Iterable[Record]) -> None:
        for record in records:
            if self.aside_of and record.text.startswith(self.aside_of):
                self.aside.append(record)
            elif record.text != MARK:
                self._records.append(record)
