"""All that a guest's kernel has printed since it was restored, in order, from whichever thread asks."""

from __future__ import annotations

import struct
import threading
import time
from typing import TYPE_CHECKING

from lkm.log import Record, merge, parse_console, parse_kmsg
from lkm.vm.channel import ChannelTimeout
from lkm.vm.mux import Conversation
from lkm.vm.wire import MARK, Op

if TYPE_CHECKING:
    from lkm.vm.link import Link

__all__ = ["KernelLog"]

_LIMIT = 10.0


class KernelLog:
    """Grows by itself only when it is asked to. After the guest's end it has what the console kept."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._conversation: Conversation | None = None
        self._records: list[Record] = []
        self._lock = threading.RLock()

    @property
    def records(self) -> list[Record]:
        """What has been taken in so far."""
        return self._records

    def refresh(self) -> list[Record]:
        """Take in what is new, and return it. Raises what a conversation does."""
        deadline = time.monotonic() + _LIMIT
        with self._lock:
            before = len(self._records)
            talk = self._talk()
            request = talk.send(Op.KMSG, struct.pack("<I", 0), deadline=deadline)
            self._until_end(talk, request, deadline)
            return self._records[before:]

    def wait(self, deadline: float) -> list[Record]:
        """Wait until there is something new and return it; empty when the time is over."""
        with self._lock:
            if new := self.refresh():
                return new
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
        with self._lock:
            self._records[:] = merge(self._records, parse_console(console))

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
        self._records += [record for record in parse_kmsg(raw) if record.text != MARK]
