"""Results of cells as the tests of the matrix need them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lkm.matrix.cell import Cell
from lkm.matrix.outcome import CellResult
from lkm.matrix.plan import Plan
from lkm.matrix.report import Report, report
from lkm.matrix.sources import Source, take

KERNELS = (
    "5.10.0-32-cloud-amd64", "6.1.0-50-cloud-amd64", "6.12.117+deb13-cloud-amd64", "7.3.4+deb13-cloud-amd64",
)  # fmt: skip


def result(kernel: str, state: str = "ok", reason: str | None = None, **more: Any) -> CellResult:
    return CellResult(
        **{"source": "demo", "params": "", **more}, kernel=kernel, state=state, reason=reason
    )


def source(directory: Path, text: str = "/* demo */\n") -> Source:
    """A module source named demo in a directory of its own."""
    home = directory / "demo"
    home.mkdir(parents=True, exist_ok=True)
    (home / "Kbuild").write_text("obj-m := demo.o\n")
    (home / "demo.c").write_text(text)
    return take(home)


def cell(taken: Source, kernel: str = KERNELS[0], **more: Any) -> Cell:
    return Cell(taken, kernel, **more)


def reported(*results: CellResult) -> Report:
    """A report of these results, one source a name in them."""
    names = dict.fromkeys(each.source for each in results)
    sources = tuple(Source(name, Path(f"/src/{name}"), Path(f"/src/{name}"), "0") for name in names)
    kernels = tuple(kernel for kernel in KERNELS if any(r.kernel == kernel for r in results))
    params = tuple(dict.fromkeys(tuple(each.params.split()) for each in results))
    return report(Plan(sources, kernels, params), results, 1.5)
