"""What the store holds and nothing needs any more, and its removal: `lkm kernel gc`.

A kernel is used when it is fetched, when a machine of it is restored, and when something is built for it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from lkm import atomic, paths
from lkm.errors import HostError
from lkm.kbuild import workdir
from lkm.kernels import catalog, record, store, toolchain
from lkm.kernels.kernel import Kernel
from lkm.vm import named
from lkm.vm.stored import meta_of, stored

__all__ = ["DAYS", "Garbage", "find", "remove"]

DAYS = 30.0
"""How long what is not used stays, in days, unless it is said."""
_OUTDATED = 2.0
"""The same for what has a successor, or belongs to nothing."""
_DAY = 86400.0
_CAN_BE_MADE_AGAIN = ("dkms", "programs", "interpose", "faults", "builds", "matrix/sources")
"""Directories of the store whose entries go by their age alone."""


@dataclass(frozen=True)
class Garbage:
    """A directory of the store that can go: `what` it is, `why`, and the bytes that it has on the disk.

    `is_locked` says that it is made and removed under a lock.
    """

    path: Path
    what: str
    why: str
    disk_bytes: int
    is_locked: bool = False


def find(days: float = DAYS, *, keep: Collection[str] = ()) -> list[Garbage]:
    """What has not been used for `days`, what has been replaced, and what belonged to it.

    Kernels that a name in `keep` means (as `catalog.parse_name` has them, or a glob) stay, and those of the
    machines that are up. Raises UsageError for a name that makes no sense. Removes nothing.
    """
    store_ = _Store(days, frozenset(_kept(keep)))
    going = {kernel.release: why for kernel, why in store_.kernels()}
    return [
        *(_kernel(release, why) for release, why in going.items()),
        *store_.damaged(),
        *store_.roots(going),
        *store_.snapshots(going),
        *store_.root_file_systems(going),
        *store_.builds(),
        *store_.others(),
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
    for parent in {each.path.parent for each in garbage}:
        if parent.parent.name == "work":
            with contextlib.suppress(OSError):
                parent.rmdir()
        else:
            atomic.sweep(parent)
    return gone, busy


def _remove(garbage: Garbage) -> None:
    if garbage.path.parent == toolchain.roots_dir() and garbage.path.name in _roots_of(()):
        raise HostError(f"{garbage.what}: a kernel that stays needs it")
    with contextlib.ExitStack() as stack:
        if garbage.is_locked:
            stack.enter_context(atomic.exclusive(garbage.path, garbage.what, wait=0))
        elif garbage.path.parent.parent.name == "work":
            stack.enter_context(workdir.locked(garbage.path, timeout=0))
        atomic.remove(garbage.path)


def _roots_of(going: Collection[str]) -> set[str]:
    """The toolchain roots of the kernels that stay."""
    staying = (kernel for kernel in store.installed() if kernel.release not in going)
    return {kernel.toolchain.root.parent.name for kernel in staying}


def _kernel(release: str, why: str) -> Garbage:
    home = record.kernels_dir() / release
    return Garbage(home, f"kernel {release}", why, atomic.freed_bytes(home), True)


def _kept(names: Collection[str]) -> Iterator[str]:
    for name in names:
        is_glob = bool(set("*?[") & set(name))
        wanted = None if is_glob else catalog.parse_name(name)
        for kernel in store.installed():
            if wanted is None:
                fits = fnmatchcase(kernel.release, name)
            else:
                fits = kernel.release == wanted.release if wanted.release else wanted.fits(kernel)
            if fits:
                yield kernel.release


def _idle(path: Path) -> float:
    """Days since a file or directory was written to; 0 for one that is going."""
    try:
        return (time.time() - path.stat().st_mtime) / _DAY
    except OSError:
        return 0.0


def _identity(home: Path) -> str | None:
    identity: str | None = meta_of(home).get("identity")
    return identity


def _entries(directory: Path) -> list[Path]:
    try:
        return sorted(entry for entry in directory.iterdir() if entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _unused(idle: float) -> str:
    return f"not used for {idle:.0f} days"


class _Store:
    """The store at one moment, with its rules."""

    def __init__(self, days: float, keep: frozenset[str]) -> None:
        self._days = days
        self._keep = keep | {machine.release for machine in named.machines()}
        self._frozen = list(stored())
        self._built = [
            state.parent for state in (paths.cache_dir() / "work").glob("*/*/state.json")
        ]

    def kernels(self) -> Iterator[tuple[Kernel, str]]:
        installed = store.installed()
        newest = {_line(kernel): kernel for kernel in installed}
        for kernel in installed:
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
                    damage.path, what, damage.reason, atomic.disk_bytes(damage.path), True
                )

    def roots(self, going: Collection[str]) -> Iterator[Garbage]:
        if toolchain.are_shared():
            return
        for home in self._of(toolchain.roots_dir(), _roots_of(going), 0.0 if going else _OUTDATED):
            yield Garbage(
                home,
                f"toolchain root {home.name}",
                "no kernel uses it",
                atomic.disk_bytes(home),
                True,
            )

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
            yield Garbage(frozen.path, what, why, atomic.disk_bytes(frozen.path), True)

    def root_file_systems(self, going: Collection[str]) -> Iterator[Garbage]:
        used = {
            frozen.rootfs for frozen in self._frozen
            if frozen.rootfs and frozen.release not in going and frozen.idle / _DAY <= self._days
        }  # fmt: skip
        for home in self._of(paths.cache_dir() / "rootfs", (), self._days):
            if _identity(home) in used:
                continue
            yield Garbage(
                home, f"root file system {home.name}", "no frozen machine uses it",
                atomic.disk_bytes(home), True,
            )  # fmt: skip

    def _of(self, directory: Path, used: Collection[str], days: float) -> Iterator[Path]:
        for home in _entries(directory):
            if not home.name.startswith(".") and home.name not in used and _idle(home) >= days:
                yield home

    def builds(self) -> Iterator[Garbage]:
        for home in self._built:
            if (idle := _idle(home / "state.json")) > self._days:
                what = f"build {home.parent.name} for {home.name.rpartition('-')[0]}"
                yield Garbage(home, what, _unused(idle), atomic.disk_bytes(home))

    def others(self) -> Iterator[Garbage]:
        top = paths.cache_dir()
        for name in _CAN_BE_MADE_AGAIN:
            for home in _entries(top / name):
                idle = min(map(_idle, (home, *_entries(home))))
                if not home.name.startswith(".") and idle > self._days:
                    yield Garbage(
                        home, f"{name}/{home.name}", _unused(idle), atomic.disk_bytes(home)
                    )
        for name in ("kernels", "roots", "rootfs", "dkms", "builds"):
            for home in (top / name).glob(f"{atomic.DOWNLOAD}*"):
                if (idle := _idle(home)) > _OUTDATED:
                    what = f"downloads for {home.name.removeprefix(atomic.DOWNLOAD)}"
                    why = f"left {idle:.0f} days ago"
                    yield Garbage(home, what, why, atomic.disk_bytes(home))


def _line(kernel: Kernel) -> tuple[str, str | None, str | None]:
    """What is equal for a kernel and its successor."""
    return catalog.series_of(kernel.release), kernel.flavour, kernel.provider
