"""A running guest, as the rest of lkm sees it."""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lkm.closing import Closing
from lkm.end import End
from lkm.errors import (
    KernelProblem,
    LkmError,
    MachineError,
    ModuleFailure,
    StateError,
)
from lkm.log import Record
from lkm.machine import (
    DEFAULT_TIMEOUT,
    SETTLE,
    LoadedModule,
    MachineState,
    Needs,
    Outcome,
    ParameterFile,
    parse_modules,
    require_loaded,
)
from lkm.vm import answers
from lkm.vm.answers import CALLBACKS, parameter_files, records_of
from lkm.vm.link import Link, Reply
from lkm.vm.qemu import WINDOW_SIZE
from lkm.vm.wire import BEGINS_LOG, TELLS_LOG, Op

if TYPE_CHECKING:
    from lkm.problems import Problem
    from lkm.vm.kernel_log import KernelLog
    from lkm.vm.path import GuestPath

__all__ = ["Machine"]


class Machine(Closing):
    """A guest to load modules on, by the contract of `lkm.machine.Machine`. Threads take turns.

    `decode` traces the problems that it raises to lines of source; it can be set (a Decoder), as can `typed`
    and `way_out` where it is not the command line that acts on it.
    """

    way_out = "lkm down"

    def __init__(
        self,
        link: Link,
        *,
        release: str,
        timeout: float = DEFAULT_TIMEOUT,
        restored_from: Path | None = None,
        settle: float = SETTLE,
    ) -> None:
        self.release = release
        self.settle_time = settle
        self.timeout = timeout
        self._restored_from = restored_from
        self._link = link
        self._state = MachineState.RUNNING
        self._lock = threading.RLock()
        self._burying = threading.Lock()
        self._kernel_log: KernelLog | None = None
        self._reported = 0
        self._has_told = False
        self.decode: Callable[[Sequence[Problem]], Sequence[Problem]] = tuple
        self.typed: Callable[..., str] = _typed
        self._window: mmap.mmap | None = None
        self._window_lock = threading.Lock()

    @property
    def state(self) -> MachineState:
        """Whether it can be used now."""
        return self._state

    @property
    def is_running(self) -> bool:
        """Whether it can be used now."""
        return self._state is MachineState.RUNNING

    @property
    def root(self) -> GuestPath:
        """The guest's file system."""
        from lkm.vm.path import GuestPath

        return GuestPath(self, "/")

    @property
    def has_loaded(self) -> bool:
        """Whether a module was loaded since it was restored."""
        return self._link.has_loaded

    @property
    def link(self) -> Link:
        """The session, for a conversation that is not question and answer."""
        self.require_running()
        if self._restored_from is not None:
            self.ping()
        return self._link

    def close(self) -> None:
        """End the machine, or leave it where somebody else owns it. Can be called twice."""
        if self._window is not None:
            # A thread that copies through it has it until it sees that the machine is closed.
            with contextlib.suppress(BufferError):
                self._window.close()
            self._window = None
        self._link.close()
        self._state = MachineState.CLOSED

    def load_needs(self, needs: Needs) -> None:
        """Load modules that another needs; one that is there already is fine.

        Raises HostError when the kernel refuses one.
        """
        from lkm.ko import read_image

        for path in needs.soft:
            self.load(read_image(path))
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

    def in_and_out(
        self, name: str, image: bytes, arguments: str = "", *, timeout: float | None = None
    ) -> tuple[Outcome, Outcome | None]:
        """A load and an unload with no time between, as `lkm.machine.Guest` has it."""
        texts = (os.fsencode(text) for text in (name, arguments))
        payload = b"".join(struct.pack("<I", len(text)) + text for text in texts) + image
        started = time.monotonic()
        limit = 2 * (timeout or self.timeout)
        reply = self._request(Op.IN_AND_OUT, payload, limit, "insmod and rmmod")
        return answers.pair_in(reply.data, self._outcome(replace(reply, data=[]), started, limit))

    def inventory(self) -> None:
        """Remember what there is now, for `settle` to compare with; the first time was before the freeze."""
        self.ask(Op.INVENTORY, b"", "inventory")

    def settle(
        self, seconds: float | None = None, areas: int = 0, *, timeout: float | None = None
    ) -> Outcome:
        """Watch the kernel for `seconds` of its own time, then say what is new in `areas` since the inventory.

        `timeout` is how much longer it may take on the wall clock.
        """
        wait = self.settle_time if seconds is None else seconds
        payload = struct.pack("<QI", int(wait * 1e9), areas)
        return self._act(Op.SETTLE, payload, wait + (timeout or self.timeout), "settle")

    def parameters(self, name: str) -> dict[str, ParameterFile]:
        """What /sys/module/NAME/parameters holds, sorted by name; empty where there is nothing.

        Raises ModuleFailure where a parameter's callback does not return.
        """
        return parameter_files(self.ask(Op.PARAMS, os.fsencode(name) + b"\0", "param").data)

    def read_parameters(
        self, name: str, *, timeout: float | None = None
    ) -> tuple[Outcome, dict[str, ParameterFile]]:
        """The same, whatever comes of it."""
        started = time.monotonic()
        reply = self._request(Op.PARAMS, os.fsencode(name) + b"\0", timeout, "param")
        files = parameter_files(reply.data) if reply.end is End.DONE else {}
        return self._outcome(replace(reply, data=[]), started, timeout), files

    def read(self, path: str) -> bytes:
        """A guest file's bytes. Raises OSError with the guest's errno."""
        return b"".join(self.ask(Op.READ, os.fsencode(path) + b"\0", "read", path).data)

    def write(self, path: str, data: bytes, *, flags: int = os.O_WRONLY, mode: int = 0o644) -> None:
        """Write to a guest file with one write(2). Raises OSError with the guest's errno."""
        payload = struct.pack("<II", flags, mode) + os.fsencode(path) + b"\0" + data
        self.ask(Op.WRITE, payload, "write", path)

    def list_dir(self, path: str) -> list[tuple[str, str]]:
        """(type as in `ls -l`, name) of a guest directory's entries, sorted by name."""
        reply = self.ask(Op.LIST, os.fsencode(path) + b"\0", "list", path)
        names = (os.fsdecode(data.rstrip(b"\0")) for data in reply.data)
        return sorted(((name[:1], name[2:]) for name in names), key=lambda entry: entry[1])

    def modules(self) -> list[LoadedModule]:
        """What is loaded, the newest first, as /proc/modules has it."""
        return parse_modules(self.read("/proc/modules").decode())

    def taint(self) -> None:
        """None: what becomes of a guest ends with it, and asking takes its time."""

    def log(self, *, whole: bool = False) -> list[Record]:
        """The records that are new to this session, or with `whole` all that the guest still has."""
        reply = self.ask(Op.KMSG, struct.pack("<I", 1 if whole else 0), "dmesg")
        return records_of(reply)

    def follow(self) -> Iterator[Record]:
        """The records as they come, until the caller stops or the machine goes."""
        return answers.as_they_come(self.link.session)

    def refresh(self) -> None:
        """Set the wall clock, and give the random pool what no other restored machine has."""
        self.ask(Op.CLOCK, struct.pack("<Q", time.time_ns()) + os.urandom(32), "clock")

    def ping(self) -> None:
        """Come back when the agent has answered. Raises as `_first` does."""
        self.ask(Op.PING, b"", "ping")

    @property
    def kernel_log(self) -> KernelLog:
        """All that the kernel has printed since the machine was restored."""
        if self._kernel_log is None:
            from lkm.vm.kernel_log import KernelLog

            self._kernel_log = KernelLog(self._link, self._tell_log, is_behind=self._has_told)
        return self._kernel_log

    def _tell_log(self) -> bool:
        """Have the session tell what is new, for `kernel_log`; False where another thread is using it."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            reply = self._request(Op.KMSG, bytes(4), min(self.timeout, _LOG_LIMIT), "dmesg")
            if reply.end is not End.DONE:
                error = self._died(reply, "dmesg")
                if self.has_loaded and isinstance(error, MachineError):
                    raise ModuleFailure(error.summary) from error
                raise error
            return True
        finally:
            self._lock.release()

    @contextlib.contextmanager
    def window(self) -> Iterator[memoryview]:
        """The memory that is shared with the guest, for one at a time."""
        with self._window_lock:
            if self._window is None:
                if self.link.window is None:
                    raise MachineError("it shares no memory", stage="window")
                self._window = mmap.mmap(self.link.window, WINDOW_SIZE)
            with memoryview(self._window) as view:
                yield view

    def died(self, doing: str) -> LkmError | None:
        """The error for a guest that halted meanwhile, by what its kernel said; None for one that did not."""
        if not self._link.watch.halted:
            return None
        log = self.kernel_log
        self._bury(self._link.console())
        from lkm.problems import find

        records = log.records
        tail = [record.text for record in records[-12:]]
        if found := find(records):
            return self._problem(found[-1], tail)
        return ModuleFailure(f"{doing}: the guest halted or rebooted", evidence=tail)

    def new_problem(self) -> KernelProblem | None:
        """The first problem that the kernel has reported since this was asked last, if there is one."""
        from lkm.problems import find
        from lkm.vm.calls import FAILURES

        log = self.kernel_log
        with contextlib.suppress(*FAILURES, LkmError):
            log.refresh()
        new = [each for each in find(log.records) if each.records[0] >= self._reported]
        self._reported = len(log.records)
        if not new:
            return None
        log_of_it = [each.text for each in log.records[slice(*new[0].records)]]
        return self._problem(new[0], log_of_it)

    def _problem(self, problem: Problem, said: Sequence[str]) -> KernelProblem:
        from lkm.problems.text import evidence

        (traced,) = self.decode([problem])
        return KernelProblem(traced, log=said, traced=evidence(traced))

    def interrupt(self) -> None:
        """Have a guest that does not answer say where it spins, which ends it."""
        self._link.watch.interrupt()

    def _act(self, op: Op, payload: bytes, timeout: float | None, stage: str) -> Outcome:
        started = time.monotonic()
        reply = self._request(op, payload, timeout, stage)
        return self._outcome(reply, started, timeout)

    def _outcome(self, reply: Reply, started: float, timeout: float | None) -> Outcome:
        seconds = time.monotonic() - started
        return answers.outcome_of(reply, seconds, timeout or self.timeout)

    def ask(self, op: Op, payload: bytes, stage: str, path: str | None = None) -> Reply:
        """The agent's answer to a request of the session. Raises OSError with the guest's errno."""
        reply = self._request(op, payload, None, stage)
        if reply.end is not End.DONE:
            raise self._died(reply, stage)
        if reply.status:
            raise OSError(reply.status, os.strerror(reply.status), path)
        return reply

    def _request(self, op: Op, payload: bytes, timeout: float | None, stage: str) -> Reply:
        with self._lock:
            self.require_running()
            earlier = self._kernel_log is not None and op in BEGINS_LOG
            deadline = time.monotonic() + (timeout or self.timeout)
            send = self._link.begin if self._restored_from is None else self._first
            request = send(op, payload, deadline=deadline, stage=stage, earlier=earlier)
            reply = self._link.finish(request, deadline=deadline, stage=stage)
            self._has_told |= op in TELLS_LOG
            if self._kernel_log is not None:
                self._kernel_log.take(reply.earlier + reply.log)
            if self._link.dead or reply.end is End.HUNG:
                self._bury(reply.console or self._link.console())
            return reply

    def _first(self, op: Op, payload: bytes, *, deadline: float, stage: str, earlier: bool) -> int:
        """Send a fresh machine's first request behind a ping, whose answer shows whether the restore worked.

        At once, for a guest that waits for its next request goes from timer to timer. Raises MachineError for
        whatever it did instead of answering the ping, since no module can be to blame.
        """
        origin, self._restored_from = self._restored_from, None
        try:
            ping = self._link.begin(Op.PING, deadline=deadline, stage="restore")
            request = self._link.begin(op, payload, deadline=deadline, stage=stage, earlier=earlier)
            reply = self._link.finish(ping, deadline=deadline, stage="restore")
            if reply.end is not End.DONE:
                self._bury(reply.console or self._link.console())
                tail = "\n".join(record.text for record in records_of(reply)[-12:])
                raise MachineError(f"the guest {reply.end}", stage="restore", console_tail=tail)
        except MachineError as error:
            error.hint = f"rm -r {origin}; it is made anew then"
            raise
        return request

    def _bury(self, console: bytes) -> None:
        """Let it be dead, once its log has all that can be had: those who see it dead look there."""
        with self._burying:
            if self._state is MachineState.RUNNING:
                if self._kernel_log is not None:
                    self._kernel_log.end(console)
                self._state = MachineState.DEAD

    def require_running(self) -> None:
        """Raise StateError when it cannot be used."""
        if self._state is not MachineState.RUNNING:
            raise StateError(
                "the machine",
                state=self._state,
                required="running",
                hint="restore a fresh one",
            )

    def _died(self, reply: Reply, stage: str) -> LkmError:
        from lkm.problems import find

        if reply.end is End.GONE:
            return ModuleFailure(f"{stage}: {reply.how}")

        records = records_of(reply)
        tail = [record.text for record in records[-12:]]
        hung = reply.end is End.HUNG and stage in CALLBACKS
        if hung:
            doing = f"{CALLBACKS[stage]} did not return within {self.timeout:g} s"
            return ModuleFailure(doing, evidence=reply.stacks.splitlines() or tail)
        if found := find(records):
            return self._problem(found[0], tail)
        if reply.end is End.PANIC and stage in CALLBACKS:
            doing = f"the guest went down in {CALLBACKS[stage]} ({reply.how or 'no reason given'})"
            return ModuleFailure(doing, evidence=tail)
        return MachineError(
            f"the guest {reply.end}: no answer", stage=stage, console_tail="\n".join(tail)
        )


def _typed(verb: str, *words: str) -> str:
    return " ".join(("lkm", verb, *words))


_LOG_LIMIT = 10.0
"""Seconds that a guest has for saying what is new in its log."""
