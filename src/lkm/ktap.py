"""The results of KUnit suites, read from the log: the Kernel Test Anything Protocol, version 1. Pure.

Documentation/dev-tools/ktap.rst has the form, lib/kunit/test.c (6.12) prints it: a suite's cases are indented
by four, those of a case with parameters by eight, and the line of the whole comes after them. Before 5.18 there
is no `KTAP version 1` above a suite, only its `# Subtest:`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from lkm.log import Record
from lkm.problems import Problem, ProblemKind

__all__ = ["Result", "Status", "failures", "find", "problems", "to_dict"]


class Status(StrEnum):
    """What became of a suite or a case. `unfinished`: its result was never printed."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"
    UNFINISHED = "unfinished"


@dataclass(frozen=True)
class Result:
    """A suite with its cases, or a case with those of its parameters.

    `reason` is why it was skipped. `said` is what it printed about itself, without its name; `file` and `line`
    are of the first expectation or assertion that failed. `records` is its slice of the log.
    """

    name: str
    status: Status
    reason: str = ""
    said: tuple[str, ...] = ()
    file: str | None = None
    line: int | None = None
    records: tuple[int, int] = (0, 0)
    cases: tuple[Result, ...] = ()


_SUBTEST = re.compile(r"( +)# Subtest: (\S.*)")
_RESULT = re.compile(r"( *)(not )?ok \d+ (?:- )?(\S.*?)(?: +# (SKIP|TODO|TIMEOUT)\b ?(.*))?")
_SAID = re.compile(r" *# ([\w.-]+): (.*)")
_FAILED = re.compile(r"(?:EXPECTATION|ASSERTION) FAILED at (?P<file>.+):(?P<line>\d{1,9})")
_STATISTICS = re.compile(r"pass:\d+ fail:\d+ skip:\d+ total:\d+|(?:initializing|cleaning up)$")
_INDENT = 4


@dataclass
class _Open:
    """A suite, or a case with parameters, whose result has not come yet; `indent` is that of its cases."""

    name: str
    indent: int
    first: int
    cases: list[Result] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    case_first: int = 0


def find(records: Sequence[Record]) -> tuple[Result, ...]:
    """The suites that ran while these records were printed, in their order; never raises.

    A line that looks like a result counts only within a suite, and at its depth.
    """
    reader = _Reader()
    for index, record in enumerate(records):
        first, *more = record.text.split("\n")
        reader.feed(index, first)
        for line in more:
            reader.go_on(line)
    return reader.end(len(records))


class _Reader:
    def __init__(self) -> None:
        self._done: list[Result] = []
        self._open: list[_Open] = []

    def feed(self, index: int, line: str) -> None:
        if found := _SUBTEST.fullmatch(line):
            self._begin(index, found[2], len(found[1]))
        elif self._open and (found := _RESULT.fullmatch(line)):
            self._result(index, found)
        elif self._open and (found := _SAID.fullmatch(line)) and not _STATISTICS.match(found[2]):
            self._open[-1].said.append(found[2])

    def go_on(self, line: str) -> None:
        """A further line of a record: an expectation's values, or the operands of what it expected."""
        if self._open and line.strip():
            self._open[-1].said.append(line.strip())

    def end(self, count: int) -> tuple[Result, ...]:
        while self._open:
            self._close(count, Status.UNFINISHED, "")
        return tuple(self._done)

    def _begin(self, index: int, name: str, indent: int) -> None:
        while self._open and self._open[-1].indent >= indent:
            self._close(index, Status.UNFINISHED, "")
        self._open.append(_Open(name, indent, index, case_first=index + 1))

    def _result(self, index: int, found: re.Match[str]) -> None:
        indent, name = len(found[1]), found[3]
        status = Status.FAILED if found[2] else Status.OK
        if found[4] == "SKIP":
            status = Status.SKIPPED
        inner = self._open[-1]
        if indent == inner.indent - _INDENT and name == inner.name:
            self._close(index + 1, status, found[5] or "")
        elif indent == inner.indent:
            said = tuple(inner.said)
            inner.said.clear()
            records = (inner.case_first, index + 1)
            inner.case_first = index + 1
            inner.cases.append(_made(name, status, found[5] or "", said, records, ()))

    def _close(self, last: int, status: Status, reason: str) -> None:
        inner = self._open.pop()
        made = _made(
            inner.name, status, reason, tuple(inner.said), (inner.first, last), tuple(inner.cases)
        )
        if self._open:
            self._open[-1].cases.append(made)
            self._open[-1].case_first = last
        else:
            self._done.append(made)


def _made(
    name: str,
    status: Status,
    reason: str,
    said: tuple[str, ...],
    records: tuple[int, int],
    cases: tuple[Result, ...],
) -> Result:
    place = next((found for line in said if (found := _FAILED.match(line))), None)
    file, line = (place["file"], int(place["line"])) if place else (None, None)
    return Result(name, status, reason, said, file, line, records, cases)


def failures(results: Sequence[Result]) -> Iterator[tuple[Result, ...]]:
    """The way from a suite to each of its cases that failed or did not finish: suite, case, parameter."""
    for result in results:
        if result.status in (Status.OK, Status.SKIPPED):
            continue
        inner = list(failures(result.cases))
        for way in inner:
            yield (result, *way)
        if not inner:
            yield (result,)


def problems(results: Sequence[Result], module: str) -> tuple[Problem, ...]:
    """Each failed case as a problem of `module`, at the line of its first failed expectation."""
    return tuple(_problem(way, module) for way in failures(results))


def _problem(way: tuple[Result, ...], module: str) -> Problem:
    last = way[-1]
    name = ".".join(result.name for result in way)
    verb = "did not finish" if last.status is Status.UNFINISHED else "failed"
    why = _why(last.said)
    return Problem(
        kind=ProblemKind.KUNIT,
        summary=f"KUnit: {name} {verb}" + (f": {why}" if why else ""),
        function=way[1].name if len(way) > 1 else None,
        module=module,
        file=last.file,
        line=last.line,
        offset=None,
        size=None,
        address=None,
        process=None,
        taint="",
        trace=(),
        records=last.records,
    )


def _why(said: Sequence[str]) -> str:
    """What the first expectation that failed expected, and what it got; else what was said last."""
    starts = [index for index, line in enumerate(said) if _FAILED.match(line)]
    if not starts:
        return said[-1] if said else ""
    end = starts[1] if len(starts) > 1 else len(said)
    return " ".join(said[starts[0] + 1 : end])


def to_dict(result: Result) -> dict[str, Any]:
    """A suite or a case as JSON has it."""
    return {
        "name": result.name,
        "status": result.status.value,
        "reason": result.reason,
        "said": list(result.said),
        "file": result.file,
        "line": result.line,
        "cases": [to_dict(case) for case in result.cases],
    }
