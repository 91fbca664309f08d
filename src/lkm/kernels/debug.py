"""Provider `debug`: a kernel with the sanitizers on, built once from Debian's linux-source package.

What is built by is debug.config, on top of tinyconfig. The build is in a directory of its own that outlives an
interrupt, so that the next try goes on where that one was; what is kept of it goes to the store, whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from lkm import atomic, paths
from lkm.arch import X86_64, Arch
from lkm.errors import HostError, UsageError
from lkm.kernels import apt, catalog, debug_build, downloads, kconfig, record, rootfs, toolchain
from lkm.kernels.catalog import DEBUG_FLAVOUR, Wanted
from lkm.kernels.debian import depmod
from lkm.kernels.debug_build import Work
from lkm.kernels.kernel import Kernel, Toolchain
from lkm.kernels.suites import base_suite, suite_named
from lkm.progress import SILENT, Progress

__all__ = ["fetch", "release_of"]

_NEEDED = 5_000_000_000
"""Bytes of disk that the build takes for a while: archive, tree and objects."""
_WAIT = 4 * 3600.0
_CONFIG = Path(__file__).with_name("debug.config")


@dataclass(frozen=True)
class Source:
    """A linux-source package of a suite, and the kernel that is built of it."""

    package: apt.Package
    suite: str
    release: str


def fetch(wanted: Wanted, *, arch: Arch = X86_64, progress: Progress = SILENT) -> Kernel:
    """The debug kernel of the newest source that fits a name, from the store or built now.

    Two processes that want the same one build it once. Raises UsageError where no suite has such a source,
    HostError without network or space, for a configuration that is not what was asked for, and when it does
    not build.
    """
    source = _find(wanted, arch, progress)
    home = record.kernels_dir() / source.release
    tools = toolchain.ensure(
        base_suite(source.suite), _compiler(source.suite), arch=arch, progress=progress
    )
    identity = _identity(source, tools)
    with atomic.exclusive(home, f"the kernel {source.release}", progress=progress, wait=_WAIT):
        atomic.sweep(home.parent)
        made = record.read(home)
        if isinstance(made, record.Record) and made.identity == identity:
            return made.kernel(home, tools)
        return _build(source, home, tools, identity, arch, progress)


def release_of(version: str) -> str:
    """The `uname -r` of what is built from a source of that version: 6.12.117-lkm-debug for 6.12.117-1."""
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?(?:~(rc\d+))?", version)
    if not found:
        raise HostError(f"linux-source has a version that lkm cannot read: {version}")
    major, minor, patch, candidate = found.groups()
    numbers = f"{major}.{minor}.{patch or 0}"
    return f"{numbers}-{candidate}-lkm-debug" if candidate else f"{numbers}-lkm-debug"


def _find(wanted: Wanted, arch: Arch, progress: Progress) -> Source:
    """The newest source that fits, from the first suite that has one."""
    series = catalog.series_of(wanted.release or wanted.series or "")
    for suite in catalog.suites_for(series):
        world = apt.world(suite, arch)
        name = f"linux-source-{series}"
        # Not `pkgnames`: it lists what others only depend on, too.
        if apt.refresh(world, progress=progress) and apt.cache(world, ["madison", name]).strip():
            package = apt.alone(world, name)
            return _fitting(Source(package, suite, release_of(package.version)), wanted)
    raise UsageError(
        f"no suite of Debian has the source of {series}: there is no package linux-source-{series}",
        hint="the debug kernel of Debian stable: --kernel debug",
    )


def _fitting(source: Source, wanted: Wanted) -> Source:
    """The source, if it is what was asked for: Debian has the newest of a series alone."""
    asked = wanted.release or wanted.series or ""
    if source.release == asked or source.release.startswith((f"{asked}.", f"{asked}-")):
        return source
    raise UsageError(
        f"Debian has the source of {source.release.partition('-')[0]}, and not of {asked}",
        hint=f"the newest: --kernel {catalog.series_of(asked)}+debug",
    )


def _compiler(suite: str) -> str:
    row = suite_named(base_suite(suite))
    assert row is not None
    return f"gcc-{row.compilers[-1]}"


def _identity(source: Source, tools: Toolchain) -> str:
    parts = (
        source.release, source.package.digest, tools.identity, _asked(source.release),
        *debug_build.SWITCHES,
    )  # fmt: skip
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _asked(release: str) -> str:
    """What debug.config asks for, for a release: without remarks, which change nothing."""
    lines = kconfig.fragment_for(release, _CONFIG.read_text()).splitlines()
    return "\n".join(line for line in lines if "CONFIG_" in line)


def _build(
    source: Source, home: Path, tools: Toolchain, identity: str, arch: Arch, progress: Progress
) -> Kernel:
    extra = rootfs.ensure(tools.suite, debug_build.PACKAGES, arch=arch, progress=progress)
    place = paths.cache_dir() / "builds" / f"{source.release}-{identity[:12]}"
    work = Work(place / "tree", tools, extra.root, _log_of(place), source.release)
    with _own(place), atomic.disk_errors(f"the build of {source.release}"):
        if not place.is_dir():
            _unpack(source, place, work, arch, progress)
        progress.step(f"configuring {source.release}")
        debug_build.configure(work, _CONFIG.read_text())
        debug_build.compile_kernel(work, progress)
        made = _keep(source, home, work, tools, identity, arch)
    return made.kernel(home, tools)


def _log_of(place: Path) -> Path:
    return place.with_name(f"{place.name}.log")


@contextlib.contextmanager
def _own(place: Path) -> Iterator[None]:
    """The place of a build: without others' left-overs before, deleted after, but for an interrupt."""
    for other in place.parent.glob("[!.]*"):
        if other.is_dir() and other != place:
            atomic.remove(other)
    _log_of(place).unlink(missing_ok=True)
    try:
        yield
    except Exception:
        atomic.remove(place)
        raise
    atomic.remove(place)
    _log_of(place).unlink(missing_ok=True)


def _unpack(source: Source, place: Path, work: Work, arch: Arch, progress: Progress) -> None:
    _check_space(place)

    def make(world: apt.World) -> None:
        with (
            atomic.exclusive(place, "a build"),
            downloads.area(place) as archives,
            atomic.making(place, "the source") as partial,
        ):
            packed, tree = partial / "packed", partial / "tree"
            packed.mkdir()
            tree.mkdir()
            progress.step(f"fetching the source of {source.release}")
            files = downloads.get(world, [source.package], archives, progress=progress)
            progress.step(f"unpacking the source of {source.release}")
            toolchain.unpack(files, packed, progress=progress)
            (archive,) = (packed / "usr/src").glob("linux-source-*.tar.*")
            archive.rename(tree / archive.name)
            shutil.rmtree(packed)
            debug_build.unpack_tree(replace(work, tree=tree), archive.name)

    apt.retrying(apt.world(source.suite, arch), make, progress)


def _check_space(place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(place.parent).free < _NEEDED:
        raise atomic.no_space(f"a kernel's build takes {_NEEDED / 1e9:.0f} GB for a while")


def _keep(
    source: Source, home: Path, work: Work, tools: Toolchain, identity: str, arch: Arch
) -> record.Record:
    with atomic.making(home, f"the kernel {source.release}") as partial:
        debug_build.collect(work, partial)
        depmod(partial, source.release, tools)
        made = _describe(partial, source, tools, identity, arch)
        record.write(partial, made)
        toolchain.add_mount_points(tools.root, [inside for _, inside in made.binds])
    return made


def _describe(
    home: Path, source: Source, tools: Toolchain, identity: str, arch: Arch
) -> record.Record:
    release = source.release
    headers = f"usr/src/linux-headers-{release}"
    return record.Record(
        release=release,
        arch=arch.name,
        suite=source.suite,
        flavour=DEBUG_FLAVOUR,
        version=source.package.version,
        image=f"boot/vmlinuz-{release}",
        config=f"boot/config-{release}",
        system_map=f"boot/System.map-{release}",
        modules_dir=f"lib/modules/{release}",
        build_dir=f"/{headers}",
        binds=((headers, f"/{headers}"),),
        toolchain_suite=tools.suite,
        cc=tools.cc,
        identity=identity,
        disk_bytes=atomic.disk_bytes(home),
        packages=(f"{source.package.name} {source.package.version}",),
        provider="debug",
    )
