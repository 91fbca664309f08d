"""A module that can fire later, loaded once more and unloaded at once, on a machine that is thrown away.

What its init starts and its exit forgets may be over while a run still watches the loaded module: a timer of a
second fires where it may. Only after an unload at once does it fire into memory that is freed.
"""

from __future__ import annotations

import time
from dataclasses import replace

from lkm.end import End
from lkm.ko import read_image
from lkm.machine import Guest, Needs
from lkm.problems import ProblemKind
from lkm.rig import Limits
from lkm.targets import Target
from lkm.verdict import Judgement, ModuleRun, Stages, Timings, Verdict, judge

__all__ = ["found_at_once"]

_FOUND = (Verdict.PROBLEM, Verdict.PANIC, Verdict.HUNG)


def found_at_once(
    clean: ModuleRun, target: Target, needs: Needs, machine: Guest, arguments: str, limits: Limits
) -> ModuleRun | None:
    """What goes wrong then with a module whose run was `clean`; None where nothing does.

    An unload that is refused so early is nothing wrong: something of the module is still on its way.
    """
    started = time.monotonic()
    machine.ping()
    restored = time.monotonic() - started
    machine.load_needs(needs)
    stages = _stages(target, machine, arguments, limits)
    judged = judge(target.name, stages, has_exit=target.object.has_exit)
    if judged.verdict not in _FOUND:
        return None
    watched = stages.after_unload
    return replace(
        clean,
        verdict=judged.verdict,
        reason=f"unloaded at once after its load: {_reason(judged)}",
        log=stages.records,
        problems=judged.problems,
        timings=Timings(
            clean.timings.build,
            restored,
            unload=stages.unload.seconds if stages.unload else None,
            settle=watched.seconds if watched else None,
        ),
        lost=sum(outcome.lost for outcome in stages.outcomes),
        hint=judged.hint,
        at_once=True,
    )


def _reason(judged: Judgement) -> str | None:
    """The kernel's report, where there is one: after an oops others wait for a lock that nobody gives back."""
    reports = (problem for problem in judged.problems if problem.kind is not ProblemKind.HUNG)
    if judged.verdict is Verdict.HUNG and (report := next(reports, None)):
        return report.summary
    return judged.reason


def _stages(target: Target, machine: Guest, arguments: str, limits: Limits) -> Stages:
    image = read_image(target.image)
    load, unload = machine.in_and_out(target.name, image, arguments, timeout=limits.timeout)
    stages = Stages(load, unload=unload)
    if unload is None or unload.end is not End.DONE or unload.errno:
        return stages
    return replace(stages, after_unload=machine.settle(limits.settle, timeout=limits.timeout))
