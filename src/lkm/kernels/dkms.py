"""Module sources that Debian ships in its `*-dkms` packages, unpacked and not installed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from lkm import atomic, paths
from lkm.arch import X86_64
from lkm.errors import HostError, UsageError
from lkm.kernels.suites import STABLE, SUITES, suite_named
from lkm.progress import SILENT, Progress

if TYPE_CHECKING:
    from lkm.kernels import apt

__all__ = ["located", "names_package", "package"]

_NAME = r"(?P<name>[a-z0-9][a-z0-9+.-]+)(?:@(?P<suite>[a-z-]+))?"
"""A package's name (Debian Policy 5.6.1), and lkm's way to say which suite it is to be of."""


def names_package(text: str) -> bool:
    """Whether a source argument is a package: `NAME-dkms`, or `NAME@SUITE`, and no file or directory."""
    match = re.fullmatch(_NAME, text)
    return bool(match and (match["suite"] or text.endswith("-dkms"))) and not Path(text).exists()


def located(text: str | Path, *, progress: Progress = SILENT) -> Path:
    """The path that a source argument means: itself, or where the package of that name was unpacked.

    A directory of that name wins. Raises what `package` does.
    """
    if isinstance(text, str) and names_package(text):
        return package(text, progress=progress)
    return Path(text)


def package(name: str, *, suite: str = STABLE, progress: Progress = SILENT) -> Path:
    """The directory of the module source in a package of Debian, fetched where it is not on this disk.

    `NAME@SUITE` is the package of another suite. The directory is the one below the package's /usr/src that has
    a dkms.conf, or elsewhere in it. Verified by apt; no maintainer script runs, and nothing that the package
    depends on is fetched. Raises UsageError where the suite does not have it, or where it has no module
    source or several, HostError where there is no network.
    """
    name, _, chosen = name.partition("@")
    suite = chosen or suite
    if not suite_named(suite):
        raise UsageError(
            f"no suite {suite!r}", hint=f"suites: {', '.join(each.name for each in SUITES)}"
        )
    home = paths.cache_dir() / "dkms" / f"{suite}-{name}"
    if not home.is_dir():
        with atomic.exclusive(home, f"the package {name}", progress=progress):
            if not home.is_dir():
                _fetch(home, name, suite, progress)
    return _source(home, f"{name} of {suite}")


def _source(home: Path, what: str) -> Path:
    root = home / "root"
    found = sorted(root.glob("usr/src/*/dkms.conf")) or sorted(root.rglob("dkms.conf"))
    if len(found) == 1:
        return found[0].parent
    if found:
        raise UsageError(
            f"{what} has {len(found)} module sources with a dkms.conf",
            evidence=[str(path.parent) for path in found],
            hint=f"name one by its directory: lkm run {found[0].parent}",
        )
    raise UsageError(
        f"{what} has no module source: there is no dkms.conf in it",
        hint="apt-cache search -- -dkms shows those that have",
    )


def _fetch(home: Path, name: str, suite: str, progress: Progress) -> None:
    from lkm.kernels import apt, downloads, toolchain

    def make(world: apt.World) -> None:
        found = _alone(world, name)
        with (
            downloads.area(home) as archives,
            atomic.making(home, f"the package {name}") as partial,
        ):
            root = partial / "root"
            root.mkdir()
            progress.step(f"fetching {found.name} {found.version}")
            toolchain.unpack(downloads.get(world, [found], archives, progress=progress), root)

    apt.retrying(apt.world(suite, X86_64), make, progress)


def _alone(world: apt.World, name: str) -> apt.Package:
    import difflib

    from lkm.kernels import apt

    try:
        return apt.alone(world, name)
    except HostError as error:
        known = apt.cache(world, ["pkgnames"]).split()
        if name in known:
            raise
        sources = [each for each in known if each.endswith("-dkms")]
        near = difflib.get_close_matches(name, sources, n=3)
        raise UsageError(
            f"Debian {world.suite} has no package {name}, and there is no directory of that name",
            evidence=[f"nearest: {', '.join(near)}"] if near else [],
            hint=f"lkm run {near[0]}" if near else "lkm run DIR, or apt-cache search -- -dkms",
        ) from error
