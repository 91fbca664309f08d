"""Toolchain roots with more packages in them, for a source that needs more than Kbuild does.

Such a root is the plain one by hard links, with the packages' files unpacked over it. Nothing of the plain
one is written to: tar makes each file anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lkm import atomic, paths
from lkm.arch import X86_64
from lkm.errors import BuildError
from lkm.kernels import toolchain
from lkm.kernels.kernel import Kernel, Toolchain
from lkm.progress import SILENT, Progress
from lkm.project import Packages

if TYPE_CHECKING:
    from lkm.kernels import apt

__all__ = ["MAX_BYTES", "ensure", "with_packages"]

SCHEMA = 1

_OR = " | "

MAX_BYTES = 500_000_000
"""What the packages of one source may have to download, in bytes: a source is not trusted to fill a disk."""


def with_packages(kernel: Kernel, wanted: Packages, *, progress: Progress = SILENT) -> Kernel:
    """`kernel` with a toolchain that has what is wanted, too. Raises what `ensure` does."""
    tools = ensure(kernel.toolchain, wanted, progress=progress)
    toolchain.add_mount_points(tools.root, [inside for _, inside in kernel.binds])
    return replace(kernel, toolchain=tools)


def ensure(tools: Toolchain, wanted: Packages, *, progress: Progress = SILENT) -> Toolchain:
    """`tools` with the wanted packages of its suite and what they depend on, made first where it is missing.

    Of several names with ` | ` between them the first counts that the suite has. It is `tools` itself where
    that has them all. Verified by apt and unpacked as the calling user; no maintainer script runs. Raises
    BuildError for a package that the suite does not have and for more than `MAX_BYTES`, HostError without
    network or space.
    """
    has = {each.partition(" ")[0] for each in toolchain.packages_of(tools)}
    missing = Packages(_not_in(has, wanted.packages), _not_in(has, wanted.optional))
    if missing == Packages():
        return tools
    home = _home(tools, missing)
    if found := _find(home, tools):
        return found
    with atomic.exclusive(home, f"the toolchain {home.name}", progress=progress):
        atomic.sweep(home.parent)
        return _find(home, tools) or _make(home, tools, missing, progress)


def _not_in(has: set[str], packages: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted({each for each in packages if has.isdisjoint(each.split(_OR))}))


def _home(tools: Toolchain, wanted: Packages) -> Path:
    words = json.dumps([tools.identity, wanted.packages, wanted.optional])
    key = hashlib.sha256(words.encode()).hexdigest()[:12]
    return paths.cache_dir() / "additions" / f"{tools.suite}-{tools.cc}-{key}"


def _find(home: Path, tools: Toolchain) -> Toolchain | None:
    try:
        meta = json.loads((home / "meta.json").read_text())
        if meta["schema"] != SCHEMA or not (home / "root/usr").is_dir():
            return None
        with contextlib.suppress(OSError):  # it may be another user's
            os.utime(home)  # `lkm kernel gc` goes by it
        return Toolchain(tools.suite, home / "root", tools.cc, str(meta["identity"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _make(home: Path, tools: Toolchain, wanted: Packages, progress: Progress) -> Toolchain:
    from lkm.kernels import apt, downloads

    def make(world: apt.World) -> Toolchain:
        names = _names(world, wanted)
        has = toolchain.packages_of(tools)
        needed = apt.closure(world, names) if names else ()
        more = [each for each in needed if f"{each.name} {each.version}" not in has]
        size = sum(package.size for package in more)
        if size > MAX_BYTES:
            raise BuildError(
                f"{', '.join(names)} of Debian {tools.suite} would download {size / 1e6:.0f} MB, and a source"
                f" may have {MAX_BYTES / 1e6:.0f} MB"
            )
        what = f"the toolchain {tools.suite} {tools.cc} with {', '.join(names) or 'nothing more'}"
        with downloads.area(home) as archives, atomic.making(home, what) as partial:
            _link_tree(tools.root, partial / "root")
            if more:
                progress.step(f"fetching {', '.join(names)} of Debian {tools.suite}")
                files = downloads.get(world, more, archives, progress=progress)
                toolchain.unpack(toolchain.links_first(files), partial / "root", progress=progress)
            _write_meta(partial, tools, more)
        made = _find(home, tools)
        assert made is not None
        return made

    return apt.retrying(apt.world(tools.suite, X86_64), make, progress)


def _names(world: apt.World, wanted: Packages) -> list[str]:
    """What is there of it: the first of alternatives that the suite has."""
    from lkm.kernels import apt

    known = set(apt.cache(world, ["pkgnames"]).split())
    found = [_chosen(package, known) for package in (*wanted.packages, *wanted.optional)]
    for package, name in zip(wanted.packages, found, strict=False):
        if name is None:
            raise _absent(package, known, world.suite)
    return [name for name in found if name]


def _chosen(package: str, known: set[str]) -> str | None:
    return next((name for name in package.split(_OR) if name in known), None)


def _absent(package: str, known: set[str], suite: str) -> BuildError:
    import difflib

    near = difflib.get_close_matches(package.split(_OR, maxsplit=1)[0], known, n=3)
    return BuildError(
        f"the source wants the package {package}, which Debian {suite} does not have",
        diagnostics=[f"nearest: {', '.join(near)}"] if near else [],
        hint="look at packages in the table [build] of its lkm.toml",
    )


def _link_tree(source: Path, target: Path) -> None:
    """A copy by hard links; by content where the two are on different disks."""
    shutil.copytree(source, target, symlinks=True, copy_function=_link)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def _write_meta(partial: Path, tools: Toolchain, packages: Sequence[apt.Package]) -> None:
    names = sorted(f"{package.filename} {package.digest}" for package in packages)
    identity = hashlib.sha256("\n".join([tools.identity, *names]).encode()).hexdigest()
    meta = {"schema": SCHEMA, "identity": identity, "base": tools.identity, "packages": names}
    (partial / "meta.json").write_text(json.dumps(meta, indent=1))
