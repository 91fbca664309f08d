"""What the store holds and nothing needs any more, and its removal: `lkm kernel gc`.

A kernel is used when it is fetched, when a machine of it is restored, and when something is built for it.
"""

from __future__ import annotations

import contextlib
import fnmatch
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from lkm import atomic, paths
from lkm.errors import HostError
from lkm.kbuild import workdir
from lkm.kernels import catalog, record, store, toolchain
from lkm.kernels.record import Record
from lkm.kernels.selection import is_glob
from lkm.vm import named
from lkm.vm.stored import meta_of, stored

__all__ = ["DAYS", "Garbage", "find", "remove"]

DAYS = 30.0
"""How long what is not used stays, in days, unless it is said."""
_OUTDATED = 2.0
"""The same for what has a successor, or belongs to nothing."""
_DAY = 86400.0
_BELIEVED = 1.0
"""How long package lists are used as they are, in days: younger ones stay in any case."""
_CAN_BE_MADE_AGAIN = ("dkms", "programs", "interpose", "faults", "builds", "matrix/sources")
"""Directories of the store whose entries go by their age alone."""


class Lock(Enum):
    """Who makes a directory: nobody who holds a lock, `atomic.exclusive`, or a build (`workdir.locked`)."""

    NONE, STORE, BUILD = range(3)


@dataclass(frozen=True)
class Garbage:
    """A directory of the store that can go: `what` it is, `why`, and the bytes that it has on the disk.

    `lock` says what has to be held to make or remove it.
    """

    path: Path
    what: str
    why: str
    disk_bytes: int
    lock: Lock = Lock.NONE


def find(days: float = DAYS, *, keep: Collection[str] = ()) -> list[Garbage]:
    """What has not been used for `days`, what has been replaced, and what belonged to it.

    Kernels that a name in `keep` means (as `catalog.parse_name` has them, or a glob) stay, and those of the
    machines that are up. Raises UsageError for a name that makes no sense. Removes nothing.
    """
    now = _Store(days, keep)
    going = {kernel.release: why for kernel, why in now.kernels()}
    return [
        *(_kernel(release, why) for release, why in going.items()),
        *now.damaged(),
        *now.roots(going),
        *now.additions(going),
        *now.snapshots(going),
        *now.root_file_systems(going),
        *now.builds(),
        *now.package_lists(),
        *now.others(),
    ]


def remove(garbage: Sequence[Garbage]) -> tuple[list[Garbage], list[Garbage]]:
    """Removes it; returns what went, and what another lkm is busy with and was left."""
    gone, busy = [], []
    for each in garbage:
        try:
            _remove(each)
            gone.append(each)
        except HostError:
            busy.append(each)
    for parent, lock in {(each.path.parent, each.lock) for each in garbage}:
        if lock is Lock.BUILD:
            with contextlib.suppress(OSError):
                parent.rmdir()
        else:
            atomic.sweep(parent)
    return gone, busy


def _remove(garbage: Garbage) -> None:
    if garbage.path in _roots_of(store.records()):
        raise HostError(f"{garbage.what}: a kernel that stays needs it")
    with contextlib.ExitStack() as stack:
        if garbage.lock is Lock.STORE:
            stack.enter_context(atomic.exclusive(garbage.path, garbage.what, wait=0))
        elif garbage.lock is Lock.BUILD:
            stack.enter_context(workdir.locked(garbage.path, timeout=0))
        atomic.remove(garbage.path)


def _roots_of(kernels: Iterable[Record]) -> set[Path]:
    roots = toolchain.roots_dir()
    return {roots / f"{kernel.toolchain_suite}-{kernel.cc}" for kernel in kernels}


def _kernel(release: str, why: str) -> Garbage:
    home = record.kernels_dir() / release
    return Garbage(home, f"kernel {release}", why, atomic.freed_bytes(home), Lock.STORE)


def _meant(name: str, kernels: Sequence[Record]) -> list[str]:
    """The releases of the kernels that a name means."""
    if is_glob(name):
        return fnmatch.filter([kernel.release for kernel in kernels], name)
    wanted = catalog.parse_name(name)
    return [kernel.release for kernel in kernels if wanted.fits(kernel)]


def _idle(path: Path) -> float:
    """Days since a file or directory was written to; 0 for one that is going."""
    try:
        return (time.time() - path.stat().st_mtime) / _DAY
    except OSError:
        return 0.0


def _entries(directory: Path) -> list[Path]:
    try:
        found = sorted(entry for entry in directory.iterdir() if entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [entry for entry in found if not entry.name.startswith(".")]


def _unused(idle: float) -> str:
    return f"not used for {idle:.0f} days"


class _Store:
    """The store at one moment, with its rules."""

    def __init__(self, days: float, keep: Collection[str]) -> None:
        self._days = days
        self._installed = store.records()
        self._keep = {machine.release for machine in named.machines()}
        self._keep.update(*(_meant(name, self._installed) for name in keep))
        self._frozen = list(stored())
        self._built = [
            state.parent for state in (paths.cache_dir() / "work").glob("*/*/state.json")
        ]

    def kernels(self) -> Iterator[tuple[Record, str]]:
        newest = {_line(kernel): kernel for kernel in self._installed}
        for kernel in self._installed:
            idle = self._idle(kernel.release)
            newer = newest[_line(kernel)]
            if kernel.release in self._keep:
                continue
            if idle > self._days:
                yield kernel, _unused(idle)
            elif newer != kernel and idle > min(_OUTDATED, self._days):
                yield kernel, f"{newer.release} is newer"

    def _idle(self, release: str) -> float:
        used = [_idle(record.kernels_dir() / release / record.META)]
        used += [frozen.idle / _DAY for frozen in self._frozen if frozen.release == release]
        used += [
            _idle(home / "state.json")
            for home in self._built
            if home.name.rpartition("-")[0] == release
        ]
        return min(used)

    def damaged(self) -> Iterator[Garbage]:
        for damage in store.damaged():
            if isinstance(record.read(damage.path), str) and _idle(damage.path) > _OUTDATED:
                what = f"kernel {damage.path.name}"
                yield Garbage(
                    damage.path, what, damage.reason, atomic.disk_bytes(damage.path), Lock.STORE
                )

    def roots(self, going: Collection[str]) -> Iterator[Garbage]:
        if toolchain.are_shared():
            return
        used = _roots_of(kernel for kernel in self._installed if kernel.release not in going)
        for home in self._idle_in(toolchain.roots_dir(), 0.0 if going else _OUTDATED):
            if home not in used:
                yield Garbage(
                    home, f"toolchain root {home.name}", "no kernel uses it",
                    atomic.disk_bytes(home), Lock.STORE,
                )  # fmt: skip

    def additions(self, going: Collection[str]) -> Iterator[Garbage]:
        """Roots with a source's own packages: hard links for the most part, while the plain root is there."""
        stay = (kernel for kernel in self._installed if kernel.release not in going)
        plain = (toolchain.find(kernel.toolchain_suite, kernel.cc) for kernel in stay)
        used = {tools.identity for tools in plain if tools}
        for home in _entries(paths.cache_dir() / "additions"):
            idle = _idle(home)
            if meta_of(home).get("base") not in used:
                why = "no kernel uses it"
            elif idle > self._days:
                why = _unused(idle)
            else:
                continue
            if idle >= (0.0 if going else _OUTDATED):
                freed = atomic.freed_bytes(home)
                yield Garbage(home, f"toolchain root {home.name}", why, freed, Lock.STORE)

    def snapshots(self, going: Collection[str]) -> Iterator[Garbage]:
        for frozen in self._frozen:
            idle = frozen.idle / _DAY
            if frozen.release in self._keep:
                continue
            if frozen.release in going:
                why = "its kernel goes"
            elif idle > self._days:
                why = _unused(idle)
            else:
                continue
            what = f"frozen machine of {frozen.release or 'nobody knows what'}"
            yield Garbage(frozen.path, what, why, atomic.disk_bytes(frozen.path), Lock.STORE)

    def root_file_systems(self, going: Collection[str]) -> Iterator[Garbage]:
        used = {
            frozen.rootfs for frozen in self._frozen
            if frozen.rootfs and frozen.release not in going and frozen.idle / _DAY <= self._days
        }  # fmt: skip
        for home in self._idle_in(paths.cache_dir() / "rootfs", self._days):
            if meta_of(home).get("identity") not in used:
                yield Garbage(
                    home, f"root file system {home.name}", "no frozen machine uses it",
                    atomic.disk_bytes(home), Lock.STORE,
                )  # fmt: skip

    def _idle_in(self, directory: Path, days: float) -> list[Path]:
        return [home for home in _entries(directory) if _idle(home) >= days]

    def builds(self) -> Iterator[Garbage]:
        for home in self._built:
            if (idle := _idle(home / "state.json")) > self._days:
                what = f"build {home.parent.name} for {home.name.rpartition('-')[0]}"
                yield Garbage(home, what, _unused(idle), atomic.disk_bytes(home), Lock.BUILD)

    def package_lists(self) -> Iterator[Garbage]:
        for home in _entries(paths.cache_dir() / "apt"):
            if (idle := _idle(home / "updated")) > max(self._days, _BELIEVED):
                what = f"package lists of {home.name.rpartition('-')[0]}"
                why = f"{idle:.0f} days old"
                yield Garbage(home, what, why, atomic.disk_bytes(home), Lock.STORE)

    def others(self) -> Iterator[Garbage]:
        top = paths.cache_dir()
        for name in _CAN_BE_MADE_AGAIN:
            for home in _entries(top / name):
                idle = min(map(_idle, (home, *_entries(home))))
                if idle > self._days:
                    yield Garbage(
                        home, f"{name}/{home.name}", _unused(idle), atomic.freed_bytes(home)
                    )
        for name in ("kernels", "roots", "rootfs", "additions", "dkms", "builds"):
            for home in (top / name).glob(f"{atomic.DOWNLOAD}*"):
                if (idle := _idle(home)) > _OUTDATED:
                    what = f"downloads for {home.name.removeprefix(atomic.DOWNLOAD)}"
                    why = f"left {idle:.0f} days ago"
                    yield Garbage(home, what, why, atomic.disk_bytes(home))


def _line(kernel: Record) -> tuple[str, str | None, str | None]:
    """What is equal for a kernel and its successor."""
    return catalog.series_of(kernel.release), kernel.flavour, kernel.provider
