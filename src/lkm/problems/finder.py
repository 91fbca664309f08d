"""The problems that a kernel log reports: each report found, typed, and traced to the module's code.

`find` is pure: records in, problems out. `problem_forms` has the forms that it knows,
`problem_reports` cuts the log into reports, and what each means is worked out here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from lkm.log import Record
from lkm.problems.forms import FRAME, MESSAGES, STACK_BEGINS, ProblemKind
from lkm.problems.later import Later
from lkm.problems.problem import Frame, Problem, Process
from lkm.problems.reports import Reader, Report

__all__ = ["find", "in_module", "stack"]


def find(records: Sequence[Record]) -> list[Problem]:
    """The problems that these records report, in the order in which they begin; never raises.

    Equal reports are one problem with a `count`. A panic that follows from another problem is a
    problem of its own; its summary and place are the cause's where it has none.
    """
    reader = Reader()
    for index, record in enumerate(records):
        for line in record.text.split("\n"):
            reader.feed(index, line)
    problems: list[Problem] = []
    for report in reader.reports():
        problems.append(_caused(_problem(report), problems))
    return _counted(problems)


def stack(text: str) -> tuple[Frame, ...]:
    """The frames of a /proc/PID/stack, innermost first (`[<0>] msleep+0x2d/0x40`, fs/proc/base.c)."""
    frames = (_frame(line) for line in text.splitlines()[:256])
    return tuple(frame for frame in frames if frame)


_CPU = Later(
    r"CPU: \d+ (?:UID: \d+ )?PID: (?P<pid>\d+) Comm: (?P<comm>.+?) "
    r"(?:Kdump: loaded )?(?:Tainted: |Not tainted )"
)
_OWNER = Later(r'  comm "(?P<comm>.+?)", pid (?P<pid>\d+)')
_TAINTED = Later(r"\bTainted: (?P<letters>[A-Z](?:[A-Z ]*[A-Z])?)\b(?!=)")
_RIP = Later(r"(?:RIP: 0010:|e?pc : )")
_STACK_OVER = Later(
    r" </TASK>|RIP: 0033:|Modules linked in:|---\[|(?:Allocated|Freed|allocated|freed) by |kfence-#"
    r"|The buggy address|(?:read|write) |CPU: \d+ |={20,}"
)
# The frames of the reporter, which come before the place that it reports.
_REPORTER = Later(r"_*(?:dump_stack|show_stack|ubsan|might_(?:sleep|resched)|slab_err|object_err)")


def _problem(report: Report) -> Problem:
    groups = {k: v for k, v in report.match.groupdict().items() if v} if report.match else {}
    kind, named = _told_by_message(report)
    trace = _trace(report.lines)
    witness = _witness(report.lines, trace, groups)
    fault = _fault(witness, trace, named)
    if fault and groups.get("module") not in (None, fault.module):
        fault = None  # the report names a module, and its trace shows the kernel alone
    place = groups if fault is witness else {}
    return Problem(
        kind=kind,
        summary=_summary(report, kind, groups),
        function=fault.function if fault else None,
        module=groups.get("module") or (fault.module if fault else None),
        file=place.get("file"),
        line=_int(place.get("line")),
        offset=fault.offset if fault else None,
        size=fault.size if fault else None,
        address=fault.address if fault else None,
        process=_process(report.lines, groups),
        taint=_taint(report.lines),
        trace=_with_exact_top(trace, fault),
        records=(report.first, report.last + 1),
        fault=fault,
    )


# Reports that name the instruction after a call: KASAN and KMSAN are called before each access (_RET_IP_).
# So are KFENCE's of kfree(); those of an access come from the fault itself (mm/kfence/core.c).
_RETURNED_TO = Later(r"BUG: (?:KASAN|KMSAN|KCSAN)|BUG: KFENCE: (?:invalid free|memory corr)")


def _with_exact_top(trace: tuple[Frame, ...], fault: Frame | None) -> tuple[Frame, ...]:
    """The trace, whose first entry is the fault itself where KFENCE reports an access."""
    if fault and fault.exact and trace and replace(trace[0], exact=True) == fault:
        return (fault, *trace[1:])
    return trace


def _told_by_message(report: Report) -> tuple[ProblemKind, Frame | None]:
    """What kind a WARNING is by its message, and the function that the message names."""
    if report.kind is ProblemKind.WARNING:
        for kind, pattern in MESSAGES:
            if match := re.match(pattern, report.message):
                named = _frame(match.groupdict().get("function"))
                return kind, replace(named, exact=True) if named else None
    return report.kind, None


def _witness(lines: Sequence[str], trace: Sequence[Frame], groups: dict[str, str]) -> Frame | None:
    """The place that the report is about: as its first line says, or RIP, or the trace's top."""
    if said := _frame(groups.get("function")):
        return replace(said, exact=not _RETURNED_TO.match(lines[0]))
    for line in lines:
        if match := _RIP.match(line):
            found = _frame(line[match.end() :])
            return replace(found, exact=True) if found else None
    reliable = (frame for frame in trace if frame.reliable and frame.function)
    return next((f for f in reliable if not _REPORTER.match(f.function or "")), None)


_OURS = "lkm_interpose"
"""lkm's own module, through which the calls of a watched one go (lkm/interpose)."""


def _fault(witness: Frame | None, trace: Sequence[Frame], named: Frame | None) -> Frame | None:
    """The place where the user's code is at fault: the first in a module, else the witness."""
    candidates = (witness, *(frame for frame in trace if frame.reliable), named)
    return in_module(frame for frame in candidates if frame) or witness


def in_module(frames: Iterable[Frame]) -> Frame | None:
    """The first frame in a module that is not lkm's own."""
    return next((frame for frame in frames if frame.module not in (None, _OURS)), None)


def _frame(text: str | None) -> Frame | None:
    match = FRAME.match(text) if text else None
    if not match:
        return None
    return Frame(
        function=match["name"],
        offset=_int(match["offset"], 16),
        size=_int(match["size"], 16),
        module=match["module"],
        reliable=not match["guess"],
        address=_int(match["address"], 16),
    )


def _int(text: str | None, base: int = 10) -> int | None:
    # Bounded: a number from a log may have any length, and int() refuses more than 4300 digits.
    return int(text, base) if text and len(text) <= 20 else None


def _trace(lines: Sequence[str]) -> tuple[Frame, ...]:
    """The first call trace, from `Call Trace:` where it is so called."""
    starts = (index + 1 for index, line in enumerate(lines) if STACK_BEGINS.match(line))
    frames: list[Frame] = []
    for line in lines[next(starts, 1) :]:
        if frames and _STACK_OVER.match(line):
            break
        if frame := _frame(line):
            frames.append(frame)
    return tuple(frames)


def _summary(report: Report, kind: ProblemKind, groups: dict[str, str]) -> str:
    if report.kind is ProblemKind.WARNING:
        return _warning_summary(report, kind, groups)
    assert report.match is not None
    summary = groups.get("summary", report.match.string) + groups.get("more", "")
    if kind is ProblemKind.UBSAN and report.message:
        summary += f": {report.message}"
    return summary.strip()


def _warning_summary(report: Report, kind: ProblemKind, groups: dict[str, str]) -> str:
    message = (report.message or groups.get("condition", "")).strip()
    if message:
        return message if kind is not ProblemKind.WARNING else f"WARNING: {message}"
    if "file" in groups:
        return f"WARNING at {groups['file']}:{groups['line']}"
    return f"WARNING in {groups['function']}" if "function" in groups else "WARNING"


def _process(lines: Sequence[str], groups: dict[str, str]) -> Process | None:
    if "comm" in groups:
        return Process(groups["comm"], int(groups["pid"][:20]))
    said = (_CPU.match(line) or _OWNER.match(line) for line in lines)
    match = next((found for found in said if found), None)
    return Process(match["comm"], int(match["pid"][:20])) if match else None


def _taint(lines: Sequence[str]) -> str:
    match = next((found for line in lines if (found := _TAINTED.search(line))), None)
    return match["letters"].replace(" ", "") if match else ""


def _caused(problem: Problem, before: Sequence[Problem]) -> Problem:
    """A panic without a place of its own has the place of what it follows from."""
    if problem.kind is not ProblemKind.PANIC or problem.module or not before:
        return problem
    cause = before[-1]
    return replace(
        problem,
        summary=f"{problem.summary} (after {cause.summary})",
        function=cause.function,
        module=cause.module,
        file=cause.file,
        line=cause.line,
        offset=cause.offset,
        size=cause.size,
        address=cause.address,
        fault=cause.fault,
        process=problem.process or cause.process,
        taint=problem.taint or cause.taint,
    )


_NUMBERS = r"0x[0-9a-f]+|[0-9a-f]{8,}|\d+"


def _counted(problems: Iterable[Problem]) -> list[Problem]:
    """Equal problems as one; addresses, times and process numbers make no difference."""
    found: dict[tuple[object, ...], Problem] = {}
    for problem in problems:
        key = (
            problem.kind,
            re.sub(_NUMBERS, "#", problem.summary),
            problem.module,
            problem.function,
            problem.offset,
            problem.file,
            problem.line,
        )
        first = found.setdefault(key, replace(problem, count=0))
        found[key] = replace(first, count=first.count + 1)
    return list(found.values())
