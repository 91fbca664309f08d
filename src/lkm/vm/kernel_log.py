"""All that a guest's kernel has printed since it was restored, in order, from whichever thread asks."""

from __future__ import annotations

import contextlib
import struct
import threading
import time
from collections.abc import Iterable, Iterator
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
    """Grows by itself only when it is asked to. After the guest's end it has what the console kept.

    What begins with `aside_of`, where that is set, is in `aside` and not in `records`.
    """

    def __init__(self, link: Link) -> None:
        self.aside_of: str | None = None
        self.aside: list[Record] = []
        self._link = link
        self._conversation: Conversation | None = None
        self._records: list[Record] = []
        self._lock = threading.Lock()
        self._queue = threading.Lock()

    @property
    def records(self) -> list[Record]:
        """What has been taken in so far."""
        return self._records

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
                        self._take(frame.payload)
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
        deadline = time.monotonic() + _LIMIT
        before = len(self._records)
        talk = self._talk()
        request = talk.send(Op.KMSG, struct.pack("<I", 0), deadline=deadline)
        self._until_end(talk, request, deadline)
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
        self._take(raw)

    def _take(self, raw: bytes) -> None:
        self._keep(parse_kmsg(raw))

    def _keep(self, records: Iterable[Record]) -> None:
        for record in records:
            if self.aside_of and record.text.startswith(self.aside_of):
                self.aside.append(record)
            elif record.text != MARK:
                self._records.append(record)
