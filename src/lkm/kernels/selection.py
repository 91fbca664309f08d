"""Names that mean several kernels: `6.1..7.2`, `all-rt`, `*-rt-amd64`, `oldest,6.12,newest`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import cached_property

from lkm.errors import HostError, UsageError
from lkm.kernels import catalog, store
from lkm.kernels.catalog import Described, Wanted
from lkm.progress import SILENT, Progress

__all__ = ["WORDS", "is_glob", "select"]

WORDS = ("all", "oldest", "newest")
"""Words for kernels of one flavour: all that are offered, the first and the last of them."""

_ENDINGS = ("", *(f"-{flavour}" for flavour in catalog.FLAVOURS))
_FLAVOUR = rf"(?:-(?P<flavour>{'|'.join(catalog.FLAVOURS)}))?"
_WORD = re.compile(rf"(?P<word>{'|'.join(WORDS)}){_FLAVOUR}")
_RANGE = re.compile(rf"(?P<first>\d+\.\d+)?\.\.(?P<last>\d+\.\d+)?{_FLAVOUR}")


def select(text: str, *, progress: Progress = SILENT) -> tuple[str, ...]:
    """The kernels that a comma list of names means, as `store.get` takes them: oldest first, each once.

    A name is one that `catalog.parse_name` knows (the newest such kernel), a range of series with both ends
    in it (`6.1..7.2`, `6.1..`; the newest kernel of each series), `all`, `oldest`, `newest`, or a glob of
    releases of any flavour (`6.1.*`, `*-rt-amd64`). The flavour is `cloud` unless a name ends in another.
    `debug`, `6.1+debug`, `host` and `tree:PATH` stay as they are, at the end.

    The kernels are those that the archive offers, from lists at most a day old; where it cannot be asked,
    or offers none of a name, those on this disk. Fetches none of them. Raises UsageError for a name that no
    kernel has, HostError where there is neither archive nor kernel.
    """
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise UsageError(
            f"the kernels {text!r} have a name that is empty", hint="write 6.1,7.2, for example"
        )
    known = _Known(progress)
    found = [kernel for name in names for kernel in _meant_by(name, known)]
    packaged = sorted((kernel for kernel in found if not _is_elsewhere(kernel)), key=_age)
    return tuple(dict.fromkeys([*packaged, *filter(_is_elsewhere, found)]))


def is_glob(name: str) -> bool:
    """Whether it is a pattern of releases (fnmatch)."""
    return any(char in name for char in "*?[")


def _is_elsewhere(name: str) -> bool:
    return name == "host" or name.startswith("tree:") or catalog.is_debug(name)


def _age(release: str) -> tuple[object, int, str]:
    flavour = catalog.flavour_of(release)
    known = catalog.FLAVOURS
    rank = known.index(flavour) if flavour in known else len(known)
    return catalog.version_key(release), rank, release


class _Known:
    """What is offered, asked when it is first needed; an archive that does not answer is asked once."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._unreachable: HostError | None = None

    @cached_property
    def on_disk(self) -> Sequence[Described]:
        return store.installed()

    @cached_property
    def all(self) -> Sequence[Described]:
        """What all suites offer; without the archive what is on this disk."""
        try:
            if not self._unreachable:
                return catalog.available(progress=self._progress)
        except HostError as error:
            self._fall_back(error)
        return self.on_disk

    def one(self, wanted: Wanted) -> str:
        """The newest kernel of a name, whose own suite is asked first."""
        found = self._here(wanted) if wanted.release else None
        try:
            if not found and not self._unreachable:
                found = catalog.find_offer(wanted, progress=self._progress)
        except HostError as error:
            self._fall_back(error)
        if best := found or self._here(wanted):
            return best.release
        raise self._unreachable or self.unknown(wanted.text)

    def unknown(self, name: str) -> UsageError:
        words = [word + ending for word in WORDS for ending in _ENDINGS]
        return catalog.unknown(name, [kernel.release for kernel in self.on_disk], words)

    def _here(self, wanted: Wanted) -> Described | None:
        return catalog.newest(kernel for kernel in self.on_disk if wanted.fits(kernel))

    def _fall_back(self, error: HostError) -> None:
        if not self.on_disk:
            raise error
        self._unreachable = error
        self._progress.step(f"{error.summary}: choosing among the kernels on this disk")


def _meant_by(name: str, known: _Known) -> list[str]:
    if _is_elsewhere(name):
        return [catalog.parse_name(name).text]
    if found := _WORD.fullmatch(name):
        return _by_word(name, found["word"], found["flavour"], known)
    if ".." in name:
        return _in_range(name, known)
    if is_glob(name):
        return _matching(name, known)
    try:
        wanted = catalog.parse_name(name)
    except UsageError:
        raise known.unknown(name) from None
    return [known.one(wanted)]


def _by_word(name: str, word: str, flavour: str | None, known: _Known) -> list[str]:
    kernels = _of_flavour(flavour, known)
    if not kernels:
        raise known.unknown(name)
    releases = sorted((kernel.release for kernel in kernels), key=_age)
    return {"all": releases, "oldest": releases[:1], "newest": releases[-1:]}[word]


def _of_flavour(flavour: str | None, known: _Known) -> list[Described]:
    return [k for k in known.all if k.flavour == (flavour or catalog.DEFAULT_FLAVOUR)]


def _in_range(name: str, known: _Known) -> list[str]:
    """The newest kernel of each series that lies in a range, by the rule of a series' own name."""
    first, last, flavour = _ends(name)
    kernels = _of_flavour(flavour, known)
    offered = sorted({catalog.series_of(kernel.release) for kernel in kernels}, key=_series_key)
    inside = [series for series in offered if first <= _series_key(series) <= last]
    if not inside:
        raise _nothing_fits(name, "range", offered)
    return [_newest_of(f"{series}-{flavour}", kernels) for series in inside]


def _ends(name: str) -> tuple[tuple[int, ...], tuple[int, ...], str]:
    """First and last series of a range, an open end as far as can be, and its flavour."""
    found = _RANGE.fullmatch(name)
    if not found or not (found["first"] or found["last"]):
        raise UsageError(
            f"{name!r} is not a range of kernel series",
            hint="write 6.1..7.2, 6.1.. or ..7.2, and a flavour after it: 6.1..7.2-rt",
        )
    first, last = _series_key(found["first"] or "0"), _series_key(found["last"] or "99999")
    if first > last:
        raise UsageError(
            f"the range {name} ends before it begins",
            hint=f"write {found['last']}..{found['first']}",
        )
    return first, last, found["flavour"] or catalog.DEFAULT_FLAVOUR


def _newest_of(name: str, kernels: Sequence[Described]) -> str:
    best = catalog.choose(catalog.parse_name(name), kernels)
    assert best is not None
    return best.release


def _series_key(series: str) -> tuple[int, ...]:
    return tuple(int(number) for number in series.split("."))


def _matching(pattern: str, known: _Known) -> list[str]:
    kernels = {kernel.release for kernel in known.all}
    if found := [release for release in kernels if fnmatchcase(release, pattern)]:
        return found
    raise _nothing_fits(pattern, "glob", sorted(kernels, key=_age)[-3:])


def _nothing_fits(name: str, kind: str, others: Sequence[str]) -> UsageError:
    return UsageError(
        f"no kernel on offer is in the {kind} {name!r}",
        evidence=[f"there are, among others: {', '.join(others)}"] if others else [],
        hint="lkm kernel list --available",
    )
