"""What kernels there are to have, and what a name on the command line means."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from lkm import paths
from lkm.arch import X86_64, Arch
from lkm.errors import HostError, UsageError
from lkm.kernels.suites import STABLE, SUITES, Suite, suite_named
from lkm.progress import SILENT, Progress

__all__ = [
    "DEBUG_FLAVOUR",
    "FLAVOURS",
    "STABLE",
    "SUITES",
    "Offer",
    "Wanted",
    "available",
    "choose",
    "find_offer",
    "flavour_of",
    "is_debug",
    "newest",
    "offers",
    "parse_name",
    "series_of",
    "suites_for",
    "unknown",
    "version_key",
]

FLAVOURS = ("cloud", "generic", "rt")
"""Debian's kinds of kernel: for virtual machines (the default), for PCs, with PREEMPT_RT."""

DEFAULT_FLAVOUR = "cloud"

DEBUG_FLAVOUR = "debug"
"""What lkm builds itself from Debian's source (kernels/debug.py); no suite offers it."""


@dataclass(frozen=True)
class Offer:
    """A kernel that a suite offers; `version` is the Debian version of its packages."""

    release: str
    suite: str
    flavour: str
    version: str
    image_package: str
    headers_package: str


@dataclass(frozen=True)
class Wanted:
    """A kernel's name, understood. Of `release`, `series`, `suite` and `path` at most one is set."""

    text: str
    provider: str = "debian"
    release: str | None = None
    series: str | None = None
    suite: str | None = None
    path: Path | None = None
    flavour: str | None = None

    def fits(self, kernel: Described) -> bool:
        """Whether an offer, or a kernel on this disk, is one of those that the name means."""
        if self.release:
            return kernel.release == self.release
        if kernel.flavour != self.flavour:
            return False
        if self.suite:
            return kernel.suite == self.suite
        upstream = _upstream(kernel.release)
        return upstream == self.series or upstream.startswith(f"{self.series}.")


class Described(Protocol):
    """What offers and kernels on this disk have in common."""

    @property
    def release(self) -> str: ...
    @property
    def suite(self) -> str | None: ...
    @property
    def flavour(self) -> str | None: ...
    @property
    def version(self) -> str | None: ...


_NUMBERED = re.compile(rf"(?P<series>\d+(?:\.\d+)+)(?:-(?P<flavour>{'|'.join(FLAVOURS)}))?")
_SUITE = re.compile(rf"debian:(?P<suite>[a-z-]+?)(?:-(?P<flavour>{'|'.join(FLAVOURS)}))?")
_RELEASE = re.compile(r"\d+\.\d+\S*?-(?:(?P<flavour>cloud|rt)-)?(?P<arch>amd64)")
_DEBUG = re.compile(r"(?:(?P<series>\d+(?:\.\d+)+)\+)?debug")
_DEBUG_RELEASE = re.compile(r"\d+\.\d+\S*-lkm-debug")


def parse_name(name: str | None) -> Wanted:
    """What `name` means; None is Debian stable's cloud flavour.

    `6.1`, `6.12.107` and `6.1-rt` are the newest such kernel (`-cloud` unless a flavour is said), then a
    release as `uname -r` says it, `debian:trixie`, `debian:trixie-rt`, `debug` and `6.1+debug` (stable's and
    6.1's source with the sanitizers on), `host`, and `tree:PATH`. Raises UsageError for anything else; it
    does not look whether such a kernel exists.
    """
    if name is None:
        return Wanted(f"debian:{STABLE}", suite=STABLE, flavour=DEFAULT_FLAVOUR)
    if name == "host":
        return Wanted(name, provider="host")
    if name.startswith("tree:"):
        return Wanted(name, provider="tree", path=_tree_path(name))
    if found := _NUMBERED.fullmatch(name):
        return Wanted(name, series=found["series"], flavour=found["flavour"] or DEFAULT_FLAVOUR)
    if (found := _SUITE.fullmatch(name)) and suite_named(found["suite"]):
        return Wanted(name, suite=found["suite"], flavour=found["flavour"] or DEFAULT_FLAVOUR)
    if _RELEASE.fullmatch(name):
        return Wanted(name, release=name)
    if is_debug(name):
        return _debug(name)
    raise unknown(name, [])


def is_debug(name: str) -> bool:
    """Whether a name means a debug kernel: `debug`, `6.1+debug`, or the release of one."""
    return bool(_DEBUG.fullmatch(name) or _DEBUG_RELEASE.fullmatch(name))


def _debug(name: str) -> Wanted:
    found = _DEBUG.fullmatch(name)
    if not found:
        return Wanted(name, "debug", release=name, flavour=DEBUG_FLAVOUR)
    stable = next(suite.series for suite in SUITES if suite.name == STABLE)
    return Wanted(name, "debug", series=found["series"] or stable, flavour=DEBUG_FLAVOUR)


def _tree_path(name: str) -> Path:
    path = name.removeprefix("tree:")
    if not path:
        raise UsageError("tree: names no directory", hint="write tree:PATH, as in tree:$HOME/linux")
    return Path(path).expanduser().absolute()


def unknown(name: str, on_disk: Iterable[str], also: Iterable[str] = ()) -> UsageError:
    """The error for a name that no kernel has, with the nearest names among those that are known.

    `also` are names that only the caller knows.
    """
    import difflib

    offered = [offer.release for offer in _remembered()]
    suites = [f"debian:{suite.name}" for suite in SUITES]
    series = sorted({series_of(release) for release in (*on_disk, *offered)})
    known = dict.fromkeys((*on_disk, *series, *suites, *offered, *also, "host"))
    near = difflib.get_close_matches(
        name, [other for other in known if other != name], n=3, cutoff=0.5
    )
    evidence = [f"nearest: {', '.join(near)}"] if near else []
    return UsageError(
        f"no kernel is called {name!r}", evidence=evidence, hint="lkm kernel list --available"
    )


def flavour_of(release: str) -> str | None:
    """The flavour in a Debian release, `cloud` for 6.1.0-37-cloud-amd64; None for another's release."""
    if _DEBUG_RELEASE.fullmatch(release):
        return DEBUG_FLAVOUR
    found = _RELEASE.fullmatch(release)
    return (found["flavour"] or "generic") if found else None


def series_of(release: str) -> str:
    """The series of a release, `6.12` for 6.12.107+deb13-cloud-amd64."""
    return ".".join(_upstream(release).split(".")[:2])


def _upstream(release: str) -> str:
    found = re.match(r"\d+(?:\.\d+)*", release)
    return found[0] if found else ""


_Key = tuple[tuple[int, ...], float, tuple[int, ...]]


def version_key(version: str) -> _Key:
    """Orders releases and Debian kernel versions from old to new.

    Upstream numbers first (7.3 before 7.3.1, release candidates before both), then the other numbers
    in the order in which they stand; what a `~` begins comes before nothing at all, so that a backport is
    older than what it was made of. It knows kernels, not deb-version(7) at large.
    """
    upstream = _upstream(version)
    numbers = tuple(int(part) for part in upstream.split(".")) if upstream else ()
    rest = version[len(upstream) :]
    candidate = re.match(r"[~-]rc(\d+)", rest)
    rank = float(candidate[1]) if candidate else float("inf")
    others = (_TILDE if part == "~" else int(part) for part in re.findall(r"\d+|~", rest))
    return numbers, rank, (*others, _END)


_TILDE, _END = -2, -1


_D = TypeVar("_D", bound=Described)


def newest(kernels: Iterable[_D]) -> _D | None:
    """The one with the highest version, or None; of equals the first."""
    return max(
        kernels, key=lambda kernel: version_key(kernel.version or kernel.release), default=None
    )


def offers(
    suite: str, *, arch: Arch = X86_64, force: bool = False, progress: Progress = SILENT
) -> tuple[Offer, ...]:
    """What a suite offers, oldest first, from lists at most a day old (fetched anew with `force`).

    Empty where the mirror does not have the suite. Raises HostError without network or signature.
    """
    from lkm.kernels import apt

    world = apt.world(suite, arch)
    if not apt.refresh(world, force=force, progress=progress):
        return ()
    listing = _listing(suite, arch)
    if listing.is_file() and listing.stat().st_mtime_ns > world.stamp.stat().st_mtime_ns:
        return tuple(_read_listing(listing))
    found = _ask(world.suite, arch, lambda *words: apt.cache(world, words))
    _write_listing(listing, found)
    return found


class _Ask(Protocol):
    def __call__(self, *words: str) -> str: ...


def _ask(suite: str, arch: Arch, ask: _Ask) -> tuple[Offer, ...]:
    pattern = re.compile(rf"linux-(?:image|headers)-\d\S*-{arch.debian}(?:-unsigned)?")
    names = [name for name in ask("pkgnames", "linux-").split() if pattern.fullmatch(name)]
    if not names:
        return ()
    return _offers_in(ask("madison", *sorted(names)), suite)


def _offers_in(madison: str, suite: str) -> tuple[Offer, ...]:
    """The offers in `apt-cache madison` output (apt-cache(8)): PACKAGE | VERSION | URI SUITE/main ..."""
    there = set()
    for line in madison.splitlines():
        fields = [field.strip() for field in line.split("|")]
        if len(fields) == 3 and f" {suite}/main " in f" {fields[2]} ":
            there.add((fields[0], fields[1]))
    found: dict[str, Offer] = {}
    for package, version in sorted(there, key=lambda pair: version_key(pair[1])):
        if offer := _offer(package, version, suite, there):
            found[offer.release] = offer
    return tuple(sorted(found.values(), key=lambda offer: version_key(offer.version)))


def _offer(package: str, version: str, suite: str, there: set[tuple[str, str]]) -> Offer | None:
    """The offer of an image package whose headers are there too; the signed one where there are two."""
    if not package.startswith("linux-image-"):
        return None
    release = package.removeprefix("linux-image-").removesuffix("-unsigned")
    signed, headers = f"linux-image-{release}", f"linux-headers-{release}"
    flavour = flavour_of(release)
    if flavour is None or (headers, version) not in there:
        return None
    image = signed if (signed, version) in there else package
    return Offer(release, suite, flavour, version, image, headers)


def _listing(suite: str, arch: Arch) -> Path:
    return paths.cache_dir() / "apt" / f"{suite}-{arch.debian}" / "offers.json"


def _write_listing(listing: Path, found: tuple[Offer, ...]) -> None:
    from lkm import atomic

    atomic.write(listing, json.dumps([asdict(offer) for offer in found]))


def _read_listing(listing: Path) -> list[Offer]:
    try:
        return [Offer(**entry) for entry in json.loads(listing.read_text())]
    except (OSError, ValueError, TypeError):
        return []


def _remembered() -> Iterator[Offer]:
    """Offers of earlier days, without asking anybody: good for suggestions."""
    for suite in SUITES:
        yield from _read_listing(_listing(suite.name, X86_64))


def available(*, force: bool = False, progress: Progress = SILENT) -> tuple[Offer, ...]:
    """What all suites offer, in the order of `SUITES`, each from oldest to newest.

    Raises HostError where the mirror has none of the suites.
    """
    return tuple(_in_suites(SUITES, force=force, progress=progress))


def find_offer(wanted: Wanted, *, progress: Progress = SILENT) -> Offer | None:
    """The newest offer that fits a name, or None. Asks no more suites than it must.

    Raises HostError where the mirror has none of the suites that it asked.
    """
    seen: list[Offer] = []
    for group in _groups(wanted):
        seen += _in_suites(group, progress=progress, tolerant=bool(seen))
        if best := choose(wanted, seen):
            return best
    return None


def choose(wanted: Wanted, kernels: Iterable[_D]) -> _D | None:
    """The newest of `kernels` that fits a name, of the series' own suite before others; or None."""
    fitting = [kernel for kernel in kernels if wanted.fits(kernel)]
    home = {suite.name for suite in _groups(wanted)[0]}
    return newest(kernel for kernel in fitting if kernel.suite in home) or newest(fitting)


def _in_suites(
    suites: Sequence[Suite],
    *,
    force: bool = False,
    progress: Progress = SILENT,
    tolerant: bool = False,
) -> list[Offer]:
    found = [o for suite in suites for o in offers(suite.name, force=force, progress=progress)]
    if not found and suites and not tolerant:
        from lkm.kernels import apt

        raise HostError(
            f"{apt.find_mirror()} has no kernels of Debian {', '.join(s.name for s in suites)}",
            hint="set LKM_DEBIAN_MIRROR to the URL of another mirror",
        )
    return found


def _groups(wanted: Wanted) -> list[list[Suite]]:
    """Suites to ask, in groups of equal rank: the home of a series before the moving ones."""
    if wanted.suite:
        return [[suite for suite in SUITES if suite.name == wanted.suite]]
    return _homes_of(series_of(wanted.release or wanted.series or ""))


def _homes_of(series: str) -> list[list[Suite]]:
    home = [suite for suite in SUITES if suite.series == series]
    moving = [suite for suite in SUITES if not suite.series]
    return [home, moving]


def suites_for(series: str) -> tuple[str, ...]:
    """The suites that may have a series, by their names, the most likely first."""
    return tuple(suite.name for group in _homes_of(series_of(series)) for suite in group)
