"""Directories and files that are whole or not there, however many processes make them and wherever one dies.

A directory is made under the flock(2) of its name, in a sibling called `.partial-NAME.XXXXXXXX`, and
renamed into place when its data are on the disk. The kernel drops the lock of a process that dies, so a
partial directory whose lock is free belongs to nobody and is swept away. A file is written beside its place
and renamed, without a lock: the last to write it wins.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lkm import paths, proc
from lkm.errors import HostError
from lkm.progress import SILENT, Progress

if TYPE_CHECKING:
    import filelock

__all__ = [
    "DOWNLOAD",
    "destination",
    "disk_bytes",
    "disk_errors",
    "exclusive",
    "exclusive_if_free",
    "freed_bytes",
    "making",
    "no_space",
    "remove",
    "replacing",
    "sweep",
    "write",
]

WAIT = 1800.0
"""Seconds to wait for another lkm that makes the same thing: a slow mirror, not a deadlock."""

_PARTIAL = ".partial-"
DOWNLOAD = ".download-"
"""How the directory is called that has the downloads for another: kernels/downloads.py."""
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


def no_space(what: str, evidence: tuple[str, ...] = ()) -> HostError:
    """The error for a full disk: how much is free where, and what to type."""
    store = paths.cache_dir()
    nearest = next(path for path in (store, *store.parents) if path.is_dir())
    free = shutil.disk_usage(nearest).free / 1e6
    return HostError(
        f"{what}: no space left; {free:.0f} MB are free at {store}",
        evidence=evidence,
        hint="free some with `lkm kernel gc` or `lkm kernel rm RELEASE`, or set LKM_CACHE_DIR to a larger disk",
    )


@contextlib.contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Turns a full disk and a store that is not ours into HostError; other OSErrors pass."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise no_space(what) from error
        if error.errno in _FORBIDDEN:
            raise HostError(
                f"{what}: {error.filename or paths.cache_dir()}: {error.strerror}",
                hint="set LKM_CACHE_DIR to a directory of yours",
            ) from error
        raise


@contextlib.contextmanager
def exclusive(
    dest: Path, what: str, *, progress: Progress = SILENT, wait: float = WAIT
) -> Iterator[None]:
    """Holds the lock of `dest` among all processes; `progress` hears of it when that means waiting.

    Raises HostError after `wait` seconds.
    """
    import filelock

    with disk_errors(what):
        dest.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(_lock_of(dest))
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            progress.step(f"waiting for another lkm that makes {what}")
            _wait_for(lock, what, wait)
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def exclusive_if_free(dest: Path) -> Iterator[bool]:
    """Holds the lock of `dest` as `exclusive` does; False where somebody else has it."""
    import filelock

    lock = filelock.FileLock(_lock_of(dest), timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _wait_for(lock: filelock.BaseFileLock, what: str, wait: float) -> None:
    import filelock

    try:
        lock.acquire(timeout=wait, poll_interval=0.1)
    except filelock.Timeout as error:
        raise HostError(
            f"{what}: another lkm has been making it for {wait:g} s",
            hint=f"see which: fuser -v {lock.lock_file}",
        ) from error


@contextlib.contextmanager
def making(dest: Path, what: str) -> Iterator[Path]:
    """An empty directory that becomes `dest`, replacing it, when the block ends without an error.

    The caller holds `exclusive(dest)`. After an error nothing is left but what `dest` was before.
    """
    with disk_errors(what):
        for stale in _partials(dest.parent, dest.name):
            _delete(stale)
        partial = _beside(dest)
        try:
            partial.chmod(0o755)
            yield partial
            _flush(partial)
            remove(dest)
            partial.rename(dest)
            _sync_directory(dest.parent)
        except BaseException:
            _delete(partial)
            raise


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside `path`, for a file that becomes `path` when the block ends without an error.

    After an error nothing is left but what `path` was before. OSErrors pass: a caller says what they mean, with
    `disk_errors` or in words of its own. The data are on the disk only if the caller sees to it.
    """
    fresh = path.with_name(f".{path.name}.{os.urandom(6).hex()}.new")
    try:
        yield fresh
        fresh.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise


def write(path: Path, content: bytes | str) -> None:
    """Write a file, text as UTF-8, so that whoever reads it meanwhile sees all of the old or of the new.

    Raises what `replacing` does.
    """
    data = content.encode() if isinstance(content, str) else content
    with replacing(path) as fresh:
        fresh.write_bytes(data)


def remove(dest: Path) -> None:
    """Deletes a directory so that no reader sees half of it; nothing happens where there is none."""
    if dest.exists():
        grave = _beside(dest)
        dest.rename(grave)
        _delete(grave)


def sweep(parent: Path) -> None:
    """Deletes the partial directories of `parent` that no living process is working on."""
    import filelock

    for partial in _partials(parent):
        lock = filelock.FileLock(_lock_of(parent / _name_of(partial)), timeout=0)
        with contextlib.suppress(filelock.Timeout), lock:
            _delete(partial)


def _partials(parent: Path, name: str | None = None) -> list[Path]:
    return [
        partial
        for partial in parent.glob(f"{_PARTIAL}*")
        if name is None or _name_of(partial) == name
    ]


def _name_of(partial: Path) -> str:
    return partial.name.removeprefix(_PARTIAL).rpartition(".")[0]


def disk_bytes(directory: Path) -> int:
    """What a directory occupies on its disk, in bytes (st_blocks, so that sparse files are fair)."""
    return sum(status.st_blocks * 512 for status in _statuses(directory))


def freed_bytes(directory: Path) -> int:
    """What its removal frees, in bytes: without the files that have links elsewhere, as shared headers do."""
    total = 0
    links: dict[int, int] = {}
    for status in _statuses(directory):
        seen = links[status.st_ino] = links.get(status.st_ino, 0) + 1
        if stat.S_ISDIR(status.st_mode) or seen == status.st_nlink:
            total += status.st_blocks * 512
    return total


def _statuses(directory: Path) -> Iterator[os.stat_result]:
    """What lstat(2) says of each directory and file below it."""
    for path, _, names in os.walk(directory):
        for name in (".", *names):
            yield os.lstat(os.path.join(path, name))  # noqa: PTH118


def destination(path: Path) -> str:
    """The name of what `making` makes at `path` or above it; that of `path` where it makes nothing."""
    for name in reversed(path.parts):
        if name.startswith(_PARTIAL):
            return name.removeprefix(_PARTIAL).rpartition(".")[0]
    return path.name


def _beside(dest: Path) -> Path:
    return Path(tempfile.mkdtemp(prefix=f"{_PARTIAL}{dest.name}.", dir=dest.parent))


def _lock_of(dest: Path) -> Path:
    return dest.with_name(f".{dest.name}.lock")


def _delete(directory: Path) -> None:
    """Deletes a tree, directories without write permission included (packages ship some)."""
    for path, _, _ in os.walk(directory):
        with contextlib.suppress(OSError):
            Path(path).chmod(0o700)
    shutil.rmtree(directory, ignore_errors=True)


def _flush(directory: Path) -> None:
    # One syncfs(2): an fsync of each of 20,000 files would take minutes on a slow disk.
    done = proc.run(["sync", "--file-system", str(directory)], stage="flush", timeout=600)
    if done.returncode:
        raise HostError(
            f"the data of {directory} did not reach the disk", evidence=done.output.splitlines()
        )


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
