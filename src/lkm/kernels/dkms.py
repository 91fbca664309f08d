"""Module sources that Debian ships in its `*-dkms` packages, unpacked and not installed."""

from __future__ import annotations

from pathlib import Path

from lkm import atomic, paths
from lkm.arch import X86_64
from lkm.errors import UsageError
from lkm.kernels.suites import STABLE
from lkm.progress import SILENT, Progress

__all__ = ["package"]


def package(name: str, *, suite: str = STABLE, progress: Progress = SILENT) -> Path:
    """The directory of the module source in a package of Debian, fetched where it is not on this disk.

    It is the one below the package's /usr/src that has a dkms.conf. Verified by apt; no maintainer script
    runs, and nothing that the package depends on is fetched. Raises HostError where the suite does not have it
    or there is no network, UsageError where there is no module source in it.
    """
    home = paths.cache_dir() / "dkms" / f"{suite}-{name}"
    if not home.is_dir():
        with atomic.exclusive(home, f"the package {name}", progress=progress):
            if not home.is_dir():
                _fetch(home, name, suite, progress)
    found = sorted(home.glob("root/usr/src/*/dkms.conf"))
    if len(found) != 1:
        raise UsageError(
            f"{name} of {suite} has {len(found)} module sources with a dkms.conf in /usr/src",
            hint="apt-cache search -- -dkms",
        )
    return found[0].parent


def _fetch(home: Path, name: str, suite: str, progress: Progress) -> None:
    from lkm.kernels import apt, toolchain

    def make(world: apt.World) -> None:
        found = apt.alone(world, name)
        with atomic.making(home, f"the package {name}") as partial:
            archives, root = partial / "archives", partial / "root"
            archives.mkdir()
            root.mkdir()
            progress.step(f"fetching {found.name} {found.version}")
            toolchain.unpack(apt.download(world, [found], archives, progress=progress), root)
            archives.rmdir()

    apt.retrying(apt.world(suite, X86_64), make, progress)
