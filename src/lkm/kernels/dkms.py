"""Module sources that Debian ships in its `*-dkms` packages, unpacked and not installed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lkm import atomic, paths, project
from lkm.arch import X86_64
from lkm.errors import HostError, UsageError
from lkm.kernels.suites import STABLE, SUITES, suite_named
from lkm.progress import SILENT, Progress
from lkm.source import DKMS_CONF

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
    a dkms.conf, or elsewhere in it. Verified by apt; no maintainer script runs. What the package depends on is
    named in a lkm.toml beside the dkms.conf, and fetched when it is built. Raises UsageError where the suite
    does not have it, or where it has no module source or several, HostError where there is no network.
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
            _name_packages(root, needed_for_builds(world, found))

    apt.retrying(apt.world(suite, X86_64), make, progress)


_MAX_BYTES = 20_000_000
"""What a package that another depends on may download, with all of its own: no build needs an X server."""


def needed_for_builds(world: apt.World, package: apt.Package) -> tuple[str, ...]:
    """What a build of `package` may need of what it depends on, as `lkm.project.Packages` has it.

    Headers and programs are in packages of all kinds, so it is all but other modules and what is large.
    """
    from lkm.kernels import apt

    known = set(apt.cache(world, ["pkgnames"]).split())
    control = apt.cache(world, ["show", f"{package.name}={package.version}"])
    wanted = [[name for name in each if name in known] for each in _depends(control)]
    return tuple(
        " | ".join(names)
        for names in wanted
        if names
        and not names[0].endswith("dkms")
        and sum(each.size for each in apt.closure(world, names[:1])) <= _MAX_BYTES
    )


def _depends(control: str) -> list[list[str]]:
    """The names of a package's Depends, a list of alternatives for each (Policy 7.1)."""
    field = next((line for line in control.splitlines() if line.startswith("Depends: ")), "")
    clauses = field.removeprefix("Depends: ").split(",")
    return [
        [re.split(r"[\s(:]", each.strip(), maxsplit=1)[0] for each in clause.split("|")]
        for clause in clauses
        if clause.strip()
    ]


def _name_packages(root: Path, packages: Sequence[str]) -> None:
    for conf in root.rglob(DKMS_CONF):
        path = conf.with_name(project.FILE)
        if packages and not path.exists():
            names = ", ".join(f'"{name}"' for name in packages)
            path.write_text(
                f"# written by lkm: what the package depends on\n[build]\noptional = [{names}]\n"
            )


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
