"""Package files from the mirror: gone on with where they stopped, and verified before anybody sees them.

apt's own helper downloads them (proxies, credentials, retries, Range), and lkm compares each with the SHA256
that the signed lists have. What a download leaves when it is interrupted lies beside what it is for, under the
lock of that, until the next one takes it up.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lkm import atomic
from lkm.errors import HostError
from lkm.kernels import apt
from lkm.kernels.apt import Package, World
from lkm.progress import SILENT, Progress

__all__ = ["area", "area_of", "get"]

_TIMEOUT = 3600.0
_GRACE = 2.0
"""Seconds in which an interrupted apt notes the time of its partial file, without which no server goes on."""
_ROOM = 1 << 20
"""A disk with fewer bytes free is full: then what was downloaded goes, too."""
_HELPER = "/usr/lib/apt/apt-helper"


def area_of(dest: Path) -> Path:
    """Where `area(dest)` is, or would be."""
    return dest.with_name(f"{atomic.DOWNLOAD}{dest.name}")


@contextlib.contextmanager
def area(dest: Path) -> Iterator[Path]:
    """A directory for what is downloaded to make `dest`, whose lock the caller holds.

    It is gone when the block ends well. After an error or an interrupt it stays, for the next to go on from;
    but not on a full disk, which needs the room.
    """
    directory = area_of(dest)
    with atomic.disk_errors(f"the downloads of {dest.name}"):
        directory.mkdir(parents=True, exist_ok=True)
    try:
        yield directory
    except BaseException:
        if shutil.disk_usage(directory).free < _ROOM:
            shutil.rmtree(directory, ignore_errors=True)
        raise
    shutil.rmtree(directory, ignore_errors=True)


def get(
    of: World,
    packages: Sequence[Package],
    into: Path,
    *,
    progress: Progress = SILENT,
    ready: Callable[[Path], None] = lambda _: None,
) -> tuple[Path, ...]:
    """The package files in the directory `into`, in the order of `packages`; `ready` gets each as soon as it is
    whole.

    Files that are there from an earlier try are used as far as they go. Raises HostError with apt's words
    where a file cannot be had, or is not the one that the lists mean.
    """
    arrivals = _Arrivals(packages, into, ready, progress)
    arrivals.look()
    if missing := arrivals.missing:
        done = apt.command(
            of,
            _argv(of, missing),
            f"downloading from {of.mirror}",
            _TIMEOUT,
            cwd=into,
            on_line=lambda _: arrivals.look(),
            grace=_GRACE,
        )
        arrivals.look()
        if arrivals.missing:
            raise _failure(arrivals.missing, done.output)
    return tuple(into / package.filename for package in packages)


def _argv(of: World, packages: Sequence[Package]) -> list[str]:
    status = ["-o", "APT::Status-Fd=1"]
    if of.mirror.startswith("mirror"):
        # apt's method for lists of mirrors asks which repository a file is of; the helper does not say it.
        names = [f"{package.name}={package.version}" for package in packages]
        return ["apt-get", *status, "download", *names]
    words = [word for p in packages for word in (p.uri, p.filename, p.digest)]
    return [_HELPER, *status, "download-file", *words]


def _failure(missing: Sequence[Package], output: str) -> HostError:
    first = missing[0]
    rest = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    return apt.failure(f"the package {first.name} {first.version}{rest}", output)


class _Arrivals:
    """Looks at files that grow, and hands on those that are whole and the right ones."""

    def __init__(
        self,
        packages: Sequence[Package],
        into: Path,
        ready: Callable[[Path], None],
        progress: Progress,
    ) -> None:
        self._waiting = {into / package.filename: package for package in packages}
        self._refused: dict[Path, int] = {}
        self._ready = ready
        self._progress = progress
        self._total = sum(package.size for package in packages)
        self._whole = 0
        for package in packages:
            _check_digest(package)

    @property
    def missing(self) -> tuple[Package, ...]:
        """What is not there yet."""
        return tuple(self._waiting.values())

    def look(self) -> None:
        """Hand on what has arrived, and say how far the rest is."""
        partly = 0
        for path, package in list(self._waiting.items()):
            size = _size(path)
            if size == package.size and self._is_right(path, package):
                del self._waiting[path]
                self._whole += package.size
                self._ready(path)
            else:
                partly += min(size, package.size)
        self._progress.amount(self._whole + partly, self._total, "B")

    def _is_right(self, path: Path, package: Package) -> bool:
        try:
            written = path.stat().st_mtime_ns
            if self._refused.get(path) == written:
                return False
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:  # apt may just be renaming what it refuses
            return False
        if f"SHA256:{digest}" == package.digest:
            return True
        self._refused[path] = written
        return False


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _check_digest(package: Package) -> None:
    if not package.digest.startswith("SHA256:"):
        raise HostError(
            f"the lists have no SHA256 of {package.filename}, so it could not be verified",
            hint="try another mirror in LKM_DEBIAN_MIRROR",
        )
