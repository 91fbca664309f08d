"""Which cells a matrix has: every source with every set of parameters on every kernel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lkm import code
from lkm.machine import DEFAULT_TIMEOUT
from lkm.matrix import sources
from lkm.matrix.cell import Cell
from lkm.matrix.sources import Source
from lkm.progress import SILENT, Progress

__all__ = ["EVERY", "Plan", "kernels_of", "plan", "sources_of"]

EVERY = "5.10.."
"""The newest kernel of each series on offer."""


@dataclass(frozen=True)
class Plan:
    """Sources down, kernels across, oldest first; `params` has the sets of parameters, an empty one too."""

    sources: tuple[Source, ...]
    kernels: tuple[str, ...]
    params: tuple[tuple[str, ...], ...] = ((),)
    tests: bool = False
    timeout: float = DEFAULT_TIMEOUT

    def cells(self) -> tuple[Cell, ...]:
        """The cells, row by row: neighbours have different kernels, so two workers boot two of them."""
        return tuple(self._cells())

    def _cells(self) -> Iterator[Cell]:
        identity = code.identity()
        for source in self.sources:
            for words in self.params:
                for kernel in self.kernels:
                    yield Cell(source, kernel, words, self.tests, self.timeout, identity)


def plan(
    arguments: Sequence[str],
    kernels: Sequence[str],
    *,
    params: Sequence[str] = (),
    tests: bool = False,
    timeout: float = DEFAULT_TIMEOUT,
    progress: Progress = SILENT,
) -> Plan:
    """The matrix of the sources that `arguments` name on `kernels`. Each of `params` is a set, `a=1 b=2`.

    Raises UsageError for a source or a parameter that is none, HostError where a package cannot be fetched.
    """
    found = sources_of(arguments, tests=tests, progress=progress)
    sets = tuple(dict.fromkeys(tuple(words.split()) for words in params)) or ((),)
    for words in sets:
        _check_words(words)
    return Plan(found, tuple(kernels), sets, tests, timeout)


def _check_words(words: Sequence[str]) -> None:
    from lkm.params import parse_assignments

    parse_assignments(list(words))


def sources_of(
    arguments: Sequence[str], *, tests: bool = False, progress: Progress = SILENT
) -> tuple[Source, ...]:
    """The sources that paths and names of packages mean; two of one name are called by their paths."""
    located = {argument: _located(argument, progress) for argument in dict.fromkeys(arguments)}
    found = [sources.take(path, name=name, tests=tests) for path, name in located.values()]
    names = [source.name for source in found]
    return tuple(
        source if names.count(source.name) == 1 else sources.take(path, name=argument, tests=tests)
        for source, (argument, (path, _)) in zip(found, located.items(), strict=True)
    )


def _located(argument: str, progress: Progress) -> tuple[Path, str | None]:
    """Where a source is, and what its row is called where that is not its own name."""
    from lkm.kernels import dkms

    if not dkms.names_package(argument):
        return Path(argument), None
    return dkms.package(argument, progress=progress), argument


def kernels_of(text: str | None, *, progress: Progress = SILENT) -> tuple[str, ...]:
    """The kernels that `--kernels` means, oldest first, as `store.get` takes them; EVERY for None.

    Raises what `selection.select` does.
    """
    from lkm.kernels import selection

    names = (_with_tree(name.strip()) for name in (text or EVERY).split(","))
    return selection.select(",".join(names), progress=progress)


def _with_tree(name: str) -> str:
    is_tree = not name.startswith("tree:") and Path(name, "Module.symvers").exists()
    return f"tree:{name}" if name and is_tree else name
