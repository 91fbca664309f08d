"""The same reason on many kernels, said once: `too few arguments to function 'class_create': 6.4 and newer`."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lkm.matrix.outcome import CellResult, State
from lkm.verdict import Verdict

__all__ = ["Group", "grouped", "normal", "short_names", "tidy", "where"]


@dataclass(frozen=True)
class Group:
    """One reason, and where it holds: for which rows, and on which kernels, in words too."""

    state: str
    reason: str
    rows: tuple[str, ...]
    kernels: tuple[str, ...]
    where: str

    def to_dict(self) -> dict[str, Any]:
        """The group as `lkm matrix --json` has it."""
        return {**asdict(self), "rows": list(self.rows), "kernels": list(self.kernels)}


def row_of(result: CellResult) -> str:
    """What the row of a result is called: the source and its parameters."""
    return f"{result.source} {result.params}".strip()


def grouped(results: Iterable[CellResult], kernels: Sequence[str]) -> tuple[Group, ...]:
    """The reasons of all cells that are not `ok`: those that most cells have first, exclusions last.

    `kernels`: oldest first.
    """
    told = list(results)
    per_row: dict[tuple[str, str, str], list[CellResult]] = {}
    for result in told:
        if result.state != Verdict.OK:
            key = row_of(result), result.state, normal(_reason(result))
            per_row.setdefault(key, []).append(result)
    merged: dict[tuple[str, str, tuple[str, ...]], list[CellResult]] = {}
    for (_, state, reason), cells in per_row.items():
        on = tuple(kernel for kernel in kernels if any(cell.kernel == kernel for cell in cells))
        merged.setdefault((state, reason, on), []).extend(cells)
    groups = [_group(cells, on, told, kernels) for (_, _, on), cells in merged.items()]
    return tuple(sorted(groups, key=_rank))


def _rank(group: Group) -> tuple[bool, int]:
    return group.state == Verdict.EXCLUDED, -len(group.rows) * len(group.kernels)


def _reason(result: CellResult) -> str:
    """The reason as it would be on another kernel."""
    return re.sub(
        rf"(?<![/\w]){re.escape(result.kernel)}(?![-/\w])", "this kernel", result.reason or ""
    )


def _group(
    cells: Sequence[CellResult],
    on: tuple[str, ...],
    told: Sequence[CellResult],
    kernels: Sequence[str],
) -> Group:
    rows = tuple(dict.fromkeys(map(row_of, cells)))
    known = {r.kernel for r in told if row_of(r) in rows and r.state != State.ERROR}
    judged = [kernel for kernel in kernels if kernel in known or kernel in on]
    return Group(cells[0].state, tidy(_reason(cells[0])), rows, on, where(on, judged, kernels))


_PLACE = re.compile(
    r"^(?:[^\s:]+:\d+(?::\d+)?: )?(?:fatal error|error|ERROR|warning): (?:modpost: )?"
)
_FLAG = re.compile(r" ?\[-W[^\]]*\]")
_ADVICE = re.compile(r"[;:] did you mean .*")
_SUGGESTION = re.compile(r"[;:] (?:expected \d|have \d).*")
_PLACES = re.compile(r"[^\s:'\"]+\.[chS]:\d+(?::\d+)?")
_ADDRESS = re.compile(r"0x[0-9a-f]+|\b[0-9a-f]{8,}\b|\d+")


def tidy(reason: str) -> str:
    """A reason without the place, the flag and the guess that gcc adds, as people get to see it."""
    text = _ADVICE.sub("", _FLAG.sub("", _PLACE.sub("", reason)))
    return text.replace("\u2018", "'").replace("\u2019", "'").strip()


def normal(reason: str) -> str:
    """What equal reasons have in common: no places, numbers, addresses, or what gcc 15 counts besides."""
    text = _SUGGESTION.sub("", tidy(reason))
    return _ADDRESS.sub("#", _PLACES.sub("FILE", text))


def short_names(kernels: Sequence[str]) -> dict[str, str]:
    """A name for each kernel that is short and still its own among these.

    The series, else without what all of them have in common: architecture, flavour, the suite's `+deb13`.
    `debug`, `host` and `tree:PATH` stay as they are.
    """
    from lkm.kernels.catalog import FLAVOURS, flavour_of, series_of

    packaged = [kernel for kernel in kernels if flavour_of(kernel) in FLAVOURS]
    one_flavour = len(set(map(flavour_of, packaged))) == 1

    def release(kernel: str) -> str:
        name = kernel.removesuffix("-amd64")
        return name.removesuffix(f"-{flavour_of(kernel)}") if one_flavour else name

    def upstream(kernel: str) -> str:
        return _SUITE.sub("", release(kernel))

    names = {kernel: kernel for kernel in kernels}
    for kernel in packaged:
        # Those of one series look alike.
        alike = [each for each in packaged if series_of(each) == series_of(kernel)]
        forms = (series_of, upstream, release, str)
        names[kernel] = next(form(kernel) for form in forms if _differ(form, alike))
    return names


_SUITE = re.compile(r"\+deb\d+")


def _differ(form: Callable[[str], str], kernels: Sequence[str]) -> bool:
    return len(set(map(form, kernels))) == len(set(kernels))


def where(some: Collection[str], judged: Sequence[str], kernels: Sequence[str]) -> str:
    """Which of the `judged` kernels `some` are: `all`, `6.12 and newer`, `6.1 to 6.12`, or a list.

    All are oldest first. Kernels without a verdict are not among those judged: they make no gap.
    `kernels` are those of the matrix.
    """
    names = short_names(kernels)
    at = [index for index, kernel in enumerate(judged) if kernel in some]
    if not at:
        return "none"
    first, last = names[judged[at[0]]], names[judged[at[-1]]]
    if at[-1] - at[0] + 1 != len(at):
        return ", ".join(names[judged[index]] for index in at)
    if len(at) == len(judged):
        return "all" if len(at) > 1 else first
    if at[-1] == len(judged) - 1:
        return f"{first} and newer" if len(at) > 1 else f"{first}, the newest"
    if at[0] == 0:
        return f"{last} and older" if len(at) > 1 else f"{first}, the oldest"
    return f"{first} to {last}" if len(at) > 1 else f"{first} only"
