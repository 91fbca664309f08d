"""A kernel to load modules into, as the rest of lkm sees it: a guest's, or this computer's own."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntFlag, StrEnum
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from lkm.end import End
from lkm.errors import HostError, errno_name

if TYPE_CHECKING:
    from pathlib import Path

    from lkm.log import Record
    from lkm.vm.path import GuestPath

__all__ = [
    "DEFAULT_TIMEOUT",
    "REAL_SETTLE",
    "SETTLE",
    "TAINTED",
    "Area",
    "Guest",
    "Left",
    "LoadedModule",
    "Machine",
    "MachineState",
    "NeedRefusedError",
    "Needs",
    "Outcome",
    "ParameterFile",
    "Taint",
    "parse_modules",
    "require_loaded",
    "sections",
    "taint_letters",
]

DEFAULT_TIMEOUT = 30.0
"""Seconds of wall time that one request to a machine may take."""
SETTLE = 2.0
"""Seconds that a machine on virtual time is watched after a load and after an unload: it skips what is idle."""
REAL_SETTLE = 0.2
"""The same for a guest on real time, where whoever waits waits as long as that."""
TAINTED = "/proc/sys/kernel/tainted"

_TAINTS = "PFSRMBUDAWCIOELKXTNJ"
"""taint_flags[] of kernel/panic.c (7.3), the letter of bit 0 first; earlier series have fewer of the same."""


class MachineState(StrEnum):
    """Whether a machine can be used."""

    RUNNING = "running"
    DEAD = "dead"
    CLOSED = "closed"


class Area(IntFlag):
    """What a module can leave something behind in; the twin of the agent's (`vm/agent/inventory.c`)."""

    PROC = 1
    SYSCTL = 2
    DEVICES = 4
    SYSFS = 8
    CACHES = 16
    OTHER = 32
    THREADS = 64
    MISC = 128
    NET = 256
    TIMERS = 512
    ALL = 1023


@dataclass(frozen=True)
class Left:
    """Something that is there and was not before.

    `kind` is `path` or what list of the kernel has it (`device`, `crypto`, `kthread`, ...), `name` the path or
    the entry; `more` is a thread's stack, the target of a link, or the section
    of the list.
    """

    kind: str
    name: str
    more: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of one load, one unload, or the time after it.

    `errno` is 0 or what the system call gave; it means nothing unless `end` is `done`. `records` is the
    log of that time, `seconds` the wall time that was waited, `guest_seconds` what passed on the
    kernel's own clock inside the system call. `stacks` says where a hanging process is in the kernel, or else
    where its processors are, and `remains` what of it could not be ended. `lost` counts the records that the
    log's ring dropped before they could be read. `how` is QEMU's word for how a guest went down, or what became
    of a machine whose end is `gone`; `left` what is new since the inventory, where that was asked for.
    `asked` is what the kernel of a guest, which has no modprobe, ran it for (request_module()), each once.
    """

    end: End
    errno: int
    records: tuple[Record, ...]
    seconds: float
    guest_seconds: float = 0.0
    stacks: str = ""
    lost: int = 0
    remains: str = ""
    left: tuple[Left, ...] = ()
    how: str = ""
    asked: tuple[str, ...] = ()


@dataclass(frozen=True)
class LoadedModule:
    """A line of /proc/modules: name, bytes in memory, reference count, who refers to it.

    `permanent` says that it has no exit function (kernel/module/procfs.c, print_unload_info()).
    """

    name: str
    size: int
    refcount: int
    used_by: tuple[str, ...]
    permanent: bool = False


@dataclass(frozen=True)
class ParameterFile:
    """A file in /sys/module/NAME/parameters: its permission bits, and its value where root can read it."""

    mode: int
    value: str | None


@dataclass(frozen=True)
class Needs:
    """The files to load before a module, first things first: the kernel's `own` modules, then `others`.

    `soft` come before them, and may be refused.
    """

    own: tuple[Path, ...] = ()
    others: tuple[Path, ...] = ()
    soft: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Taint:
    """The kernel's taint letters without blanks, `OE`, when the machine was entered and now."""

    before: str
    after: str


class Machine(Protocol):
    """A kernel to load modules into. Close it, or use it as a context manager.

    Not for two threads at once. Every call comes back within its `timeout` (seconds of wall time) and a
    few seconds more. A machine whose kernel cannot be asked any more answers with StateError from then on.
    """

    @property
    def release(self) -> str:
        """The kernel that it runs, as `uname -r` has it."""
        ...

    @property
    def root(self) -> Path | GuestPath:
        """Its file system, used as pathlib's. A Path is one where others work, too."""
        ...

    def typed(self, verb: str, *words: str) -> str:
        """What to type for `lkm rmmod NAME` and the like to act on it."""
        ...

    @property
    def way_out(self) -> str:
        """What to type when a module can never be unloaded."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def close(self) -> None:
        """Leave the machine. Can be called twice."""
        ...

    def ping(self) -> None:
        """Come back when the machine can be used. Raises MachineError or HostError where it cannot."""
        ...

    def load_needs(self, needs: Needs) -> None:
        """Load modules that another needs; one that is there already is fine.

        Raises HostError when the kernel refuses one.
        """
        ...

    def load(self, image: bytes, arguments: str = "", *, timeout: float | None = None) -> Outcome:
        """init_module(2) with these bytes and arguments, whatever comes of it."""
        ...

    def unload(self, name: str, *, timeout: float | None = None) -> Outcome:
        """delete_module(2), whatever comes of it."""
        ...

    def inventory(self) -> None:
        """Remember what there is now, for `settle` to compare with; a guest's is there when it is restored."""
        ...

    def settle(
        self, seconds: float | None = None, areas: int = 0, *, timeout: float | None = None
    ) -> Outcome:
        """Watch the kernel for that long on its own clock, whatever comes of it.

        None is the machine's own time: SETTLE, REAL_SETTLE, or none at all. With `areas` of `Area` the outcome
        has what is `left` there since the inventory.
        """
        ...

    def parameters(self, name: str) -> dict[str, ParameterFile]:
        """What /sys/module/NAME/parameters holds, sorted by name; empty where there is nothing.

        Raises ModuleFailure where a parameter's callback does not return.
        """
        ...

    def read_parameters(
        self, name: str, *, timeout: float | None = None
    ) -> tuple[Outcome, dict[str, ParameterFile]]:
        """The same, whatever comes of it."""
        ...

    def modules(self) -> list[LoadedModule]:
        """What is loaded, the newest first, as /proc/modules has it."""
        ...

    def taint(self) -> Taint | None:
        """What the kernel's taint was and is; None for a guest, which is thrown away."""
        ...

    def log(self, *, whole: bool = False) -> list[Record]:
        """The records that are new to this session, or with `whole` all that the kernel still has."""
        ...

    def follow(self) -> Iterator[Record]:
        """The records as they come, until the caller stops or the machine goes."""
        ...

    def read(self, path: str) -> bytes:
        """A file's bytes. Raises OSError with the kernel's errno."""
        ...

    def write(self, path: str, data: bytes, *, flags: int = ..., mode: int = ...) -> None:
        """Write to a file with one write(2). Raises OSError with the kernel's errno."""
        ...

    def list_dir(self, path: str) -> list[tuple[str, str]]:
        """(type as in `ls -l`, name) of a directory's entries, sorted by name."""
        ...


class Guest(Machine, Protocol):
    """A machine of which nothing is missed when it goes."""

    def in_and_out(
        self, name: str, image: bytes, arguments: str = "", *, timeout: float | None = None
    ) -> tuple[Outcome, Outcome | None]:
        """A load and an unload with no time between; None for an unload that it did not come to.

        The log of both is that of the last. `timeout` is for each of them.
        """
        ...


class NeedRefusedError(HostError):
    """A module that another needs does not load. `path` is its file, `outcome` what came of it."""

    def __init__(self, path: Path, outcome: Outcome) -> None:
        what = errno_name(outcome.errno) if outcome.end is End.DONE else str(outcome.end)
        super().__init__(
            f"{path.name}, which is needed, does not load: {what}",
            evidence=[record.text for record in outcome.records[-6:]],
        )
        self.path = path
        self.outcome = outcome


def require_loaded(outcome: Outcome, path: Path) -> None:
    """Raise NeedRefusedError unless a module that another needs was loaded, or was there already."""
    if outcome.end is End.DONE and outcome.errno in (0, errno.EEXIST):
        return
    raise NeedRefusedError(path, outcome)


def parse_modules(text: str) -> list[LoadedModule]:
    """The lines of /proc/modules (kernel/module/procfs.c, m_show())."""
    return [_loaded_module(line) for line in text.splitlines()]


def _loaded_module(line: str) -> LoadedModule:
    name, size, count, users, *_ = line.split()
    users_list = [] if users == "-" else [user for user in users.split(",") if user]
    used_by = tuple(user for user in users_list if not user.startswith("["))
    refcount = int(count) if count != "-" else 0
    return LoadedModule(name, int(size), refcount, used_by, "[permanent]" in users_list)


def taint_letters(number: int) -> str:
    """The letters of a value of /proc/sys/kernel/tainted, `?` for a bit that is not known here."""
    bits = (bit for bit in range(number.bit_length()) if number >> bit & 1)
    return "".join(_TAINTS[bit] if bit < len(_TAINTS) else "?" for bit in bits)


def sections(machine: Machine, name: str) -> dict[str, int]:
    """Where a loaded module's sections are, by /sys/module/NAME/sections (kernel/module/sysfs.c).

    Empty where the kernel does not tell; an address is 0 for who may not see it (kernel.kptr_restrict).
    """
    directory = f"/sys/module/{name}/sections"
    try:
        files = [entry for _, entry in machine.list_dir(directory)]
        return {file: int(machine.read(f"{directory}/{file}"), 16) for file in files}
    except (OSError, ValueError):
        return {}
