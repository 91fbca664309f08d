"""What came of one failed call. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from lkm.interpose.names import spoken
from lkm.interpose.report import Call
from lkm.problems import Problem, ProblemKind, to_dict
from lkm.verdict import ModuleRun, Verdict

__all__ = ["Fault", "Result", "judged"]


class Result(StrEnum):
    """What the module made of a call that failed."""

    HANDLED = "handled"
    SUCCESS = "success"
    LEAK = "leak"
    LEFT_BEHIND = "left-behind"
    DOUBLE_FREE = "double-free"
    BAD_FREE = "bad-free"
    LOCK_HELD = "lock-held"
    OOPS = "oops"
    PROBLEM = "problem"
    HANG = "hang"
    PANIC = "panic"
    STILL_LOADED = "still-loaded"
    NOT_REACHED = "not-reached"

    @property
    def is_bad(self) -> bool:
        """Whether it is a bug of the module."""
        return self not in (Result.HANDLED, Result.SUCCESS, Result.NOT_REACHED)


@dataclass(frozen=True)
class Fault:
    """The n-th fallible call, from 1 on, failed.

    `call` is the function as the source has it, `function`, `file` and `line` where it was called, `phase`
    when: `init`, `exercise` or `exit`. `errno` is what init returned, None where it returned 0. `reason` is
    one line where the result is bad; `problems` are as `lkm run --json` has them. `test` is the id of the
    pytest test that used the module; then `errno` may be what ended that.
    """

    n: int
    call: str | None
    function: str | None
    file: str | None
    line: int | None
    phase: str | None
    result: Result
    errno: str | None = None
    reason: str | None = None
    problems: tuple[Mapping[str, Any], ...] = ()
    test: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**vars(self), "result": self.result.value, "problems": list(self.problems)}

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Fault:
        """What `to_dict` gave."""
        return cls(
            **{**facts, "result": Result(facts["result"]), "problems": tuple(facts["problems"])}
        )


_WORST = (
    (ProblemKind.DOUBLE_FREE, Result.DOUBLE_FREE),
    (ProblemKind.BAD_FREE, Result.BAD_FREE),
    (ProblemKind.LOCK_HELD, Result.LOCK_HELD),
    (ProblemKind.LEAK, Result.LEAK),
    (ProblemKind.LEFT_BEHIND, Result.LEFT_BEHIND),
)
_OOPSES = {
    ProblemKind.OOPS, ProblemKind.BUG, ProblemKind.DOUBLE_FAULT, ProblemKind.STACK_OVERFLOW,
    ProblemKind.PANIC,
}  # fmt: skip


def judged(n: int, run: ModuleRun, failed: Call | None, place: tuple[str, int] | None) -> Fault:
    """The fault, from the run in which call `n` failed; `place` is where that call is."""
    result, problem = _result(run, failed)
    reason = (problem.summary if problem else run.reason) if result.is_bad else None
    site = failed.site if failed else None
    return Fault(
        n,
        spoken(failed.rule.name) if failed else None,
        site.function if site and site.module == run.name else None,
        place[0] if place else None,
        place[1] if place else None,
        failed.phase if failed else None,
        result,
        run.errno,
        reason,
        tuple(to_dict(each) for each in run.problems),
    )


def _result(run: ModuleRun, failed: Call | None) -> tuple[Result, Problem | None]:
    """What it was, and the problem that says so."""
    if run.verdict is Verdict.PANIC:
        return Result.PANIC, None
    if run.verdict is Verdict.HUNG:
        return Result.HANG, None
    if found := _named(run):
        return found
    if run.verdict is Verdict.UNLOAD_FAILED:
        return Result.STILL_LOADED, None
    if failed is None:
        return Result.NOT_REACHED, None
    if failed.phase == "init" and run.verdict is Verdict.OK:
        return Result.SUCCESS, None
    return Result.HANDLED, None


def _named(run: ModuleRun) -> tuple[Result, Problem | None] | None:
    """The worst of its problems: an oops, what the calls show, any other report of the kernel."""
    for problem in run.problems:
        if problem.kind in _OOPSES:
            return Result.OOPS, problem
    for kind, result in _WORST:
        for problem in run.problems:
            if problem.kind is kind:
                return result, problem
    if run.problems or run.verdict is Verdict.PROBLEM:
        return Result.PROBLEM, run.problems[0] if run.problems else None
    return None
