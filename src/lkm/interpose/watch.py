"""A machine on which a module is loaded with stubs: every call of the tables is seen, and one may fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from lkm import ko
from lkm.end import End
from lkm.interpose import report as reports
from lkm.interpose.choice import Choice, choose
from lkm.interpose.report import Report
from lkm.interpose.rewrite import interpose
from lkm.interpose.rules import NOTHING, Plan
from lkm.interpose.standin import StandIn
from lkm.interpose.tracker import Tracker
from lkm.log import Record
from lkm.machine import Machine, Outcome, require_loaded
from lkm.verdict import ModuleRun, Verdict

__all__ = ["Watched", "watched_run"]


class Watched(StandIn[Machine]):
    """A machine whose next module gets stubs. `between` is called between its load and its unload,
    and says what came of it. `has_tracker` says that `lkm_interpose` is there already."""

    def __init__(
        self,
        machine: Machine,
        tracker: Tracker,
        plan: Plan = NOTHING,
        between: Callable[[Machine], Outcome] | None = None,
        *,
        has_tracker: bool = True,
    ) -> None:
        super().__init__(machine)
        self._has_tracker = has_tracker
        self._tracker = tracker
        self._plan = plan
        self._between = between
        self._choice = Choice((), ())
        self._heard: list[Record] = []

    def load(self, image: bytes, arguments_: str = "", *, timeout: float | None = None) -> Outcome:
        """init_module(2) with the object and its stubs."""
        facts = ko.parse(image, "module")
        self._choice = choose(set(facts.imports), self._tracker.series, faults=self._plan.faults)
        made = interpose(
            image, facts.name, self._choice.rules, self._plan, gate_crc=self._tracker.gate_crc
        )
        if not self._has_tracker:
            own = self._machine.load(ko.read_image(self._tracker.image))
            require_loaded(own, self._tracker.image)
            self._machine.inventory()
        return self._taken_out(self._machine.load(made.image, arguments_, timeout=timeout))

    def unload(self, name: str, *, timeout: float | None = None) -> Outcome:
        """delete_module(2), after what is to be done between."""
        before: tuple[Record, ...] = ()
        if self._between is not None:
            between = self._between(self._machine)
            if between.end is not End.DONE:
                return self._taken_out(between)
            before = between.records
        outcome = self._machine.unload(name, timeout=timeout)
        return self._taken_out(replace(outcome, records=(*before, *outcome.records)))

    def settle(
        self, seconds: float | None = None, areas: int = 0, *, timeout: float | None = None
    ) -> Outcome:
        """The machine's own."""
        return self._taken_out(self._machine.settle(seconds, areas, timeout=timeout))

    def _taken_out(self, outcome: Outcome) -> Outcome:
        self._heard += outcome.records
        return replace(outcome, records=reports.without(outcome.records))

    @property
    def report(self) -> Report:
        """What has been heard so far."""
        return reports.read(self._heard, self._choice)


def watched_run(run: ModuleRun, report: Report) -> ModuleRun:
    """The run with the problems of the report."""
    if not report.problems:
        return run
    everything = (*run.problems, *report.problems)
    if run.verdict not in (Verdict.OK, Verdict.LOAD_FAILED, Verdict.UNLOAD_FAILED):
        return replace(run, problems=everything)
    return replace(
        run,
        problems=everything,
        verdict=Verdict.PROBLEM,
        reason=report.problems[0].summary,
        hint=None,
    )
