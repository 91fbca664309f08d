"""What `lkm run` shows of the problem in a captured log: the blocks of docs/problems."""

from __future__ import annotations

import contextlib
import io
import lzma
from pathlib import Path

from lkm.cli.render import Style
from lkm.cli.story import _show_problem
from lkm.log import parse_console, parse_kmsg
from lkm.problems import Module, Problem, Source, find, trace
from lkm.symbolize import DebugInfo

DATA = Path(__file__).parents[1] / "data"


class BuiltSources:
    """The modules of tests/data/modules were built in /build; the kernel's headers are not at hand."""

    def path(self, compiled: str) -> str:
        """Without that directory."""
        return compiled.removeprefix("/build/")

    def is_own(self, compiled: str) -> bool:
        """Whether it is one of the modules'."""
        return compiled.startswith("/build/")

    def excerpt(self, compiled: str, line: int) -> Source | None:
        """As SourceFiles has it."""
        if not self.is_own(compiled):
            return None
        text = (DATA / "modules" / self.path(compiled)).read_text().split("\n")
        return Source(self.path(compiled), line, line - 2, tuple(text[line - 3 : line + 2]))


def block(module: str, what: str, series: str, kind: str) -> str:
    """The first problem of that kind, as a run tells it to a person."""
    directory = DATA / "logs" / ("debug" if series == "debug" else f"captured/{series}")
    (path,) = directory.glob(f"{what}.*")
    raw = path.read_bytes()
    records = parse_kmsg(raw) if path.suffix == ".kmsg" else parse_console(raw)
    packed = (DATA / "symbolize" / series / f"{module}.ko.xz").read_bytes()
    known = Module(module, DebugInfo(lzma.decompress(packed), f"{module}.ko"))
    problems = trace(find(records), [known], BuiltSources())
    return _told(next(problem for problem in problems if problem.kind.value == kind))


def _told(problem: Problem) -> str:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        _show_problem(problem, Style(said))
    return said.getvalue()
