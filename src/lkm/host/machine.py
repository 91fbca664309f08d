"""The running kernel, by the same contract as a guest."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from stat import S_IMODE, filemode

from lkm import ko, proc
from lkm.closing import Closing
from lkm.end import End
from lkm.errors import HostError, StateError
from lkm.host import call
from lkm.host.kmsg import Kmsg
from lkm.host.requirements import require_privilege, require_support
from lkm.log import Record
from lkm.machine import (
    DEFAULT_TIMEOUT,
    TAINTED,
    LoadedModule,
    MachineState,
    Needs,
    Outcome,
    ParameterFile,
    Taint,
    parse_modules,
    require_loaded,
    sections,
    taint_letters,
)

__all__ = ["HostMachine"]


class HostMachine(Closing):
    """This computer's own kernel, by the contract of `lkm.machine.Machine`. What is loaded stays loaded.

    `sections` are where the modules lay that it has loaded, by their names: one that is gone cannot be asked.
    With `tidy`, what `load_needs` loaded and the kernel does not own is unloaded by `close`. Raises HostError
    where the kernel has no modules. A load or unload raises HostError without CAP_SYS_MODULE, and where one
    hung before, StateError.
    """

    way_out = "sudo reboot"

    def __init__(self, *, timeout: float = DEFAULT_TIMEOUT, tidy: bool = False) -> None:
        require_support()
        self.release = os.uname().release
        self.timeout = timeout
        self._tidy = tidy
        self._state = MachineState.RUNNING
        self._kmsg: Kmsg | None = None
        self._needed: list[str] = []
        self.sections: dict[str, dict[str, int]] = {}
        self._taint = _taint()

    @property
    def state(self) -> MachineState:
        """Whether it can be used now."""
        return self._state

    @property
    def root(self) -> Path:
        """This computer's file system."""
        return Path("/")

    def typed(self, verb: str, *words: str) -> str:
        """The command line that does this here."""
        return " ".join(("lkm", verb, "--host", *words))

    def close(self) -> None:
        """Leave it as it is, but for what was needed for a while. Can be called twice."""
        while self._tidy and self._needed and self._state is MachineState.RUNNING:
            self.unload(self._needed.pop())
        if self._kmsg:
            self._kmsg.close()
            self._kmsg = None
        self._state = MachineState.CLOSED

    def ping(self) -> None:
        """Come back at once: it runs, or nothing would."""
        self._require_running()

    def load_needs(self, needs: Needs) -> None:
        """Load modules that another needs; one that is there already is fine.

        The kernel's own are modprobe's (kmod), so that modprobe.d(5) holds. Raises HostError when one is
        refused.
        """
        if needs.own:
            self._modprobe([path.name.partition(".ko")[0] for path in needs.own])
        for path in needs.others:
            outcome = self.load(ko.read_image(path))
            require_loaded(outcome, path)
            if not outcome.errno:
                self._needed.append(ko.read(path).name)

    def load(self, image: bytes, arguments: str = "", *, timeout: float | None = None) -> Outcome:
        """init_module(2) with these bytes and arguments, whatever comes of it."""
        log = self._begin("insmod")
        limit = timeout or self.timeout
        words = os.fsencode(arguments)
        called = call.load(image, words, timeout=limit, log=log.fileno(), on_log=log.collect)
        outcome = self._outcome(called, log)
        if outcome.end is End.DONE and not outcome.errno:
            name = ko.parse(image, "the module").name
            self.sections[name] = sections(self, name)
        return outcome

    def unload(self, name: str, *, timeout: float | None = None) -> Outcome:
        """delete_module(2), whatever comes of it."""
        log = self._begin("rmmod")
        limit = timeout or self.timeout
        called = call.unload(name, timeout=limit, log=log.fileno(), on_log=log.collect)
        return self._outcome(called, log)

    def inventory(self) -> None:
        """Nothing: on a computer where others work too, what is new tells nothing of the module."""

    def settle(
        self, seconds: float | None = None, areas: int = 0, *, timeout: float | None = None
    ) -> Outcome:
        """Watch the log for `seconds`, for None not at all. Nothing is ever `left`: see `inventory`."""
        if not seconds:
            return Outcome(End.DONE, 0, (), 0.0)
        log = self._log()
        started = time.monotonic()
        time.sleep(seconds)
        log.collect()
        records, lost = log.take()
        spent = time.monotonic() - started
        return Outcome(End.DONE, 0, records, spent, spent, lost=lost)

    def parameters(self, name: str) -> dict[str, ParameterFile]:
        """What /sys/module/NAME/parameters holds, sorted by name; empty where there is nothing."""
        self._require_open()
        directory = Path("/sys/module", name, "parameters")
        if not directory.is_dir():
            return {}
        return {path.name: _parameter_file(path) for path in sorted(directory.iterdir())}

    def read_parameters(
        self, name: str, *, timeout: float | None = None
    ) -> tuple[Outcome, dict[str, ParameterFile]]:
        """The same; a callback that does not return keeps this process."""
        started = time.monotonic()
        files = self.parameters(name)
        return Outcome(End.DONE, 0, (), time.monotonic() - started), files

    def modules(self) -> list[LoadedModule]:
        """What is loaded, the newest first, as /proc/modules has it."""
        return parse_modules(self.read("/proc/modules").decode())

    def taint(self) -> Taint:
        """What the kernel's taint was when this object was made, and is."""
        return Taint(self._taint, _taint())

    def log(self, *, whole: bool = False) -> list[Record]:
        """The records that are new to this session, or with `whole` all that the kernel still has."""
        return self._log().read(whole=whole)

    def follow(self) -> Iterator[Record]:
        """The records as they come, until the caller stops."""
        return self._log().follow()

    def read(self, path: str) -> bytes:
        """A file's bytes. Raises OSError."""
        self._require_open()
        return Path(path).read_bytes()

    def write(self, path: str, data: bytes, *, flags: int = os.O_WRONLY, mode: int = 0o644) -> None:
        """Write to a file with one write(2). Raises OSError."""
        self._require_open()
        fd = os.open(path, flags | os.O_CLOEXEC, mode)
        try:
            while data:
                data = data[os.write(fd, data) :]
        finally:
            os.close(fd)

    def list_dir(self, path: str) -> list[tuple[str, str]]:
        """(type as in `ls -l`, name) of a directory's entries, sorted by name. Raises OSError."""
        self._require_open()
        with os.scandir(path) as entries:
            return sorted(((_type(entry), entry.name) for entry in entries), key=lambda e: e[1])

    def _modprobe(self, names: list[str]) -> None:
        require_privilege("insmod")
        done = proc.run(["modprobe", "--all", *names], stage="modprobe", timeout=self.timeout)
        if done.returncode:
            raise HostError(
                f"the kernel's own modules do not load: modprobe --all {' '.join(names)}",
                evidence=done.output.splitlines()[-6:],
            )

    def _begin(self, verb: str) -> Kmsg:
        self._require_running()
        require_privilege(verb)
        log = self._log()
        log.begin()
        return log

    def _outcome(self, called: call.Called, log: Kmsg) -> Outcome:
        if called.remains:
            self._state = MachineState.DEAD
        records, lost = log.take()
        return Outcome(
            called.end,
            called.errno,
            records,
            called.seconds,
            called.guest_seconds,
            called.stacks,
            lost,
            called.remains,
        )

    def _log(self) -> Kmsg:
        self._require_open()
        if self._kmsg is None:
            self._kmsg = Kmsg()
        return self._kmsg

    def _require_open(self) -> None:
        if self._state is MachineState.CLOSED:
            raise StateError("the machine", state=self._state, required="running")

    def _require_running(self) -> None:
        if self._state is not MachineState.RUNNING:
            raise StateError(
                "the machine", state=self._state, required="running", hint=self.way_out
            )


def _taint() -> str:
    return taint_letters(int(Path(TAINTED).read_text()))


def _parameter_file(path: Path) -> ParameterFile:
    mode = S_IMODE(path.stat().st_mode)
    try:
        value = path.read_bytes() if mode & 0o444 else None
    except OSError:
        value = None
    text = None if value is None else value.decode(errors="replace").removesuffix("\n")
    return ParameterFile(mode, text)


def _type(entry: os.DirEntry[str]) -> str:
    return filemode(entry.stat(follow_symlinks=False).st_mode)[0]
