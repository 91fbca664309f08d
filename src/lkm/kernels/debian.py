"""Provider `debian`: the distribution's own signed kernel packages, unpacked and never installed."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from lkm import atomic, pool, proc, sandbox
from lkm.arch import X86_64, Arch
from lkm.errors import HostError
from lkm.kernels import apt, assembly, catalog, downloads, packaging, record, shrink, toolchain
from lkm.kernels.assembly import Assembly
from lkm.kernels.catalog import Offer
from lkm.kernels.kernel import Kernel, Toolchain
from lkm.kernels.suites import base_suite
from lkm.progress import SILENT, Progress

__all__ = ["depmod", "fetch"]


def fetch(offer: Offer, *, arch: Arch = X86_64, progress: Progress = SILENT) -> Kernel:
    """The offered kernel in the store, its toolchain too: downloaded, verified by apt, unpacked.

    The caller holds the lock, `atomic.exclusive(record.kernels_dir() / offer.release)`. Raises HostError
    without network or space, and when a package is refused; nothing of the kernel is left then but what was
    downloaded and is good.
    """

    def work(world: apt.World) -> Kernel:
        progress.step(f"asking what {offer.release} consists of")
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
        own = tuple(package for package in packages if packaging.is_own(package.name))
        return _make(current, arch, world, own, tools, progress)

    return apt.retrying(apt.world(offer.suite, arch), work, progress)


def _current(offer: Offer, arch: Arch) -> Offer:
    """The offer as the lists have it now: the same release may have got a newer version, or be gone."""
    now = catalog.offers(offer.suite, arch=arch)
    for other in now:
        if other.release == offer.release:
            return other
    like_it = [other.release for other in now if other.flavour == offer.flavour]
    raise HostError(
        f"{offer.release} has been withdrawn from Debian {offer.suite}",
        evidence=[f"there now: {', '.join(like_it[-3:])}"] if like_it else [],
        hint=f"lkm kernel fetch {like_it[-1]}" if like_it else "lkm kernel list --available",
    )


def _compiler(packages: Sequence[apt.Package], offer: Offer) -> str:
    if found := packaging.compiler(package.name for package in packages):
        return found
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
    what = f"the kernel {offer.release}"

    def index(modules: Path) -> None:
        depmod(modules, offer.release, tools)
        shrink.compress_modules(modules / "lib/modules" / offer.release)

    with (
        contextlib.ExitStack() as until_done,
        downloads.area(home) as archives,
        atomic.making(home, what) as partial,
    ):
        with pool.working(assembly.WORKERS) as workers:
            parts = Assembly(partial, offer.release, tools.root, workers, index, progress)
            for needed in _in_turn(parts.rest, packages, until_done, progress):
                parts.fetch(world, needed, archives)
            parts.finish()
        shrink.drop_useless(partial)
        made = _describe(partial, offer, arch, packages, tools)
        record.write(partial, made)
        toolchain.add_mount_points(tools.root, [inside for _, inside in made.binds])
        progress.step(f"writing {offer.release} to the disk")
    return made.kernel(home, tools)


def _in_turn(
    home: Path,
    packages: Sequence[apt.Package],
    until_done: contextlib.ExitStack,
    progress: Progress,
) -> Iterator[tuple[apt.Package, ...]]:
    """What to fetch of a kernel's packages, and what then; the rest is another kernel's, too, and linked.

    Of the flavours of one version that are fetched at once the first fetches what they have in common. The
    others fetch their own meanwhile, and wait for the rest until that one is where they can link to it.
    """
    missing = shrink.link_shared(home, packages)
    common = tuple(p for p in missing if packaging.shared_directory(p.name))
    if not common:
        yield missing
        return
    alone = tuple(package for package in missing if package not in common)
    of_all = record.kernels_dir() / f"common_{common[0].version}"
    if until_done.enter_context(atomic.exclusive_if_free(of_all)):
        yield *alone, *shrink.link_shared(home, common)
        return
    yield alone
    what = f"what flavours of {common[0].version} have in common"
    progress.step(f"waiting for {what}")
    with contextlib.ExitStack() as ours:
        ours.enter_context(atomic.exclusive(of_all, what))
        if rest := shrink.link_shared(home, common):
            until_done.enter_context(ours.pop_all())
            yield rest


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
    return record.Record(
        release=release,
        arch=arch.name,
        suite=offer.suite,
        flavour=offer.flavour,
        version=offer.version,
        image=packaging.image(home, release),
        config=packaging.config(home, release),
        system_map=packaging.system_map(home, release),
        modules_dir=f"lib/modules/{release}",
        build_dir=f"/usr/src/linux-headers-{release}",
        binds=_binds(home),
        toolchain_suite=tools.suite,
        cc=tools.cc,
        identity=_identity(release, packages),
        disk_bytes=atomic.disk_bytes(home),
        packages=tuple(sorted(f"{package.name} {package.version}" for package in packages)),
    )


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
