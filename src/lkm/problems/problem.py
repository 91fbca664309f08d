"""What a problem is: one report of the kernel, its call trace, and where in the source it was."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lkm.problems.forms import ProblemKind

if TYPE_CHECKING:
    from lkm.symbolize.place import Place

__all__ = ["Frame", "Problem", "Process", "Source", "to_dict"]


@dataclass(frozen=True)
class Frame:
    """One entry of a call trace, `function+0xOFFSET/0xSIZE [module]`.

    `address` is given instead where the kernel had no symbol. Entries that the kernel prints with `?`
    are not `reliable`: they were found on the stack and need not have been called. Most entries are return
    addresses, which are after the call; an `exact` one is the instruction itself. `places` are where in
    the source it is, the innermost inlined call first, the function itself last, once that is known.
    """

    function: str | None
    offset: int | None
    size: int | None
    module: str | None
    reliable: bool
    address: int | None = None
    exact: bool = False
    places: tuple[Place, ...] = ()


@dataclass(frozen=True)
class Process:
    """The task in which it happened, by its name (TASK_COMM_LEN: at most 15 bytes) and number."""

    comm: str
    pid: int


@dataclass(frozen=True)
class Source:
    """A few lines of a source file around `line`; `first` is the number of the first of `lines`, from 1.

    `changed` says that the file was written to after the module was built, so that the lines may be others.
    """

    file: str
    line: int
    first: int
    lines: tuple[str, ...]
    changed: bool = False


@dataclass(frozen=True)
class Problem:
    """One report of the kernel, from its first line to its last.

    `function`, `offset`, `size` and `module` say where the user's code was: the fault itself where it is
    in a module, else the nearest reliable caller that is, else the kernel's function. `file` and `line`
    are of that place, where the report itself or the module's debug info names them; `address` is it where the
    kernel had no symbol, as for text that is freed. `fault` is that place as a frame, `source` the lines of the
    user's source around it. `records` is the slice of the log that the
    report takes up; `count` how often an equal one was found, this first one included. `taint` has the
    kernel's letters, without blanks (Documentation/admin-guide/tainted-kernels.rst).
    """

    kind: ProblemKind
    summary: str
    function: str | None
    module: str | None
    file: str | None
    line: int | None
    offset: int | None
    size: int | None
    address: int | None
    process: Process | None
    taint: str
    trace: tuple[Frame, ...]
    records: tuple[int, int]
    count: int = 1
    fault: Frame | None = None
    source: Source | None = None


def to_dict(problem: Problem) -> dict[str, Any]:
    """The problem as JSON has it, with plain strings, numbers, lists and dictionaries only."""
    found = asdict(problem)
    return {
        **found,
        "kind": problem.kind.value,
        "fault": _frame(problem.fault) if problem.fault else None,
        "source": _source(problem.source) if problem.source else None,
        "trace": [_frame(frame) for frame in problem.trace],
        "records": list(problem.records),
    }


def _frame(frame: Frame) -> dict[str, Any]:
    found = asdict(frame)
    return {**found, "places": list(found["places"])}


def _source(source: Source) -> dict[str, Any]:
    found = asdict(source)
    return {**found, "lines": list(found["lines"])}
