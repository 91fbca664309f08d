"""A traced problem in words: where it was, who called, and the lines of source. Plain text, for any colour."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import PurePath

from lkm.problems.problem import Frame, Problem, Source

__all__ = ["calls", "evidence", "place", "short_path", "source_lines"]

_HEADERS = re.compile(r".*/linux-headers-[^/]+/")


def short_path(path: str) -> str:
    """A path as it is best read: from here, from the root of the kernel's headers, or whole."""
    if (headers := _HEADERS.match(path)) and "/usr/src/" in path:
        return path[headers.end() :]
    here = PurePath(os.getcwd())  # noqa: PTH109 - PurePath, not Path, is what is wanted
    return str(PurePath(path).relative_to(here)) if PurePath(path).is_relative_to(here) else path


def place(problem: Problem) -> str | None:
    """`FILE:LINE` of the place where the user's code is at fault; None where it is not known."""
    if problem.source:
        return f"{short_path(problem.source.file)}:{problem.source.line}"
    return f"{short_path(problem.file)}:{problem.line}" if problem.file else None


def calls(problem: Problem) -> list[tuple[str, str]]:
    """The module's functions from the fault outwards, inlined ones too: what each is called, and FILE:LINE.

    Guesses and the kernel's own functions are left out; so is all of it where no place is known.
    """
    trace = [frame for frame in problem.trace if frame.reliable and frame.module]
    if problem.fault and problem.fault.module:
        at = problem.fault
        same = next((n for n, each in enumerate(trace) if _is_same(each, at)), -1)
        trace = [at, *trace[same + 1 :]]
    return [row for frame in trace for row in _rows(frame)] if any(f.places for f in trace) else []


def _is_same(one: Frame, other: Frame) -> bool:
    return (one.function, one.offset, one.module) == (other.function, other.offset, other.module)


def _rows(frame: Frame) -> Iterator[tuple[str, str]]:
    *inlined, outer = frame.places or (None,)
    for each in inlined:
        if each:
            yield f"{each.function} (inlined)", _at(each.file, each.line)
    name = f"{frame.function}+{frame.offset or 0:#x}/{frame.size or 0:#x} [{frame.module}]"
    yield name, _at(outer.file, outer.line) if outer else ""


def _at(file: str | None, line: int | None) -> str:
    return f"{short_path(file)}:{line}" if file and line else ""


def source_lines(source: Source) -> list[tuple[bool, str]]:
    """Each line of an excerpt, numbered, the one at fault marked with `>`; and whether it is that one."""
    width = len(str(source.first + len(source.lines) - 1))
    rows = []
    for number, line in enumerate(source.lines, source.first):
        is_it = number == source.line
        text = f"{'>' if is_it else ' '} {number:{width}} | {line.expandtabs(8)}".rstrip()
        rows.append((is_it, text))
    return rows


def evidence(problem: Problem) -> list[str]:
    """All of it as lines: the functions with their places, then the lines of source."""
    rows = calls(problem)
    width = max((len(name) for name, _ in rows), default=0)
    lines = [f"{name:{width}}  {at}".rstrip() for name, at in rows]
    if problem.source:
        lines += [text for _, text in source_lines(problem.source)]
        lines += [_CHANGED] if problem.source.changed else []
    return lines


_CHANGED = "(the file has changed since the module was built)"
