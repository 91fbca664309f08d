"""A virtual machine that tests use: modules, files, programs, the log, and copies of itself."""

from __future__ import annotations

import io
import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from lkm.api.history import History
from lkm.api.log import Log
from lkm.api.module import Module
from lkm.api.objects import ModuleObject, build
from lkm.closing import Closing
from lkm.decoding import Decoder
from lkm.errors import UsageError
from lkm.machine import LoadedModule, MachineState
from lkm.vm import process
from lkm.vm.file import GuestFile
from lkm.vm.fresh import restored
from lkm.vm.path import GuestPath, creation
from lkm.vm.snapshot import Snapshot as Frozen

if TYPE_CHECKING:
    from lkm.api.kernel import Kernel
    from lkm.log import Record
    from lkm.params.rules import Value
    from lkm.problems import Problem
    from lkm.vm.link import Link

__all__ = ["VM", "Snapshot"]

_TIMEOUT = 30.0


class VM(Closing):
    """A running guest of its own kernel, thrown away when it is closed. Threads may share one.

    `log` is all that its kernel has printed since it was restored. `timeout` is in seconds, for each thing
    that is asked of it. A closed machine, and one whose kernel has died, answers with StateError. `link` is to
    a guest that is being restored from `frozen` already; `parent` is the history of the machine that this is
    a copy of.
    """

    def __init__(
        self,
        kernel: Kernel,
        frozen: Frozen,
        *,
        timeout: float | None = None,
        records: Sequence[Record] = (),
        link: Link | None = None,
        parent: History | None = None,
    ) -> None:
        self.kernel = kernel
        self.lock = threading.RLock()
        self._frozen = frozen
        self.machine = restored(frozen, link, timeout=timeout or _TIMEOUT)
        if parent:
            self.history = History(parent.decoder, self.machine, parent.twin, parent.steps)
        else:
            twin = partial(restored, frozen, timeout=_TIMEOUT)
            self.history = History(Decoder(kernel.facts), self.machine, twin)
        self.machine.decode = self.history.decode
        self.machine.typed, self.machine.way_out = _typed, "it goes with its machine"
        self.machine.kernel_log.begin_with(records)
        self.log = Log(self.machine)

    def __repr__(self) -> str:
        return f"<VM {self.kernel.release} {self.machine.state}>"

    @property
    def timeout(self) -> float:
        """Seconds of wall time for each thing that is asked of it; can be set."""
        return self.machine.timeout

    @timeout.setter
    def timeout(self, seconds: float) -> None:
        self.machine.timeout = seconds

    @property
    def is_running(self) -> bool:
        """Whether it can be used."""
        return self.machine.state is MachineState.RUNNING

    def close(self) -> None:
        """End it. Can be called twice."""
        self.machine.close()

    # -- modules

    def insmod(
        self,
        module: ModuleObject | str | os.PathLike[str],
        /,
        **params: Value,
    ) -> Module:
        """Load a module: an object of `lkm.build`, or what that would build. What it needs is loaded first.

        Parameters are Python values: numbers, bools, text, lists for arrays; None is the bare name.
        Raises LoadError with the errno and the log, KernelProblem when the kernel reported one, UsageError
        for a value that the parameter does not take, BuildError.
        """
        from lkm.targets import assign, needs_of
        from lkm.verbs import insmod

        chosen = module if isinstance(module, ModuleObject) else self._only(module)
        target = chosen.target
        words = assign([target], params)[target.name]
        with self.lock:
            if target.object.depends:
                loaded = {each.name for each in self.modules()}
                needs = needs_of(target, chosen.targets.all, self.kernel.facts, loaded=loaded)
                self.machine.load_needs(needs)
                self.history.needed(needs)
            with self.history.loading(target, chosen.targets):
                loaded_now = insmod(self.machine, target, words, decode=self.history.decode)
        return Module(self, target.object, target.name, self.log.since(loaded_now.records))

    def modprobe(self, name: str, /, **params: Value) -> Module:
        """Load one of the kernel's own modules by its name or alias, with what it needs.

        Raises as `insmod` does. One that is built in is UsageError too: there is nothing to load.
        """
        from lkm.kernels.modules import find

        return self.insmod(find(self.kernel.facts, name), **params)

    def rmmod(self, name: str) -> None:
        """Unload a module by its name. Raises UnloadError that says who holds it, KernelProblem."""
        from lkm.verbs import rmmod

        with self.lock, self.history.unloading(name):
            rmmod(self.machine, name, decode=self.history.decode)

    def modules(self) -> list[LoadedModule]:
        """What is loaded, the newest first, as lsmod has it."""
        return self.machine.modules()

    @property
    def problems(self) -> list[Problem]:
        """The problems that the kernel has reported since the machine was restored, traced to lines."""
        from lkm.problems import find

        return self.history.decode(find(list(self.log)))

    # -- files and programs

    def open(
        self,
        path: str | os.PathLike[str],
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        *,
        flags: int = 0,
        timeout: float | None = None,
    ) -> Any:
        """A file of the guest, opened as Python's own open() would: text or binary, buffered or not.

        With `buffering=0` and a binary mode it is a GuestFile, which has ioctl, poll and mmap. `flags` are
        those of open(2) that no mode has, as os.O_NONBLOCK. "w" and "a" make a file that is not there, but
        not in /dev. Raises OSError with the guest's errno.
        """
        name = os.fspath(path)
        access, kind = _flags(mode)
        if "x" not in mode and access & os.O_CREAT:
            access = access & ~os.O_CREAT | creation(name)
        raw = GuestFile(self.machine, name, access | flags, timeout=timeout)
        if buffering == 0:
            if "b" not in mode:
                raw.close()
                raise UsageError("only a binary file can do without a buffer", hint='mode="r+b"')
            return raw
        size = buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE
        try:
            buffered: IO[bytes] = kind(raw, size)
        except io.UnsupportedOperation as error:
            raw.close()
            raise UsageError(
                f"{name} is read and written with one buffer, and it cannot seek",
                hint=f'vm.open("{name}", "r+b", buffering=0) has none, and has ioctl(), poll(), mmap()',
            ) from error
        except BaseException:
            raw.close()
            raise
        if "b" in mode:
            return buffered
        return io.TextIOWrapper(buffered, encoding or "utf-8", line_buffering=buffering == 1)

    def path(self, path: str | os.PathLike[str]) -> GuestPath:
        """A name in the guest's file system, used as pathlib's."""
        return GuestPath(self.machine, path)

    def put(self, source: str | os.PathLike[str], target: str | os.PathLike[str]) -> GuestPath:
        """Copy a file or a tree into the guest, and return its name there; a directory gets it inside."""
        from lkm.vm.bulk import put

        local, there = Path(source), self.path(target)
        if there.is_dir() and not local.is_dir():
            there = there / local.name
        put(self.machine, local, there)
        return there

    def get(self, source: str | os.PathLike[str], target: str | os.PathLike[str]) -> Path:
        """Copy a file or a tree out of the guest, and return its name here; a directory gets it inside."""
        from lkm.vm.bulk import get

        there, local = self.path(source), Path(target)
        if local.is_dir() and not there.is_dir():
            local = local / there.name
        get(self.machine, there, local)
        return local

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        user: int | tuple[int, int] = 0,
        timeout: float | None = None,
    ) -> process.Completed:
        """Run a program of the guest to its end; `.check()` on what comes back raises CommandError.

        `user` is a user id, or that and a group id. A program that has not ended after `timeout` seconds is
        killed: CommandError. One that cannot be started ends with 127 or 126 and says why, as in a shell.
        """
        with self.start(argv, env=env, cwd=cwd, user=user, timeout=timeout) as started:
            return started.communicate(stdin, timeout=timeout)

    def start(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        user: int | tuple[int, int] = 0,
        timeout: float | None = None,
    ) -> process.GuestProcess:
        """Start a program of the guest and go on; it has stdin, stdout, stderr, wait, kill. See `run`."""
        ids = (user, user) if isinstance(user, int) else user
        if isinstance(argv, str | bytes):
            raise UsageError(
                f"{argv!r} is one text, and a program and its arguments are a list",
                hint=f'["sh", "-c", {argv!r}] has a shell take it apart',
            )
        words = [os.fspath(word) for word in argv]
        self.history.has_run = True
        return process.GuestProcess(
            self.machine, words, env=env, cwd=cwd, user=ids, timeout=timeout
        )

    def compile(
        self, source: str | os.PathLike[str], target: str = "/usr/bin", *, flags: Sequence[str] = ()
    ) -> GuestPath:
        """Compile a .c file to a static program with the kernel's own toolchain, and put it into the guest.

        Raises BuildError with the compiler's words.
        """
        from lkm.vm.guest import program

        return self.put(program(self.kernel.facts.toolchain, Path(source), flags), target)

    # -- copies of itself

    def snapshot(self) -> Snapshot:
        """The machine as it is now, with what is loaded and runs in it, to be restored as often as wanted."""
        from lkm.vm.refreeze import freeze

        with self.lock:
            records = list(self.log)
            frozen = freeze(self.machine.link, self._frozen.config, self.kernel.release)
        return Snapshot(self.kernel, frozen, records, self.machine.timeout, self.history)

    def fork(self) -> VM:
        """An independent machine in the same state as this one."""
        with self.snapshot() as taken:
            return taken.machine()

    def _only(self, source: str | os.PathLike[str]) -> ModuleObject:
        objects = build(source, self.kernel)
        if len(objects) == 1:
            return next(iter(objects.values()))
        names = ", ".join(objects)
        raise UsageError(
            f"{os.fspath(source)} has {len(objects)} modules: {names}",
            hint=f'vm.insmod(lkm.build(...)["{next(iter(objects))}"])',
        )


def _typed(verb: str, *words: str) -> str:
    """What to write in Python for a verb of the command line."""
    if verb == "rmmod":
        return ", ".join(f'vm.rmmod("{word}")' for word in words)
    if verb == "modprobe":
        return ", ".join(f'vm.modprobe("{word}")' for word in words)
    if verb == "param":
        return f'vm.path("/sys/module/{words[0]}/parameters").iterdir()'
    return "vm.modules()"


class Snapshot(Closing):
    """A frozen machine. Its files have no names, and go when it is closed or this process ends."""

    def __init__(
        self,
        kernel: Kernel,
        frozen: Frozen,
        records: Sequence[Record],
        timeout: float,
        history: History,
    ) -> None:
        self.kernel = kernel
        self._history = history
        self.frozen = frozen
        self._records = tuple(records)
        self._timeout = timeout
        self._close = weakref.finalize(self, _close_all, frozen.fds)

    def machine(self) -> VM:
        """A machine in that state; what is written to it is its own."""
        if not self._close.alive:
            from lkm.errors import StateError

            raise StateError("the snapshot", state="closed", required="open", hint="take another")
        return VM(
            self.kernel,
            self.frozen,
            timeout=self._timeout,
            records=self._records,
            parent=self._history,
        )

    def close(self) -> None:
        """Let it go; machines that were restored from it go on. Can be called twice."""
        self._close()


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


_KINDS: dict[str, tuple[int, Any]] = {
    "r": (0, io.BufferedReader),
    "w": (os.O_CREAT | os.O_TRUNC, io.BufferedWriter),
    "a": (os.O_CREAT | os.O_APPEND, io.BufferedWriter),
    "x": (os.O_CREAT | os.O_EXCL, io.BufferedWriter),
}


def _flags(mode: str) -> tuple[int, Any]:
    """The flags of open(2), and the buffer's class."""
    letter = mode.replace("b", "").replace("t", "").replace("+", "")
    if letter not in _KINDS or len(set(mode)) != len(mode) or {"b", "t"} <= set(mode):
        raise UsageError(
            f"{mode!r} is no mode to open a file", hint='"r", "w", "a", "x", with + and b'
        )
    flags, kind = _KINDS[letter]
    if "+" in mode:
        return flags | os.O_RDWR, io.BufferedRandom
    return flags | (os.O_RDONLY if letter == "r" else os.O_WRONLY), kind
