"""A running guest, as the rest of lkm sees it."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from lkm.end import End
from lkm.errors import KernelProblem, MachineError, StateError, errno_name
from lkm.log import Record, lost, merge, parse_console, parse_kmsg
from lkm.machine import (
    DEFAULT_TIMEOUT,
    LoadedModule,
    MachineState,
    Needs,
    Outcome,
    ParameterFile,
    parse_modules,
    require_loaded,
)
from lkm.vm.channel import ChannelClosed, ChannelTimeout
from lkm.vm.link import Link, Reply
from lkm.vm.wire import Op

__all__ = ["Machine", "records_of"]

MARK = "lkm-agent: mark"
"""What the agent writes to the log to close an open line; it is left out of every log."""


class Machine:
    """A guest to load modules on, by the contract of `lkm.machine.Machine`."""

    options: tuple[str, ...] = ()
    way_out = "lkm down"

    def __init__(
        self,
        link: Link,
        *,
        release: str,
        timeout: float = DEFAULT_TIMEOUT,
        restored_from: Path | None = None,
    ) -> None:
        self.release = release
        self.timeout = timeout
        self._restored_from = restored_from
        self._link = link
        self._state = MachineState.RUNNING

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def state(self) -> MachineState:
        """Whether it can be used now."""
        return self._state

    @property
    def link(self) -> Link:
        """The session, for a conversation that is not question and answer."""
        self._require_running()
        return self._link

    def close(self) -> None:
        """End the machine, or leave it where somebody else owns it. Can be called twice."""
        self._link.close()
        self._state = MachineState.CLOSED

    def load_needs(self, needs: Needs) -> None:
        """Load modules that another needs; one that is there already is fine.

        Raises HostError when the kernel refuses one.
        """
        from lkm.ko import read_image

        for path in (*needs.own, *needs.others):
            require_loaded(self.load(read_image(path)), path)

    def load(self, image: bytes, arguments: str = "", *, timeout: float | None = None) -> Outcome:
        """init_module(2) with these bytes and arguments, whatever comes of it."""
        args = os.fsencode(arguments)
        payload = struct.pack("<I", len(args)) + args + image
        return self._act(Op.LOAD, payload, timeout, "insmod")

    def unload(self, name: str, *, timeout: float | None = None) -> Outcome:
        """delete_module(2), whatever comes of it."""
        return self._act(Op.UNLOAD, os.fsencode(name) + b"\0", timeout, "rmmod")

    def parameters(self, name: str) -> dict[str, ParameterFile]:
        """What /sys/module/NAME/parameters holds, sorted by name; empty where there is nothing."""
        reply = self._ask(Op.PARAMS, os.fsencode(name) + b"\0", "param")
        files: dict[str, ParameterFile] = {}
        for data in reply.data:
            mode, unread = struct.unpack_from("<II", data)
            parameter, _, value = data[8:].partition(b"\0")
            text = None if unread else value.decode(errors="replace").removesuffix("\n")
            files[parameter.decode()] = ParameterFile(mode, text)
        return dict(sorted(files.items()))

    def read(self, path: str) -> bytes:
        """A guest file's bytes. Raises OSError with the guest's errno."""
        return b"".join(self._ask(Op.READ, os.fsencode(path) + b"\0", "read", path).data)

    def write(self, path: str, data: bytes, *, flags: int = os.O_WRONLY, mode: int = 0o644) -> None:
        """Write to a guest file with one write(2). Raises OSError with the guest's errno."""
        payload = struct.pack("<II", flags, mode) + os.fsencode(path) + b"\0" + data
        self._ask(Op.WRITE, payload, "write", path)

    def list_dir(self, path: str) -> list[tuple[str, str]]:
        """(type as in `ls -l`, name) of a guest directory's entries, sorted by name."""
        reply = self._ask(Op.LIST, os.fsencode(path) + b"\0", "list", path)
        names = (os.fsdecode(data.rstrip(b"\0")) for data in reply.data)
        return sorted(((name[0], name[2:]) for name in names), key=lambda entry: entry[1])

    def modules(self) -> list[LoadedModule]:
        """What is loaded, the newest first, as /proc/modules has it."""
        return parse_modules(self.read("/proc/modules").decode())

    def taint(self) -> None:
        """None: what becomes of a guest ends with it, and asking takes its time."""

    def log(self, *, whole: bool = False) -> list[Record]:
        """The records that are new to this session, or with `whole` all that the guest still has."""
        reply = self._ask(Op.KMSG, struct.pack("<I", 1 if whole else 0), "dmesg")
        return records_of(reply)

    def follow(self) -> Iterator[Record]:
        """The records as they come, until the caller stops or the machine goes."""
        session = self.link.session
        try:
            request = session.send(Op.KMSG, struct.pack("<I", 2), deadline=time.monotonic() + 10)
            while True:
                try:
                    frame = session.receive(time.monotonic() + 60)
                except ChannelTimeout:
                    continue
                if frame.id == request and frame.op == Op.LOG:
                    yield from (r for r in parse_kmsg(frame.payload) if r.text != MARK)
        except ChannelClosed as error:
            raise MachineError("the machine has gone", stage="dmesg", hint="lkm ps") from error

    def refresh(self) -> None:
        """Set the wall clock, and give the random pool what no other restored machine has."""
        self._ask(Op.CLOCK, struct.pack("<Q", time.time_ns()) + os.urandom(32), "clock")

    def ping(self) -> None:
        """Come back when the agent has answered.

        As a fresh machine's first request it shows whether the restore worked; then MachineError is raised
        for whatever the guest did instead, since no module can be to blame.
        """
        origin = self._restored_from
        if origin is None:
            self._ask(Op.PING, b"", "ping")
            return
        try:
            reply = self._request(Op.PING, b"", None, "restore")
            if reply.end is not End.DONE:
                tail = "\n".join(record.text for record in records_of(reply)[-12:])
                raise MachineError(f"the guest {reply.end}", stage="restore", console_tail=tail)
        except MachineError as error:
            error.hint = f"rm -r {origin}; it is made anew then"
            raise

    def _act(self, op: Op, payload: bytes, timeout: float | None, stage: str) -> Outcome:
        started = time.monotonic()
        reply = self._request(op, payload, timeout, stage)
        seconds = time.monotonic() - started
        if reply.end is End.HUNG:
            seconds = min(seconds, timeout or self.timeout)
        spent = int.from_bytes(reply.value, "little") / 1e9
        return Outcome(
            reply.end,
            reply.status,
            tuple(records_of(reply)),
            seconds,
            spent,
            reply.stacks,
            lost(parse_kmsg(reply.log)),
        )

    def _ask(self, op: Op, payload: bytes, stage: str, path: str | None = None) -> Reply:
        reply = self._request(op, payload, None, stage)
        if reply.end is not End.DONE:
            raise self._died(reply, stage)
        if reply.status:
            raise OSError(reply.status, errno_name(reply.status), path)
        return reply

    def _request(self, op: Op, payload: bytes, timeout: float | None, stage: str) -> Reply:
        self._require_running()
        self._restored_from = None
        reply = self._link.request(op, payload, timeout=timeout or self.timeout, stage=stage)
        if self._link.dead or reply.end is End.HUNG:
            self._state = MachineState.DEAD
        return reply

    def _require_running(self) -> None:
        if self._state is not MachineState.RUNNING:
            raise StateError(
                "the machine",
                state=self._state,
                required="running",
                hint="restore a fresh one",
            )

    def _died(self, reply: Reply, stage: str) -> KernelProblem | MachineError:
        from lkm.problems import find

        records = records_of(reply)
        tail = [record.text for record in records[-12:]]
        if found := find(records):
            return KernelProblem(found[0], log=tail)
        return MachineError(
            f"the guest {reply.end}: no answer", stage=stage, console_tail="\n".join(tail)
        )


def records_of(reply: Reply) -> list[Record]:
    """The log that a reply carries, without the agent's marks."""
    records = parse_kmsg(reply.log)
    if reply.console:
        records = merge(records, parse_console(reply.console))
    return [record for record in records if record.text != MARK]
