"""The private copy of a source that the sandboxed make may write to, and the lock on it.

CACHE/work/NAME-HASH/            a source; `origin` says which
  RELEASE-HASH/                  a kernel, and the toolchain that builds for it
    lock · build.log
    tree/                        copies of the sources, and what make leaves
    state.json                   what was copied, by content; absent while `tree` is in doubt
    builds/KEY/                  results by content key (artifacts.py)
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lkm import source as sources
from lkm.errors import HostError, UsageError
from lkm.kernels.kernel import Kernel
from lkm.paths import cache_dir
from lkm.source import ModuleSource

__all__ = [
    "Copy", "SourceChangedError", "WorkDir", "locked", "of_source", "remove_tree", "settle",
    "snapshot", "sync", "work_dir",
]  # fmt: skip


class SourceChangedError(Exception):
    """A source file changed or vanished between two looks at it; the caller looks again."""


@dataclass(frozen=True)
class Copy:
    """A file as it must be in the work tree. `path` is None for one that lkm generates."""

    name: str
    path: str | None
    mode: int
    digest: str
    data: bytes | None = None


@dataclass(frozen=True)
class WorkDir:
    """The private directory of one (source, kernel) pair."""

    path: Path

    @property
    def tree(self) -> Path:
        return self.path / "tree"

    @property
    def state(self) -> Path:
        return self.path / "state.json"

    @property
    def log(self) -> Path:
        return self.path / "build.log"

    @property
    def builds(self) -> Path:
        return self.path / "builds"


def of_source(source: ModuleSource) -> Path:
    """The directory that holds everything lkm keeps for a source, whatever the kernel."""
    digest = hashlib.sha256(os.fsencode(source.path)).hexdigest()[:16]
    return cache_dir() / "work" / f"{_slug(source.name)}-{digest}"


def work_dir(source: ModuleSource, kernel: Kernel) -> WorkDir:
    """The private directory for building `source` for `kernel`; it may not exist yet."""
    made_by = f"{kernel.identity} {kernel.toolchain.identity}"
    digest = hashlib.sha256(made_by.encode()).hexdigest()[:12]
    return WorkDir(of_source(source) / f"{_slug(kernel.release)}-{digest}")


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._+-]", "_", name)[:60]


@contextlib.contextmanager
def locked(path: Path, *, timeout: float) -> Iterator[None]:
    """Hold the lock of a work directory (flock(2): the kernel drops it when lkm dies).

    Raises HostError when another process still has it after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    fd = _open_lock(path)
    try:
        while not _try_lock(fd, path):
            if time.monotonic() > deadline:
                raise HostError(
                    f"another lkm has been building in {path} for {timeout:g} s",
                    hint=f"fuser -v {path / 'lock'}",
                )
            time.sleep(0.02)
            os.close(fd)
            fd = _open_lock(path)
        yield
    finally:
        os.close(fd)


def _open_lock(path: Path) -> int:
    path.mkdir(parents=True, exist_ok=True)
    return os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _try_lock(fd: int, path: Path) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return _is_current(fd, path)


def _is_current(fd: int, path: Path) -> bool:
    """Whether the open lock file is still the one at `path`: `clean` removes the whole directory."""
    try:
        return os.path.samestat(os.fstat(fd), (path / "lock").stat())
    except FileNotFoundError:
        return False


def snapshot(source: ModuleSource) -> tuple[Copy, ...]:
    """Every file of a source with its content's digest.

    Raises SourceChangedError when a file vanishes meanwhile, UsageError when one cannot be read.
    """
    try:
        copies = [_look(file) for file in sources.files(source)]
    except FileNotFoundError as error:
        if not source.path.exists():
            raise UsageError(f"{source.path} is gone", hint=f"ls -ld {source.path}") from error
        raise SourceChangedError from error
    except PermissionError as error:
        raise UsageError(
            f"cannot read {error.filename}: {error.strerror}", hint=f"ls -l {error.filename}"
        ) from error
    if source.kbuild:
        data = source.kbuild.encode()
        copies.append(Copy("Kbuild", None, 0o644, _digest(data), data))
    return tuple(copies)


def _look(file: sources.SourceFile) -> Copy:
    with open(file.path, "rb") as stream:
        return Copy(file.name, file.path, file.mode, _digest(stream.read()))


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=20).hexdigest()


_State = dict[str, tuple[str, int, int]]


def sync(work: WorkDir, copies: tuple[Copy, ...]) -> _State:
    """Make the work tree hold exactly `copies`, besides what make has left there; the lock is held.

    A file is copied when its content, not its time, differs, and gets the time of copying: make then
    rebuilds what depends on it even when an older version came back. From here until `settle` the
    tree is in doubt: a process that dies in between makes the next one start from an empty tree.
    Raises SourceChangedError when a file is no longer what the snapshot saw.
    """
    state = _read_state(work)
    work.state.unlink(missing_ok=True)
    if state is not None and not _is_safe(work.tree, copies):
        state = None
    if state is None:
        remove_tree(work.tree)
        state = {}
    work.tree.mkdir(parents=True, exist_ok=True)
    wanted = {copy.name for copy in copies}
    for name in state.keys() - wanted:
        (work.tree / name).unlink(missing_ok=True)
    return {copy.name: _place(work.tree / copy.name, copy, state.get(copy.name)) for copy in copies}


def settle(work: WorkDir, state: _State) -> None:
    """Say that make ended in order, so that its leavings in the tree may be used again."""
    from lkm import atomic

    atomic.write(work.state, json.dumps(state))


def _read_state(work: WorkDir) -> _State | None:
    try:
        state: _State = json.loads(work.state.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return state


def _is_safe(tree: Path, copies: tuple[Copy, ...]) -> bool:
    """Whether each directory to write into is one: an untrusted Makefile may have put links there."""
    parents = {parent for copy in copies for parent in Path(copy.name).parents}
    for parent in parents:
        try:
            if not stat.S_ISDIR(os.lstat(tree / parent).st_mode):
                return False
        except FileNotFoundError:
            continue
        except NotADirectoryError:
            return False
    return not any((tree / copy.name).is_dir() for copy in copies)


def _place(target: Path, copy: Copy, known: tuple[str, int, int] | None) -> tuple[str, int, int]:
    if known and known[0] == copy.digest and _stamp(target, copy.mode) == tuple(known[1:]):
        return copy.digest, known[1], known[2]
    data = copy.data if copy.path is None else _read_again(copy.path)
    if data is None or _digest(data) != copy.digest:
        raise SourceChangedError(copy.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with open(os.open(target, flags, 0o600), "wb") as file:
        file.write(data)
        os.fchmod(file.fileno(), copy.mode | 0o600)
    size, mtime = _stamp(target, copy.mode) or (0, 0)
    return copy.digest, size, mtime


def _read_again(path: str) -> bytes | None:
    try:
        return Path(path).read_bytes()
    except OSError:
        return None


def _stamp(path: Path, mode: int) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o777 != mode | 0o600:
        return None
    return status.st_size, status.st_mtime_ns


def remove_tree(path: Path) -> None:
    """Remove a directory, with directories in it that a Makefile made unwritable; or nothing."""
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    except PermissionError:
        path.chmod(0o700)
        for top, directories, _ in os.walk(path):
            for name in directories:
                inner = Path(top, name)
                if not inner.is_symlink():
                    inner.chmod(0o700)
        shutil.rmtree(path)
