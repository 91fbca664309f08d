"""From a path to predictions: its modules, built where it is a source, with what they need before them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lkm.errors import UsageError
from lkm.kernels.kernel import Kernel
from lkm.ko import KernelObject, parse, read_image
from lkm.loadcheck.checker import check
from lkm.loadcheck.facts import KernelFacts, facts_of
from lkm.loadcheck.findings import Report
from lkm.loadcheck.symbols import SymbolTable
from lkm.progress import SILENT, Progress

__all__ = ["Checked", "check_path"]


@dataclass(frozen=True)
class Checked:
    """The prediction for the file at `path`."""

    path: Path
    report: Report

    def to_dict(self) -> dict[str, Any]:
        """The prediction as `lkm check --json` has it."""
        return {"path": str(self.path), **self.report.to_dict()}


@dataclass(frozen=True)
class _Subject:
    path: Path
    image: bytes = field(repr=False)
    before: tuple[KernelObject, ...] = ()
    depends: tuple[str, ...] = ()


def check_path(
    path: str | Path,
    kernel: Kernel,
    *,
    others: Sequence[Kernel] = (),
    progress: Progress = SILENT,
) -> tuple[Checked, ...]:
    """What the kernel would say to each module of `path`: a directory, a .c, or a .ko, however damaged.

    What a module depends on is taken to be loaded, as `lkm run` does: other modules of the source, files
    beside a .ko, the kernel's own. `others`, oldest first, are kernels to say where a missing symbol is. Raises
    UsageError where there is nothing to read, BuildError where a source does not build.
    """
    facts = facts_of(kernel)
    tables = [_table(other) for other in others if other.release != kernel.release]
    return tuple(
        Checked(
            subject.path, check(subject.image, facts, loaded=_loaded(subject, facts), others=tables)
        )
        for subject in _subjects(path, kernel, progress)
    )


def _table(kernel: Kernel) -> SymbolTable:
    return SymbolTable(kernel.release, kernel.build_dir_on_host / "Module.symvers")


def _loaded(subject: _Subject, facts: KernelFacts) -> list[str | KernelObject]:
    ours = {each.name for each in subject.before}
    names = [name for name in subject.depends if name.replace("-", "_") not in ours]
    return [*facts.with_dependencies(names), *subject.before]


def _subjects(path: str | Path, kernel: Kernel, progress: Progress) -> Iterator[_Subject]:
    given = Path(path)
    image = read_image(given) if ".ko" in given.suffixes[-2:] else None
    if image is not None and not _needs_others(image, given.name):
        yield _Subject(given, image)
        return
    from lkm.targets import needed, targets_of

    targets = targets_of(path, kernel, progress=progress)
    for target in targets.named:
        chain = [each.object for each in needed(target, targets.all)]
        depends = tuple(name for each in chain for name in each.depends)
        data = read_image(target.image) if image is None else image
        yield _Subject(target.path, data, tuple(chain[:-1]), depends)


def _needs_others(image: bytes, name: str) -> bool:
    try:
        return bool(parse(image, name).depends)
    except UsageError:
        # Not a kernel object for lkm.ko: the loader's own words are what is wanted.
        return False
