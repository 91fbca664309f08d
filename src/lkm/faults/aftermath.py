"""What a test has done to a machine on which a module had stubs: the module is unloaded, and judged."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lkm import remains
from lkm.end import End
from lkm.faults.stubbed import Stubbed
from lkm.interpose.report import Report
from lkm.interpose.watch import watched_run
from lkm.machine import Outcome
from lkm.problems import Problem, find
from lkm.run import FATAL
from lkm.verbs import held
from lkm.verdict import NMI, Judgement, ModuleRun, Stages, judge

if TYPE_CHECKING:
    from lkm.targets import Target

__all__ = ["Aftermath", "aftermath"]

_LAST_WORDS = 2.0
"""Seconds that a program and an open file of the test have to end."""


@dataclass(frozen=True)
class Aftermath:
    """The run of the module as `lkm run` has it, and what the stubs said of each of its loads."""

    run: ModuleRun
    reports: tuple[Report, ...]


def aftermath(
    machine: Stubbed,
    target: Target,
    decode: Callable[[Sequence[Problem]], Sequence[Problem]],
    *,
    timeout: float,
    evidence: Sequence[str] = (),
    users: Sequence[str] = (),
    with_programs: bool = True,
    knows_allocations: bool = False,
) -> Aftermath:
    """End what the test has open, unload `users` and the module, and look.

    `evidence` are the lines of the test's own error, which say where it hangs, if it does; `with_programs`
    says that it ran some. `knows_allocations` says that the kernel can be asked what was not freed.
    """
    stages = _stages(machine, target, timeout, evidence, users)
    last = stages.outcomes[-1]
    leaked = _leaked(machine, target.name) if knows_allocations and _is_whole(last) else ()
    left = remains.made_by_modules(last.left, with_programs=with_programs)
    found = (*remains.problems(left, len(stages.records)), *leaked)
    judged = judge(
        target.name, stages, has_exit=target.object.has_exit, found=found,
        held=_holder(machine, target.name, stages.unload),
    )  # fmt: skip
    judged = _in_the_test(judged, target.name)
    run = ModuleRun(
        target.name, judged.verdict, judged.reason, judged.errno, log=stages.records,
        problems=judged.problems, hint=judged.hint,
    )  # fmt: skip
    reports = tuple(machine.reports())
    for report in reports:
        run = watched_run(run, report)
    return Aftermath(replace(run, problems=tuple(decode(run.problems))), reports)


def _stages(
    machine: Stubbed,
    target: Target,
    timeout: float,
    evidence: Sequence[str],
    users: Sequence[str],
) -> Stages:
    """What was done with the module, as that of one load: the one in which a call was failed, or the last."""
    hangs = machine.is_running and not machine.link.mux.end_all(_LAST_WORDS)
    reports = machine.reports()
    log = tuple(machine.kernel_log.records)
    failed = next((at for at, report in enumerate(reports) if report.failed), -1)
    stages = Stages(replace(machine.loads[failed].outcome, records=log))
    kinds = {problem.kind for problem in find(log)}
    stuck = Outcome(End.HUNG, 0, (), timeout, stacks="\n".join(evidence))
    if not machine.is_running:
        return _cut_off(machine, stages, stuck)
    if kinds & {*FATAL}:
        return stages
    if hangs:
        return replace(stages, after_load=stuck)
    if machine.loads[-1].outcome.errno == 0:
        stages = replace(stages, unload=_unloaded(machine, (*users, target.name), timeout))
    if not _is_whole(stages.outcomes[-1]) and stages.unload:
        return stages
    looks = remains.areas(target.object.imports)
    return replace(stages, after_unload=machine.settle(None, looks, timeout=timeout))


def _unloaded(machine: Stubbed, names: Sequence[str], timeout: float) -> Outcome:
    """What the last unload of the module came to; that the test had unloaded it is none of its failures."""
    for name in names:
        machine.unload(name, timeout=timeout)
    last = machine.unloads[-1]
    gone = last.end is End.DONE and last.errno == errno.ENOENT
    return replace(last, records=(), errno=0 if gone else last.errno)


def _in_the_test(judged: Judgement, name: str) -> Judgement:
    """What came between load and unload is the test's use of the module."""

    def told(text: str) -> str:
        return text.replace(f"{name}'s the time after its init", f"the use of {name} in the test")

    problems = tuple(replace(each, summary=told(each.summary)) for each in judged.problems)
    reason = told(judged.reason) if judged.reason else None
    return replace(judged, reason=reason, problems=problems)


def _is_whole(outcome: Outcome) -> bool:
    return outcome.end is End.DONE and not outcome.errno


def _cut_off(machine: Stubbed, stages: Stages, stuck: Outcome) -> Stages:
    """As far as it came on a machine that is dead: to a load, an unload, or something between."""
    if stages.load.end is not End.DONE:
        return stages
    if cut := next((unload for unload in machine.unloads if unload.end is not End.DONE), None):
        return replace(stages, unload=replace(cut, records=()))
    spins = any(NMI in problem.summary for problem in find(stages.records))
    halted = machine.died("the test") is not None and not spins
    return replace(stages, after_load=replace(stuck, end=End.PANIC) if halted else stuck)


def _leaked(machine: Stubbed, module: str) -> tuple[Problem, ...]:
    """What the kernel's own books say of a module that is gone."""
    from lkm import leaks
    from lkm.unfreed import unfreed

    return leaks.problems(unfreed(machine.as_machine, module), module)


def _holder(machine: Stubbed, name: str, unload: Outcome | None) -> str | None:
    if unload is None or unload.end is not End.DONE or not unload.errno:
        return None
    return held(machine.as_machine, name, unload.errno)
