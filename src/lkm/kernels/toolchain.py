"""Toolchain roots: one directory a suite and compiler, with all that Kbuild calls, entered with bwrap.

A root is made of the suite's own packages, downloaded and verified by apt and unpacked as the calling user.
No maintainer script runs; the few links that they would have made are made here.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lkm import atomic, paths, proc
from lkm.arch import X86_64, Arch
from lkm.errors import HostError, UsageError
from lkm.kernels.kernel import Toolchain
from lkm.kernels.suites import SUITES, suite_with
from lkm.progress import SILENT, Progress

if TYPE_CHECKING:
    from lkm.kernels import apt

__all__ = [
    "USELESS",
    "add_mount_points",
    "are_shared",
    "compiler_for",
    "disk_use",
    "ensure",
    "find",
    "glibc_needed",
    "links_first",
    "packages_of",
    "remove",
    "roots_dir",
    "unpack",
]

SCHEMA = 2

_PACKAGES = (
    "base-files", "bash", "bc", "binutils", "busybox-static", "bzip2", "coreutils", "cpio", "dash",
    "debianutils", "diffutils", "dpkg", "findutils", "grep", "gzip", "kmod", "libc6-dev", "libelf1",
    "make", "mawk", "openssl", "patch", "perl", "sed", "tar", "xz-utils", "zstd",
)  # fmt: skip
_PAHOLE = {"bullseye": "dwarves"}

_LINKS = {"awk": "mawk", "sh": "dash", "which": "which.debianutils"}
"""Links in /usr/bin or /bin that maintainer scripts would make, beside the compiler's."""

USELESS = ("doc", "info", "lintian", "locale", "man")
"""Directories of /usr/share that no program reads which lkm runs."""


def roots_dir() -> Path:
    """Where the roots are; it may not exist yet."""
    return paths.cache_dir() / "roots"


def find(suite: str, cc: str) -> Toolchain | None:
    """The toolchain that is on this disk, or None where there is no whole one."""
    home = _home(suite, cc)
    try:
        meta = json.loads((home / "meta.json").read_text())
        if meta["schema"] != SCHEMA or not (home / "root" / "usr").is_dir():
            return None
        return Toolchain(suite=suite, root=home / "root", cc=cc, identity=str(meta["identity"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def ensure(suite: str, cc: str, *, arch: Arch = X86_64, progress: Progress = SILENT) -> Toolchain:
    """The toolchain of `suite` with the compiler `cc` (`gcc-14`), made first where it is missing.

    Two processes that want the same one make it once. Raises HostError without network or space.
    """
    if found := find(suite, cc):
        return found
    home = _home(suite, cc)
    with atomic.exclusive(home, f"the toolchain {home.name}", progress=progress):
        atomic.sweep(home.parent)
        return find(suite, cc) or _make(home, suite, cc, arch, progress)


def are_shared() -> bool:
    """Whether the roots are a link into another store: kernels that this one does not know may use them."""
    theirs = roots_dir().resolve().with_name("kernels")
    ours = paths.cache_dir() / "kernels"
    return roots_dir().is_symlink() and theirs.is_dir() and theirs.resolve() != ours.resolve()


def remove(toolchain: Toolchain) -> int:
    """Deletes a root, but none of another store (`are_shared`); returns the bytes that this freed."""
    if are_shared():
        return 0
    home = toolchain.root.parent
    freed = disk_use(toolchain)
    with atomic.exclusive(home, f"the toolchain {home.name}"):
        atomic.remove(home)
    return freed


def disk_use(toolchain: Toolchain) -> int:
    """What a root occupies, in bytes, as measured when it was made."""
    try:
        return int(json.loads((toolchain.root.parent / "meta.json").read_text())["bytes"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def packages_of(toolchain: Toolchain) -> frozenset[str]:
    """The packages that a root was made of, each `NAME VERSION`."""
    meta = json.loads((toolchain.root.parent / "meta.json").read_text())
    return frozenset(meta["packages"])


def add_mount_points(root: Path, inside: Iterable[str]) -> None:
    """Makes the directories in `root` on which a sandbox binds others; idempotent.

    bwrap cannot make them itself below the root's own directories, which it shows read-only.
    """
    for path in inside:
        top = Path(path).parts[1]
        point = root / path.lstrip("/")
        if (root / top).is_dir() and not point.is_dir():
            point.mkdir(parents=True, exist_ok=True)


def compiler_for(gcc_version: int, glibc: int, what: str) -> tuple[str, str]:
    """The (suite, compiler) that builds for a kernel which somebody else built.

    `gcc_version` is its CONFIG_GCC_VERSION (120200 is 12.2.0; 0 is another compiler), `glibc` the minor version
    of the libc 2.x that its own programs need. Raises UsageError, which names `what`, when no suite fits.
    """
    major = gcc_version // 10000
    if not major:
        raise UsageError(f"{what} was not built with gcc", hint="build it again: make CC=gcc")
    if suite := suite_with(major, glibc):
        return suite.name, f"gcc-{major}"
    rows = [
        f"{suite.name}: glibc 2.{suite.glibc}, gcc {', '.join(map(str, suite.compilers))}"
        for suite in SUITES
        if suite.compilers
    ]
    raise UsageError(
        f"no Debian suite has gcc {major} and glibc 2.{glibc}, which {what} needs",
        evidence=rows,
        hint="build it again with one of these compilers",
    )


def glibc_needed(programs: Iterable[Path]) -> int:
    """The highest N of the GLIBC_2.N symbol versions that programs need; 0 where there are none."""
    needed = [0]
    for program in programs:
        with contextlib.suppress(OSError):
            needed += map(int, re.findall(rb"\0GLIBC_2\.(\d+)", program.read_bytes()))
    return max(needed)


_UNPACK = """
into=$1; shift
for archive; do
    echo "$archive"
    dpkg-deb --extract "$archive" "$into" || exit 1
done
chmod -R u-s,g-s -- "$into"
"""
"""A store has no setuid."""


def unpack(archives: Sequence[Path], into: Path, *, progress: Progress = SILENT) -> None:
    """Unpacks package files as the calling user, in their order.

    bubblewrap shows the rest of this computer read-only, and ends what dpkg-deb starts when lkm dies.
    """
    # bubblewrap cannot mount below a link: it would follow it out of the root that it is making.
    into, archives = into.resolve(), [archive.resolve() for archive in archives]
    done = 0

    def on_line(line: str) -> None:
        nonlocal done
        if line.endswith(".deb"):
            progress.amount(done, len(archives))
            done += 1

    inside = ["/bin/sh", "-c", _UNPACK, "unpack", str(into), *map(str, archives)]
    finished = proc.run(
        [*_contained(into), *inside],
        stage=f"unpacking into {into}",
        timeout=1200,
        on_line=on_line,
    )
    if finished.returncode:
        raise _unpack_failure(atomic.destination(into), finished.output)
    progress.amount(len(archives), len(archives))


def _contained(writable: Path) -> list[str]:
    # Not the sandbox of builds: as root this keeps the capabilities that tar needs for file owners.
    line = ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
    line += ["--bind", str(writable), str(writable)]
    line += ["--unshare-pid", "--unshare-net", "--unshare-ipc"]
    return [*line, "--die-with-parent", "--new-session", "--chdir", "/", "--"]


def _unpack_failure(name: str, output: str) -> HostError:
    said = [line for line in output.splitlines() if not line.endswith(".deb")]
    if "No space left" in output or "quota exceeded" in output:
        full = [line for line in said if "No space" in line or "quota" in line]
        return atomic.no_space(f"unpacking {name}", tuple(full[-2:]))
    return HostError(f"unpacking {name} failed", evidence=said[-6:])


def _home(suite: str, cc: str) -> Path:
    return roots_dir() / f"{suite}-{cc}"


def _make(home: Path, suite: str, cc: str, arch: Arch, progress: Progress) -> Toolchain:
    from lkm import sandbox
    from lkm.kernels import apt, downloads

    # Before the download: without bubblewrap all of it would be in vain.
    sandbox.check_usable(Path("/"))

    def make(world: apt.World) -> Toolchain:
        packages = apt.closure(world, [*_PACKAGES, _PAHOLE.get(suite, "pahole"), cc])
        what = f"the toolchain {home.name}"
        with downloads.area(home) as archives, atomic.making(home, what) as partial:
            progress.step(f"fetching the toolchain {world.suite} {cc}")
            files = downloads.get(world, packages, archives, progress=progress)
            progress.step(f"unpacking the toolchain {suite} {cc}")
            _fill(partial / "root", files, cc, progress)
            _write_meta(partial, packages)
        made = find(suite, cc)
        assert made is not None
        return made

    return apt.retrying(apt.world(suite, arch), make, progress)


def _fill(root: Path, files: Sequence[Path], cc: str, progress: Progress) -> None:
    root.mkdir()
    unpack(links_first(files), root, progress=progress)
    _finish(root, cc)


def links_first(files: Iterable[Path]) -> list[Path]:
    """Package files with base-files first: since trixie it has the links /bin, /lib and /sbin, which others
    unpack through."""
    return sorted(files, key=lambda path: (not path.name.startswith("base-files_"), path.name))


def _finish(root: Path, cc: str) -> None:
    """What maintainer scripts would have done and Kbuild needs; and away with the documentation."""
    import shutil

    for name in USELESS:
        shutil.rmtree(root / "usr/share" / name, ignore_errors=True)
    for name, target in {**_LINKS, "cc": cc, "gcc": cc}.items():
        _link(root, name, target)
    for path in ("usr/src", "usr/lib/modules", "lib/modules"):
        (root / path).mkdir(parents=True, exist_ok=True)


def _link(root: Path, name: str, target: str) -> None:
    for directory in (root / "usr/bin", root / "bin"):
        if (directory / target).exists() or (directory / target).is_symlink():
            with contextlib.suppress(FileExistsError):
                (directory / name).symlink_to(target)


def _write_meta(partial: Path, packages: Sequence[apt.Package]) -> None:
    import hashlib

    names = [f"{package.filename} {package.digest}" for package in packages]
    meta = {
        "schema": SCHEMA,
        "identity": hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest(),
        "bytes": atomic.disk_bytes(partial),
        "packages": sorted(f"{package.name} {package.version}" for package in packages),
    }
    (partial / "meta.json").write_text(json.dumps(meta, indent=1))
