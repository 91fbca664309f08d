"""A test's reports as pytest counts them: the module's failures as failed, the infrastructure's as errors."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from lkm.log import format_dmesg
from lkm.pytest_plugin.trial import Load, Trial

if TYPE_CHECKING:
    from lkm.problems import Problem

__all__ = ["INFRASTRUCTURE", "LOAD", "MODULE", "SECTIONS", "TEST", "judged", "tell"]

INFRASTRUCTURE, LOAD, MODULE, TEST = "infrastructure", "load", "module", "test"
"""Whose fault it is that a phase failed. `MODULE` is what lkm found: a mistake in using lkm is among it.
`LOAD` is a load or unload that the kernel refused in the test's own function."""
SECTIONS = ("kernel log", "kernel problem", "reproduce")
"""How the names of the sections begin that a report gets."""
_TAIL = 100
"""How many lines of a log a report has without -v: an oops takes about half of it."""


def judged(reports: Sequence[pytest.TestReport], blame: dict[str, str]) -> list[pytest.TestReport]:
    """The reports of setup, call and teardown, `blame` saying whose fault each phase's error is.

    What failed in setup or teardown for the module's fault has failed in the test; what broke in the
    test for the infrastructure's fault is an error.
    """
    by_phase = {report.when: report for report in reports}
    setup, call, teardown = (by_phase.get(when) for when in ("setup", "call", "teardown"))
    if setup and setup.failed and blame.get("setup") == MODULE:
        call = _moved(setup, "call")
    if call and call.failed and blame.get("call") == INFRASTRUCTURE:
        setup = _moved(call, "setup")
        call = None
    if teardown and not teardown.passed and blame.get("teardown") == MODULE:
        if call and (call.passed or "[XPASS(strict)]" in str(call.longrepr)):
            call = _moved(teardown, "call", call)
        else:
            _cleared(teardown)
    elif teardown and blame.get("teardown") == INFRASTRUCTURE and setup and setup.failed:
        _cleared(teardown)
    return [report for report in (setup, call, teardown) if report]


def _moved(
    report: pytest.TestReport, when: str, into: pytest.TestReport | None = None
) -> pytest.TestReport:
    """What `report` says, as another phase's; its own phase has passed then."""
    made = pytest.TestReport(
        report.nodeid,
        report.location,
        report.keywords,
        report.outcome,
        report.longrepr,
        when,  # type: ignore[arg-type]
        sections=report.sections,
        duration=into.duration if into else report.duration,
        start=into.start if into else report.start,
        stop=into.stop if into else report.stop,
        user_properties=report.user_properties,
    )
    if hasattr(report, "wasxfail"):
        made.wasxfail = report.wasxfail
    _cleared(report)
    return made


def _cleared(report: pytest.TestReport) -> None:
    report.outcome = "passed"
    report.longrepr = None
    if hasattr(report, "wasxfail"):
        del report.wasxfail


def tell(
    item: pytest.Item, trial: Trial, reports: Sequence[pytest.TestReport], blame: dict[str, str]
) -> None:
    """Add what the kernels said, what was wrong and how to see it again to the report that is not good."""
    for report in reports:
        report.user_properties += _properties(trial, any(each.failed for each in reports))
        if report.failed:
            report.sections += _sections(item, trial, blame)


def _properties(trial: Trial, is_failed: bool) -> Iterator[tuple[str, Any]]:
    if trial.kernel:
        yield "lkm_kernel", trial.kernel.release
    for problem, _ in trial.reported:
        yield "lkm_problem", _named(problem)
    if is_failed:
        for log in trial.logs:
            yield "lkm_log", "\n".join(map(format_dmesg, log[-_TAIL:]))


def _sections(item: pytest.Item, trial: Trial, blame: dict[str, str]) -> Iterator[tuple[str, str]]:
    from lkm.problems.text import evidence

    whole = item.config.get_verbosity() > 0
    for number, log in enumerate(trial.logs, 1):
        name = "kernel log" if len(trial.logs) == 1 else f"kernel log of machine {number}"
        shown = log if whole else log[-_TAIL:]
        left_out = [f"({len(log) - len(shown)} lines before; -v shows all)"] if log != shown else []
        yield name, "\n".join([*left_out, *map(format_dmesg, shown)])
    for problem, _ in trial.reported:
        yield "kernel problem", "\n".join([*_heading(problem), *evidence(problem)])
    if trial.kernel:
        yield "reproduce", _command(item, trial, _is_of_loading(blame))


def _heading(problem: Problem) -> Iterator[str]:
    """What it is, and the innermost function at fault."""
    yield _named(problem)
    if problem.function:
        of = f" of {problem.module}" if problem.module else ""
        at, *outer = problem.fault.places if problem.fault and problem.fault.places else (None,)
        if at and outer:
            yield f"in {at.function}() of {problem.module}, inlined in {problem.function}()"
        else:
            yield f"in {problem.function}(){of}"
    if problem.file:
        yield f"at {problem.file}:{problem.line}"


def _named(problem: Problem) -> str:
    kind = str(problem.kind)
    return problem.summary if problem.summary.startswith(kind) else f"{kind}: {problem.summary}"


def _is_of_loading(blame: dict[str, str]) -> bool:
    """Whether loading and unloading is all that it takes to see it."""
    return bool(blame) and set(blame.values()) <= {MODULE, LOAD} and blame.get("call") != MODULE


def _command(item: pytest.Item, trial: Trial, is_of_loading: bool) -> str:
    """What to type. `lkm run` does no more than load and unload, so it is for what failed of these."""
    assert trial.kernel
    release = trial.kernel.release
    if is_of_loading and len(trial.loads) == 1 and (load := trial.loads[0]):
        return shlex.join(["lkm", "run", *_run_words(load), "-k", release])
    callspec = getattr(item, "callspec", None)
    name = callspec.params.get("_lkm_kernel") if callspec else None
    words = ["pytest", item.nodeid]
    if name or not callspec:
        words += ["--lkm-kernel", name or release]
    return shlex.join(words)


def _run_words(load: Load) -> Iterator[str]:
    from lkm.params import as_text

    yield os.path.relpath(load.source)
    if not load.is_only:
        yield from ("--module", load.name)
    for name, value in load.params.items():
        yield name if value is None else f"{name}={as_text(value)}"
