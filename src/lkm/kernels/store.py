"""The kernels on this disk, and `get`: the one way from a kernel's name to a kernel."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lkm import config
from lkm.errors import HostError, UsageError
from lkm.kernels import catalog, record, toolchain
from lkm.kernels.catalog import Wanted
from lkm.kernels.kernel import Kernel, Toolchain
from lkm.kernels.record import Record
from lkm.progress import SILENT, Progress

__all__ = ["Damage", "damaged", "describe", "fetch_newest", "get", "installed", "records", "remove"]


@dataclass(frozen=True)
class Damage:
    """A directory of the store that is not believed, and one line that says why."""

    path: Path
    reason: str


def get(name: str | None = None, *, fetch: bool = True, progress: Progress = SILENT) -> Kernel:
    """The kernel that `name` means (`catalog.parse_name`); the configured default for None.

    One on this disk is preferred to a newer one elsewhere, and then nothing is run or fetched. Otherwise,
    with `fetch`, it is fetched once, however many processes ask. Raises UsageError for a name that
    nothing has (and for an absent kernel without `fetch`), HostError where it cannot be fetched.
    """
    wanted = catalog.parse_name(name or config.load().kernel)
    if wanted.provider == "host":
        from lkm.kernels import host

        return host.kernel(progress=progress)
    if wanted.path:
        from lkm.kernels import tree

        return tree.kernel(wanted.path, progress=progress)
    found = _on_disk(wanted)
    if found and (kernel := _complete(found)):
        return kernel
    if not fetch:
        raise _absent(wanted)
    return _repair(found, progress) if found else _fetch(wanted, progress)


def fetch_newest(name: str | None = None, *, progress: Progress = SILENT) -> Kernel:
    """The newest kernel that any suite offers under `name`, fetched unless this disk has that very one.

    Unlike `get` it always asks the mirror (package lists may be a day old). Raises what `get` does.
    """
    wanted = catalog.parse_name(name or config.load().kernel)
    if wanted.provider not in ("debian", "debug"):
        return get(wanted.text, progress=progress)
    return _fetch(wanted, progress)


def installed() -> list[Kernel]:
    """The kernels that the store holds, oldest first. Damaged ones are in `damaged()`."""
    return [kernel for found in records() if (kernel := _complete(found))]


def records() -> list[Record]:
    """The kernels of the store, oldest first, also those whose toolchain root is missing."""
    return sorted(_records(), key=lambda entry: catalog.version_key(entry.release))


def damaged() -> list[Damage]:
    """What lies in the store and is not believed: `get` replaces it, `remove` deletes it."""
    found = []
    for home in _homes():
        entry = record.read(home)
        if isinstance(entry, str):
            found.append(Damage(home, entry))
        elif not toolchain.find(entry.toolchain_suite, entry.cc):
            tools = f"its toolchain {entry.toolchain_suite} {entry.cc}"
            missing = f"{tools} is missing, and is fetched at its next use"
            found.append(Damage(home, missing))
    return found


def remove(release: str) -> int:
    """Deletes a kernel, and its toolchain when no other kernel of the store uses it.

    Returns the bytes that this freed. Raises UsageError when no such kernel is there.
    """
    from lkm import atomic

    home = record.kernels_dir() / release
    if home not in _homes():
        raise catalog.unknown(release, _releases())
    with atomic.exclusive(home, f"the kernel {release}"):
        entry = record.read(home)
        freed = atomic.freed_bytes(home)
        atomic.remove(home)
    atomic.sweep(home.parent)
    if isinstance(entry, Record):
        freed += _remove_unused(entry.toolchain_suite, entry.cc)
    return freed


def describe(kernel: Kernel) -> dict[str, Any]:
    """The facts of a kernel as JSON has them, paths as they are on this computer."""
    return {
        "release": kernel.release,
        "arch": kernel.arch.name,
        "provider": kernel.provider,
        "suite": kernel.suite,
        "flavour": kernel.flavour,
        "version": kernel.version,
        "image": str(kernel.image),
        "build_dir": str(kernel.build_dir_on_host),
        "config": str(kernel.config),
        "system_map": str(kernel.system_map) if kernel.system_map else None,
        "modules_dir": str(kernel.modules_dir) if kernel.modules_dir else None,
        "toolchain_root": str(kernel.toolchain.root),
        "compiler": kernel.toolchain.cc,
        "disk_bytes": kernel.disk_bytes,
    }


def _homes() -> list[Path]:
    try:
        entries = sorted(record.kernels_dir().iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [entry for entry in entries if entry.is_dir() and not entry.name.startswith(".")]


def _releases() -> list[str]:
    return [home.name for home in _homes()]


def _records() -> Iterator[Record]:
    for home in _homes():
        entry = record.read(home)
        if isinstance(entry, Record):
            yield entry


def _on_disk(wanted: Wanted) -> Record | None:
    if wanted.release:
        entry = record.read(record.kernels_dir() / wanted.release)
        return entry if isinstance(entry, Record) else None
    return catalog.newest(entry for entry in _records() if wanted.fits(entry))


def _complete(entry: Record) -> Kernel | None:
    tools = toolchain.find(entry.toolchain_suite, entry.cc)
    return _with(entry, tools) if tools else None


def _repair(entry: Record, progress: Progress) -> Kernel:
    """The kernel whose toolchain root was deleted, with a new one."""
    return _with(entry, toolchain.ensure(entry.toolchain_suite, entry.cc, progress=progress))


def _with(entry: Record, tools: Toolchain) -> Kernel:
    # Each time: the root may have been made anew for another kernel.
    with contextlib.suppress(PermissionError):
        toolchain.add_mount_points(tools.root, [inside for _, inside in entry.binds])
    return entry.kernel(record.kernels_dir() / entry.release, tools)


def _fetch(wanted: Wanted, progress: Progress) -> Kernel:
    from lkm import atomic
    from lkm.kernels import debian

    try:
        if wanted.provider == "debug":
            from lkm.kernels import debug

            return debug.fetch(wanted, progress=progress)
        offer = catalog.find_offer(wanted, progress=progress)
        if offer is None:
            raise catalog.unknown(wanted.text, _releases())
        home = record.kernels_dir() / offer.release
        with atomic.exclusive(home, f"the kernel {offer.release}", progress=progress):
            atomic.sweep(home.parent)
            # Another process may have made it while we waited.
            entry = record.read(home)
            if isinstance(entry, Record) and entry.version == offer.version:
                return _complete(entry) or _repair(entry, progress)
            return debian.fetch(offer, progress=progress)
    except HostError as error:
        if releases := _releases():
            error.evidence += (f"on this disk: {', '.join(releases)}",)
        raise


def _absent(wanted: Wanted) -> UsageError:
    here = ", ".join(_releases()) or "none"
    return UsageError(
        f"the kernel {wanted.text} is not on this disk",
        evidence=[f"on this disk: {here}"],
        hint=f"lkm kernel fetch {wanted.text}",
    )


def _remove_unused(suite: str, cc: str) -> int:
    tools = toolchain.find(suite, cc)
    used = any((entry.toolchain_suite, entry.cc) == (suite, cc) for entry in _records())
    return toolchain.remove(tools) if tools and not used else 0
