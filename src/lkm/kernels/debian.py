"""Provider `debian`: the distribution's own signed kernel packages, unpacked and never installed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from lkm import atomic, proc, sandbox
from lkm.arch import X86_64, Arch
from lkm.errors import HostError
from lkm.kernels import apt, catalog, record, toolchain
from lkm.kernels.catalog import Offer
from lkm.kernels.kernel import Kernel, Toolchain
from lkm.kernels.suites import base_suite
from lkm.progress import SILENT, Progress

__all__ = ["depmod", "fetch"]

_OWN = re.compile(r"linux-(?:image|binary|modules|headers|kbuild|base)-\d")
_COMPILER = re.compile(r"(gcc-\d+)(?:-for-host)?")
"""Debian's headers depend on the compiler that built the kernel: by name, since 6.13 through -for-host."""


def fetch(offer: Offer, *, arch: Arch = X86_64, progress: Progress = SILENT) -> Kernel:
    """The offered kernel in the store, its toolchain too: downloaded, verified by apt, unpacked.

    The caller holds the lock, `atomic.exclusive(record.kernels_dir() / offer.release)`. Raises HostError
    without network or space, and when a package is refused; nothing of the kernel is left then.
    """

    def work(world: apt.World) -> Kernel:
        current = _current(offer, arch)
        packages = apt.closure(
            world,
            [
                f"{name}={current.version}"
                for name in (current.image_package, current.headers_package)
            ],
        )
        tools = toolchain.ensure(
            base_suite(current.suite), _compiler(packages, current), arch=arch, progress=progress
        )
        own = tuple(package for package in packages if _OWN.match(package.name))
        return _make(current, arch, world, own, tools, progress)

    return apt.retrying(apt.world(offer.suite, arch), work, progress)


def _current(offer: Offer, arch: Arch) -> Offer:
    """The offer as the lists have it now: the same release may have got a newer version."""
    now = catalog.offers(offer.suite, arch=arch)
    return next((other for other in now if other.release == offer.release), offer)


def _compiler(packages: Sequence[apt.Package], offer: Offer) -> str:
    for package in packages:
        if found := _COMPILER.fullmatch(package.name):
            return found[1]
    raise HostError(
        f"{offer.headers_package} {offer.version} depends on no compiler that lkm knows"
    )


def _make(
    offer: Offer,
    arch: Arch,
    world: apt.World,
    packages: tuple[apt.Package, ...],
    tools: Toolchain,
    progress: Progress,
) -> Kernel:
    home = record.kernels_dir() / offer.release
    with atomic.making(home, f"the kernel {offer.release}") as partial:
        _unpack(partial, offer, world, packages, progress)
        progress.step(f"indexing the modules of {offer.release}")
        depmod(partial, offer.release, tools)
        made = _describe(partial, offer, arch, packages, tools)
        record.write(partial, made)
        toolchain.add_mount_points(tools.root, [inside for _, inside in made.binds])
    return made.kernel(home, tools)


def _unpack(
    partial: Path,
    offer: Offer,
    world: apt.World,
    packages: tuple[apt.Package, ...],
    progress: Progress,
) -> None:
    archives = partial / "archives"
    archives.mkdir()
    progress.step(f"fetching the kernel {offer.release}")
    files = apt.download(world, packages, archives, progress=progress)
    progress.step(f"unpacking the kernel {offer.release}")
    toolchain.unpack(files, partial, progress=progress)
    archives.rmdir()


def depmod(partial: Path, release: str, tools: Toolchain) -> None:
    """Indexes the modules of a kernel that is laid out in `partial` as its packages are."""
    if not (partial / "lib").exists():
        # depmod looks below BASE/lib/modules, packages since trixie have usr/lib/modules.
        (partial / "lib").symlink_to("usr/lib")
    done = proc.run(
        sandbox.argv(
            tools.root,
            ["depmod", "-b", "/kernel", release],
            binds=[sandbox.Bind(partial, "/kernel", writable=True)],
        ),
        stage=f"depmod {release}",
        timeout=300,
    )
    if done.returncode == 0:
        return
    sandbox.check_usable(tools.root)
    evidence = done.output.splitlines()[-8:]
    if "No space left" in done.output:
        raise atomic.no_space(f"the module index of {release}", tuple(evidence))
    raise HostError(f"depmod failed for {release}", evidence=evidence)


def _describe(
    home: Path, offer: Offer, arch: Arch, packages: tuple[apt.Package, ...], tools: Toolchain
) -> record.Record:
    release = offer.release
    modules = f"lib/modules/{release}"
    system_maps = (f"boot/System.map-{release}", f"{modules}/System.map")
    return record.Record(
        release=release,
        arch=arch.name,
        suite=offer.suite,
        flavour=offer.flavour,
        version=offer.version,
        image=_the_one(home, f"boot/vmlinuz-{release}", f"{modules}/vmlinuz"),
        config=_the_one(home, f"boot/config-{release}", f"{modules}/config"),
        system_map=next((path for path in system_maps if (home / path).is_file()), None),
        modules_dir=modules,
        build_dir=f"/usr/src/linux-headers-{release}",
        binds=_binds(home),
        toolchain_suite=tools.suite,
        cc=tools.cc,
        identity=_identity(release, packages),
        disk_bytes=atomic.disk_bytes(home),
        packages=tuple(sorted(f"{package.name} {package.version}" for package in packages)),
    )


def _the_one(home: Path, *candidates: str) -> str:
    """Where a file is: below /boot, or since 7.x in the modules' directory."""
    for candidate in candidates:
        if (home / candidate).is_file():
            return candidate
    raise HostError(f"the packages of {home.name} have none of {', '.join(candidates)}")


def _binds(home: Path) -> tuple[tuple[str, str], ...]:
    """The headers refer to each other by absolute paths: each directory goes where it says that it is."""
    directories = [
        *sorted((home / "usr/src").glob("linux-headers-*")),
        *sorted((home / "usr/lib").glob("linux-kbuild-*")),
    ]
    relative = [path.relative_to(home).as_posix() for path in directories]
    return tuple((path, f"/{path}") for path in relative)


def _identity(release: str, packages: tuple[apt.Package, ...]) -> str:
    lines = sorted(f"{package.filename} {package.digest}" for package in packages)
    return hashlib.sha256("\n".join([release, *lines]).encode()).hexdigest()
