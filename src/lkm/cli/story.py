"""What `lkm run` tells a person: what was built, the log, the problems, the verdict."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lkm.cli.render import Style, in_seconds, record_line, visible
from lkm.problems import Problem
from lkm.requests import some
from lkm.run import Run
from lkm.verdict import ModuleRun, Verdict

if TYPE_CHECKING:
    from lkm.ktap import Result

__all__ = ["tell"]


def tell(outcome: Run, kept: Sequence[str] = ()) -> None:
    """Print the story of a run; `kept` are the machines that were left up."""
    style = Style(sys.stdout)
    if outcome.error:
        for line in outcome.error.diagnostics:
            print(visible(line))
        if outcome.error.log_path:
            print(style.dim(f"log: {outcome.error.log_path}"))
    if build := outcome.build:
        for diagnostic in build.diagnostics:
            print(visible("\n".join(diagnostic.lines)))
        names = ", ".join(f"{name}.ko" for name in build.objects)
        how = "unchanged" if build.cached else in_seconds(build.seconds)
        print(style.dim(f"built {names} for {outcome.kernel.release} ({how})"))
    for module in outcome.modules:
        _show_module(module, style)
    for module, name in zip(outcome.modules, kept, strict=False):
        which = " (the first one, on which nothing went wrong)" if module.at_once else ""
        print(f"machine {name} is up{which}: lkm sh -m {name}, lkm down {name}")


def _show_module(module: ModuleRun, style: Style) -> None:
    if module.requested:
        names = ", ".join(module.requested)
        print(style.dim(visible(f"the kernel asks modprobe for {names}: loaded before")))
    for record in module.log:
        print(record_line(record, style))
    if module.lost:
        print(
            style.dim(
                f"({module.lost} records were lost: the module logs faster than they can be read)"
            )
        )
    if module.asked and module.verdict is not Verdict.OK:
        print(style.dim(visible(f"the kernel asked modprobe for {some(module.asked)}: not there")))
    for name, value in module.params.items():
        print(f"{name} = {value}")
    for line in _suites(module.kunit, style):
        print(line)
    for problem in module.problems:
        _show_problem(problem, style)
    colours = {Verdict.OK: style.green, Verdict.EXCLUDED: style.yellow}
    word = colours.get(module.verdict, style.red)(module.verdict)
    times = module.timings
    print(
        f"{style.bold(module.name)}: {word}"
        + (f": {module.reason}" if module.reason else "")
        + style.dim(
            f"  [restore {in_seconds(times.restore)}, load {in_seconds(times.load)},"
            f" unload {in_seconds(times.unload)}]"
            if times.load is not None
            else ""
        )
    )
    if module.hint:
        print(f"hint: {module.hint}")
    elif module.problems:
        print(f"hint: lkm explain {_told_of(module).kind}")


def _told_of(module: ModuleRun) -> Problem:
    """The problem that the verdict's reason names."""
    reason = module.reason or ""
    return next((each for each in module.problems if each.summary in reason), module.problems[0])


def _show_problem(problem: Problem, style: Style) -> None:
    from lkm.problems.text import calls, source_lines

    print(_problem_line(problem, style))
    rows = calls(problem)
    width = max((len(name) for name, _ in rows), default=0)
    for name, at in rows:
        print(visible(f"  {name:{width}}  {at}".rstrip()))
    if problem.source:
        for is_it, text in source_lines(problem.source):
            print("  " + (style.red(visible(text)) if is_it else style.dim(visible(text))))
        if problem.source.changed:
            print(style.yellow("  the file has changed since the module was built"))


def _suites(suites: Sequence[Result], style: Style, indent: str = "") -> Iterator[str]:
    """A KUnit suite's line, then its cases'; a log has them too, between others."""
    for result in suites:
        colour = {"ok": style.green, "skipped": style.dim}.get(result.status, style.red)
        reason = f" ({result.reason})" if result.reason else ""
        yield f"{indent}{colour(result.status)} {visible(result.name + reason)}"
        yield from _suites(result.cases, style, indent + "  ")


def _problem_line(problem: Problem, style: Style) -> str:
    from lkm.problems.text import place

    kind = "" if problem.kind in problem.summary else f"{problem.kind}: "
    at = place(problem)
    # gcc names a copy of a function `f.constprop.0`; the source has only `f`.
    name = problem.function.partition(".")[0] if problem.function else ""
    where = f" in {name}()" if name else ""
    of_data = problem.fault and problem.module and not problem.fault.module
    where += (
        f"{'; declared' if of_data else ''} at {at}" if at and at not in problem.summary else ""
    )
    times = f" ({problem.count} times)" if problem.count > 1 else ""
    return style.red(visible(kind)) + visible(problem.summary + where + times)
