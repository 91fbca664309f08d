"""Machines that stay: started by one `lkm`, used by others, ended by `lkm down`.

Each is a directory below the runtime directory: the sockets of CHARDEVS, `meta.json`, and a lock file for
each session, held while somebody uses it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lkm import atomic, proc
from lkm.errors import MachineError, UsageError
from lkm.paths import runtime_dir
from lkm.vm import qemu
from lkm.vm.attach import connected, resynchronised
from lkm.vm.channel import Channel, ChannelClosed, ChannelTimeout
from lkm.vm.launch import load_state, until_loaded
from lkm.vm.qmp import Qmp, QmpClosed, QmpError
from lkm.vm.snapshot import Snapshot
from lkm.vm.wire import Op

__all__ = ["Named", "down", "find", "machines", "up"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
START_LIMIT = 30.0
"""Seconds that a machine which stays may take until its agent answers."""


@dataclass(frozen=True)
class Named:
    """A machine that stays. `started` is seconds since the epoch; `pid` is QEMU's."""

    name: str
    home: Path
    pid: int
    release: str
    started: float
    memory_mib: int
    kernel: str

    def to_dict(self) -> dict[str, Any]:
        """The machine as `lkm ps --json` shows it."""
        return {
            "name": self.name,
            "kernel": self.release,
            "kernel_name": self.kernel,
            "pid": self.pid,
            "started": self.started,
            "memory_mib": self.memory_mib,
            "dir": str(self.home),
        }


def machines() -> list[Named]:
    """The machines that are up, by name; what a dead one left is swept away."""
    homes = sorted(home for home in _base().iterdir() if home.is_dir())
    alive = [(home, _read(home)) for home in homes]
    for home, named in alive:
        if named is None:
            _sweep_unless_starting(home)
    return [named for _, named in alive if named]


def find(name: str | None) -> Named:
    """The machine of that name; the only one there is, for None. Raises UsageError."""
    running = machines()
    names = ", ".join(machine.name for machine in running)
    if name is None:
        if len(running) == 1:
            return running[0]
        if not running:
            raise UsageError("no machine is up", hint="lkm up")
        raise UsageError(f"several machines are up: {names}", hint="choose one with -m NAME")
    for machine in running:
        if machine.name == name:
            return machine
    known = f"up are: {names}" if names else "no machine is up"
    raise UsageError(f"no machine {name!r}; {known}", hint=f"lkm up {name}")


def up(name: str, snapshot: Snapshot, *, kernel: str | None = None) -> Named:
    """Restore a machine that outlives this process. Raises UsageError when the name is taken.

    `kernel` is the name by which the store finds its kernel again; the release, for None.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot name a machine", hint="letters, digits, and . _ + -")
    home = _base() / name
    with _base_lock():
        if _read(home):
            raise UsageError(f"a machine {name!r} is up already", hint=f"lkm down {name}")
        _sweep(home)
        home.mkdir(mode=0o700)
        try:
            return _start(home, snapshot, kernel or snapshot.release)
        except BaseException:
            _sweep(home)
            raise


def down(named: Named) -> None:
    """End a machine and remove what it left."""
    _sweep(named.home)


def _start(home: Path, snapshot: Snapshot, kernel: str) -> Named:
    with contextlib.ExitStack() as stack:
        listeners = {name: stack.enter_context(_listening(home / name)) for name in qemu.CHARDEVS}
        log = stack.enter_context((home / "qemu.log").open("wb"))
        gate, go = os.pipe2(os.O_CLOEXEC)
        stack.callback(os.close, gate)
        opened = stack.enter_context(open(go, "wb", buffering=0))
        ends = {name: sock.fileno() for name, sock in listeners.items()}
        window = home / "window"
        window.touch(mode=0o600)
        os.truncate(window, qemu.WINDOW_SIZE)
        launch = qemu.Launch(snapshot.ram, False, ends, window, listening=True)
        process = proc.popen(
            [*_GATED, str(gate), *qemu.argv(snapshot.config, launch)],
            stderr=log,
            pass_fds=(gate, *ends.values(), *snapshot.fds),
            outlives_us=True,
        )
        ending = stack.enter_context(contextlib.ExitStack())
        ending.callback(proc.end, process)
        meta = {
            "pid": process.pid,
            "start_time": _start_time(process.pid),
            "release": snapshot.release,
            "started": time.time(),
            "memory_mib": snapshot.config.memory_mib,
            "kernel": kernel,
        }
        _record(home, {**meta, "ready": False})
        opened.write(b"go\n")
        _wake(home, snapshot, process)
        _record(home, {**meta, "ready": True})
        ending.pop_all()
    named = _read(home)
    if named is None:
        raise MachineError("it ended at once", stage="up", console_tail=_qemu_log(home))
    return named


_GATED = ("/bin/sh", "-c", 'read -r _ <"/dev/fd/$0" && exec "$@"')
"""QEMU starts when it is told to, after its pid is on record: no kill -9 of ours leaves one that is not."""


def _record(home: Path, meta: dict[str, Any]) -> None:
    atomic.write(home / "meta.json", json.dumps(meta))


def _wake(home: Path, snapshot: Snapshot, process: subprocess.Popen[bytes]) -> None:
    try:
        with connected(home / "qmp") as sock:
            qmp = Qmp(sock)
            load_state(qmp, snapshot.state)
            if snapshot.fds:
                until_loaded(qmp, time.monotonic() + START_LIMIT)
            qmp.send("cont")
            qmp.call("query-status", deadline=time.monotonic() + START_LIMIT)
            with connected(home / "session0") as session:
                channel = Channel(session)
                if not resynchronised(channel, START_LIMIT):
                    raise TimeoutError("the agent does not answer")
                _refresh(channel)
    except (OSError, ChannelClosed, ChannelTimeout, QmpClosed, QmpError) as error:
        process.poll()
        raise MachineError(
            f"the machine does not come up: {error or 'no answer'}",
            stage="up",
            console_tail=_qemu_log(home),
            hint=f"rm -r {snapshot.path}; it is made anew then",
        ) from error


def _refresh(channel: Channel) -> None:
    import struct

    payload = struct.pack("<Q", time.time_ns()) + os.urandom(32)
    for _ in channel.request(Op.CLOCK, payload, deadline=time.monotonic() + START_LIMIT):
        pass


def _listening(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(os.fspath(path))
    except OSError as error:
        sock.close()
        raise UsageError(
            f"cannot listen on {path}: {error}", hint="set LKM_RUNTIME_DIR to a short path"
        ) from error
    sock.listen(4)
    return sock


@contextlib.contextmanager
def _base_lock(*, wait: bool = True) -> Iterator[bool]:
    """Hold the lock under which machines are started; without `wait`, False where somebody else has it."""
    with (_base() / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def _base() -> Path:
    base = runtime_dir() / "machines"
    base.mkdir(mode=0o700, exist_ok=True)
    return base


def _meta(home: Path) -> dict[str, Any]:
    try:
        meta = json.loads((home / "meta.json").read_text())
    except (OSError, ValueError):
        return {}
    return meta if isinstance(meta, dict) else {}


def _read(home: Path) -> Named | None:
    """The machine whose directory this is; None for one that is dead, or not ready yet."""
    meta = _meta(home)
    if not meta.get("ready") or _start_time(meta["pid"]) != meta["start_time"]:
        return None
    return Named(
        home.name,
        home,
        meta["pid"],
        meta["release"],
        meta["started"],
        meta["memory_mib"],
        meta["kernel"],
    )


def _sweep_unless_starting(home: Path) -> None:
    with _base_lock(wait=False) as held:
        if held and _read(home) is None:
            _sweep(home)


def _sweep(home: Path) -> None:
    """End what is left of a machine, and remove its directory."""
    meta = _meta(home)
    if meta and _start_time(meta["pid"]) == meta["start_time"]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(meta["pid"], signal.SIGKILL)
        _until_gone(meta["pid"])
    shutil.rmtree(home, ignore_errors=True)


def _start_time(pid: int) -> int | None:
    """When the process started, in clock ticks since boot (proc(5), stat field 22); None if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])


def _until_gone(pid: int, poll: Callable[[float], None] = time.sleep) -> None:
    for _ in range(500):
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        if _start_time(pid) is None:
            return
        poll(0.01)


def _qemu_log(home: Path) -> str:
    try:
        return (home / "qemu.log").read_text(errors="replace")
    except OSError:
        return ""
