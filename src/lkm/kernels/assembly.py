"""A kernel's packages: downloaded, unpacked and indexed side by side, and then put together.

Its modules come first, and are unpacked while they come; while they are indexed the headers are on their way.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path

from lkm.kernels import apt, downloads, early, packaging, toolchain
from lkm.kernels.apt import Package
from lkm.pool import Pool
from lkm.progress import SILENT, Progress

__all__ = ["WORKERS", "Assembly"]

WORKERS = 3
"""Threads that an assembly needs: one follows the download, one unpacks, one indexes."""


class Assembly:
    """What becomes the directory `home`, in two parts until `finish`: packages do not see each other's files.

    `index` gets the directory that has the modules of `release`, when all of them are there. `tools` is the
    root of the kernel's toolchain.
    """

    def __init__(
        self,
        home: Path,
        release: str,
        tools: Path,
        workers: Pool,
        index: Callable[[Path], None],
        progress: Progress = SILENT,
    ) -> None:
        self.rest = home / ".rest"
        self._home = home
        self._release = release
        self._modules = home / ".modules"
        self._tools = tools
        self._workers = workers
        self._index = index
        self._progress = progress
        self._unpacking: list[Future[None]] = []
        self._indexing: list[Future[None]] = []
        for part in (self.rest, self._modules):
            part.mkdir()

    def fetch(self, world: apt.World, packages: Sequence[Package], archives: Path) -> None:
        """Downloads packages into `archives`, and begins with what can be done with those that are there.

        All that hold modules are in one call. Raises what `downloads.get` does.
        """
        self._progress.step(f"fetching the kernel {self._release}")
        with_modules = sorted(filter(_has_modules, packages), key=lambda package: package.size)
        others = sorted(set(packages) - set(with_modules), key=_long_to_unpack)
        missing = {archives / package.filename for package in with_modules}
        over = threading.Event()
        if with_modules:
            file = archives / with_modules[-1].filename
            job = partial(early.unpack, file, with_modules[-1], self._modules, self._tools, over)
            largest = self._workers.submit(job)

        def ready(file: Path) -> None:
            if file not in missing:
                job = partial(toolchain.unpack, [file], self.rest)
                self._unpacking.append(self._workers.submit(job))
                return
            missing.remove(file)
            if not missing:
                files = [archives / package.filename for package in with_modules]
                job = partial(self._finish_modules, files, largest)
                self._indexing.append(self._workers.submit(job))

        try:
            in_order = [*with_modules, *others]
            downloads.get(world, in_order, archives, progress=self._progress, ready=ready)
        finally:
            over.set()

    def _finish_modules(self, files: list[Path], largest: Future[bool]) -> None:
        (is_there,) = self._workers.results([largest])
        if still_to_unpack := files[:-1] if is_there else files:
            toolchain.unpack(still_to_unpack, self._modules)
        self._index(self._modules)

    def finish(self) -> None:
        """Waits for all of it, and puts it together. Raises the first error that there was."""
        self._progress.step(f"unpacking the kernel {self._release}")
        self._workers.results(self._unpacking)
        self._progress.step(f"indexing the modules of {self._release}")
        self._workers.results(self._indexing)
        for part in (self._modules, self.rest):
            _move(part, self._home)


def _has_modules(package: Package) -> bool:
    return packaging.has_modules(package.name)


def _long_to_unpack(package: Package) -> tuple[bool, int]:
    """Sorts first what is best unpacked while others are on their way: many small files, then large ones."""
    return packaging.shared_directory(package.name) is None, -package.size


def _move(source: Path, target: Path) -> None:
    """All that is in a directory to another, which may have directories of the same names."""
    for entry in list(source.iterdir()):
        there = target / entry.name
        if entry.is_dir() and not entry.is_symlink() and there.is_dir():
            _move(entry, there)
        else:
            entry.rename(there)
    source.rmdir()
