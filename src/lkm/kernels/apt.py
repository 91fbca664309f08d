"""A private world of apt for each Debian suite: its own lists, cache and empty dpkg status.

apt does the work that it is trusted with (mirrors, proxies, signatures, hashes, dependencies), and nothing
of it touches the computer's own package state. The user's apt.conf stays in force, so that proxies and
credentials work (apt.conf(5)); the hooks that it may carry for system updates do not run.
"""

from __future__ import annotations

import functools
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

from lkm import atomic, config, paths, proc
from lkm.arch import Arch
from lkm.errors import HostError, UsageError
from lkm.kernels.apt_words import GONE, REFUSED, failure
from lkm.kernels.suites import SUITES, base_suite
from lkm.progress import SILENT, Progress

__all__ = [
    "Package",
    "World",
    "alone",
    "cache",
    "closure",
    "command",
    "failure",
    "find_mirror",
    "keyring",
    "refresh",
    "retrying",
    "source_lines",
    "world",
]

DAY = 86400.0
"""How long package lists are believed, in seconds, unless a download shows that they are old."""

_UPDATE_TIMEOUT = 600.0
_QUERY_TIMEOUT = 120.0

_KEYRINGS = ("debian-archive-keyring.gpg", "debian-archive-keyring.pgp")


@dataclass(frozen=True)
class World:
    """One suite's apt: `directory` holds its configuration and state, `mirror` is a URL."""

    suite: str
    arch: Arch
    directory: Path
    mirror: str

    @property
    def stamp(self) -> Path:
        """A file whose mtime is when the lists were last fetched whole."""
        return self.directory / "updated"


@dataclass(frozen=True)
class Package:
    """One package file of the archive, as `apt-get --print-uris` names it; `size` in bytes.

    `digest` is `SHA256:` and 64 digits, from the signed lists.
    """

    name: str
    version: str
    filename: str
    size: int
    digest: str
    uri: str = ""


def keyring() -> Path:
    """Debian's archive keyring on this computer; HostError that names its package where missing."""
    for name in _KEYRINGS:
        path = Path("/usr/share/keyrings") / name
        if path.is_file():
            return path
    raise HostError(
        "Debian's archive keyring is not installed, so no download could be verified",
        hint="sudo apt-get install debian-archive-keyring",
    )


def find_mirror() -> str:
    """The URL of a Debian mirror: lkm's setting, else the first one that apt is configured with.

    Raises UsageError for a setting that is no URL, and HostError where there is neither.
    """
    if chosen := config.load().mirror:
        if not re.fullmatch(r"[a-z][a-z0-9+.-]*:/\S+", chosen):
            raise UsageError(
                f"the Debian mirror {chosen!r} is not a URL",
                hint="write LKM_DEBIAN_MIRROR=http://HOST/debian",
            )
        return chosen
    lines = _configured_targets()
    if mirror := _pick_mirror(lines):
        return mirror
    raise HostError(
        "this computer's apt is not configured with a Debian mirror",
        evidence=lines[:5],
        hint="set LKM_DEBIAN_MIRROR to the URL of one, or write"
        f' mirror = "http://HOST/debian" in {paths.config_file()}',
    )


@functools.cache
def _configured_targets() -> tuple[str, ...]:
    template = "$(REPO_URI)|$(ORIGIN)|$(RELEASE)"
    done = proc.run(
        ["apt-get", "indextargets", "--format", template, "Created-By: Packages"],
        stage="reading apt's configuration",
        timeout=_QUERY_TIMEOUT,
        env=_environment(),
    )
    return tuple(done.output.splitlines())


def _pick_mirror(lines: Sequence[str]) -> str | None:
    """The first URI|ORIGIN|RELEASE that is Debian's main archive.

    ORIGIN is only known when apt has fetched its lists; before that the path and the suite must do.
    """
    for line in lines:
        uri, _, rest = line.partition("|")
        origin, _, release = rest.partition("|")
        if uri.startswith(("cdrom:", "file:")) or release.partition("-")[0] not in _names():
            continue
        path = uri.rstrip("/")
        if path.endswith("/debian") or (origin == "Debian" and "security" not in release + path):
            return uri
    return None


def _names() -> frozenset[str]:
    return frozenset(
        {*(suite.name for suite in SUITES), "stable", "oldstable", "testing", "unstable"}
    )


def world(suite: str, arch: Arch) -> World:
    """The world of `suite`, its directories and configuration made; fetches nothing."""
    directory = paths.cache_dir() / "apt" / f"{suite}-{arch.debian}"
    made = World(suite, arch, directory, find_mirror())
    with atomic.disk_errors(f"apt lists of {suite}"):
        for name in ("lists/partial", "archives/partial"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        if not (directory / "status").exists():  # apt's caches are as old as this file at most
            (directory / "status").touch()
        _write_if_new(directory / "apt.conf", _configuration(made))
        if _write_if_new(directory / "sources.list", "".join(source_lines(made))):
            made.stamp.unlink(missing_ok=True)
    return made


def source_lines(of: World) -> list[str]:
    """The sources.list(5) lines of a world: the suite that it is built on, then itself."""
    signed = f"[arch={of.arch.debian} target=Packages signed-by={keyring()}]"
    suites = dict.fromkeys((base_suite(of.suite), of.suite))
    return [f"deb {signed} {of.mirror} {suite} main\n" for suite in suites]


def _configuration(of: World) -> str:
    """apt.conf(5), read after the user's own: everything with state is ours."""
    settings = {
        "Dir::Etc::sourcelist": of.directory / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::State": of.directory,
        "Dir::State::lists": of.directory / "lists",
        "Dir::State::status": of.directory / "status",
        "Dir::Cache": of.directory,
        "Dir::Cache::archives": of.directory / "archives",
        # Images of containers switch it off, and then each call of apt reads all lists.
        "Dir::Cache::pkgcache": of.directory / "pkgcache.bin",
        "Dir::Cache::srcpkgcache": "",  # as large, and only for a status that changes
        "Dir::Log": of.directory,
        "APT::Architecture": of.arch.debian,
        "APT::Default-Release": "",
        "APT::Install-Recommends": "false",
        "APT::Update::Error-Mode": "any",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Acquire::Retries": "2",
    }
    clear = (
        "APT::Architectures", "APT::Update::Pre-Invoke", "APT::Update::Post-Invoke",
        "APT::Update::Post-Invoke-Success",
    )  # fmt: skip
    lines = [f"#clear {name};" for name in clear]
    lines += [f'{name} "{value}";' for name, value in settings.items()]
    lines.append(f'APT::Architectures {{ "{of.arch.debian}"; }};')
    return "\n".join(lines) + "\n"


def _write_if_new(path: Path, text: str) -> bool:
    if path.is_file() and path.read_text() == text:
        return False
    atomic.write(path, text)  # another lkm may read it now
    return True


def refresh(of: World, *, force: bool = False, progress: Progress = SILENT) -> bool:
    """Fetches the package lists when they are missing, older than a day, or with `force`.

    True where lists are there afterwards; False where the mirror does not have the suite. Raises
    HostError with apt's words when the network is down or a signature is wrong.
    """
    if not force and _is_fresh(of.stamp):
        return True
    with atomic.exclusive(of.directory, f"the package lists of {of.suite}", progress=progress):
        if not force and _is_fresh(of.stamp):
            return True
        progress.step(f"reading what Debian {of.suite} offers")
        done = command(of, ["apt-get", "update"], f"apt-get update ({of.suite})", _UPDATE_TIMEOUT)
        if done.returncode:
            if _is_missing(of, done.output):
                return False
            raise failure(f"the package lists of Debian {of.suite}", done.output)
        of.stamp.touch()
    return True


def _is_fresh(stamp: Path) -> bool:
    try:
        return 0 <= time.time() - stamp.stat().st_mtime < DAY
    except FileNotFoundError:
        return False


def _is_missing(of: World, output: str) -> bool:
    gone = re.search(rf" {re.escape(of.suite)} Release' (does not have|no longer has)", output)
    return bool(gone) and not REFUSED.search(output)


_T = TypeVar("_T")


def retrying(of: World, work: Callable[[World], _T], progress: Progress) -> _T:
    """What `work` gives; when the mirror no longer has a package, once more with new lists.

    Raises HostError where the mirror does not have the suite, and whatever `work` raises.
    """
    if not refresh(of, progress=progress):
        raise HostError(f"{of.mirror} does not have Debian {of.suite}", hint=_OTHER_MIRROR)
    try:
        return work(of)
    except HostError as error:
        if not any(GONE.search(line) for line in error.evidence):
            raise
    refresh(of, force=True, progress=progress)
    return work(of)


_OTHER_MIRROR = "set LKM_DEBIAN_MIRROR to the URL of a mirror that has it"


def cache(of: World, arguments: Sequence[str]) -> str:
    """What `apt-cache ARGUMENTS` prints in a world, without apt's notes."""
    done = command(of, ["apt-cache", *arguments], "apt-cache", _QUERY_TIMEOUT)
    if done.returncode:
        raise failure(f"apt-cache {arguments[0]} ({of.suite})", done.output)
    return "\n".join(line for line in done.output.splitlines() if not line.startswith(_NOTES))


def closure(of: World, packages: Sequence[str]) -> tuple[Package, ...]:
    """`packages` (`NAME` or `NAME=VERSION`) and all that they depend on, in apt's order.

    Packages that have newer versions in the world's own suite come from there.
    """
    arguments = [
        "apt-get", "install", "--yes", "--print-uris", "--no-install-recommends",
        "--target-release", of.suite, "--option", "Acquire::ForceHash=SHA256", *packages,
    ]  # fmt: skip
    done = command(of, arguments, f"apt-get install --print-uris ({of.suite})", _QUERY_TIMEOUT)
    if done.returncode:
        raise failure(f"the dependencies of {', '.join(packages)}", done.output)
    return _parse_uris(done.output)


def alone(of: World, package: str) -> Package:
    """`package` without what it depends on. Raises HostError where the suite does not have it."""
    argv = ["apt-get", "download", "--print-uris", "--option", "Acquire::ForceHash=SHA256", package]
    stage = f"apt-get download --print-uris ({of.suite})"
    # Not where the caller is: apt names no URI for a file that lies in the current directory.
    done = command(of, argv, stage, _QUERY_TIMEOUT, cwd=of.directory)
    found = _parse_uris(done.output)
    if done.returncode or not found:
        raise failure(f"the package {package} of {of.suite}", done.output)
    return found[0]


_URI = re.compile(r"'(?P<uri>[^']+)' (?P<file>\S+) (?P<size>\d+) ?(?P<digest>\S*)")


def _parse_uris(output: str) -> tuple[Package, ...]:
    packages = []
    for line in output.splitlines():
        if found := _URI.fullmatch(line.rstrip()):
            name, version, _ = unquote(found["file"]).split("_")
            size = int(found["size"])
            packages.append(
                Package(name, version, found["file"], size, found["digest"], found["uri"])
            )
    return tuple(packages)


def command(
    of: World,
    argv: list[str],
    stage: str,
    timeout: float,
    *,
    cwd: Path | None = None,
    on_line: Callable[[str], None] | None = None,
    grace: float = 0.0,
) -> proc.Finished:
    """Runs a program of apt's in a world, whatever its exit status; its output is all kept."""
    return proc.run(
        [argv[0], "--config-file", str(of.directory / "apt.conf"), *argv[1:]],
        stage=stage,
        timeout=timeout,
        env=_environment(),
        cwd=cwd,
        on_line=on_line,
        keep_lines=None,
        grace=grace,
    )


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C.UTF-8"}


_NOTES = ("W: ", "N: ")
