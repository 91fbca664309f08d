"""A guest on which one module gets stubs each time that it is loaded, whoever else uses the guest meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lkm import ko
from lkm.interpose import report as reports
from lkm.interpose.choice import Choice, choose
from lkm.interpose.report import PREFIX, Report
from lkm.interpose.rewrite import interpose
from lkm.interpose.rules import Plan
from lkm.interpose.standin import StandIn
from lkm.interpose.tracker import Tracker
from lkm.machine import Outcome
from lkm.vm.calls import FAILURES
from lkm.vm.machine import Machine

if TYPE_CHECKING:
    from lkm.log import Record

__all__ = ["Load", "Stubbed"]


@dataclass(frozen=True)
class Load:
    """A load of the module: the bytes, what came of it, and where what the stubs say of it begins."""

    image: bytes
    choice: Choice
    outcome: Outcome
    begin: int


class Stubbed(StandIn[Machine]):
    """A machine with `lkm_interpose` in it. `plan` says what to do with the calls of the next load of `name`.

    What the stubs say is kept out of the log. `loads` and `unloads` are of that module, `others` the names of
    what was loaded besides.
    """

    def __init__(
        self, machine: Machine, tracker: Tracker, name: str, plan: Callable[[], Plan]
    ) -> None:
        super().__init__(machine)
        self._tracker = tracker
        self._name = name
        self._plan = plan
        self.loads: list[Load] = []
        self.unloads: list[Outcome] = []
        self.others: list[str] = []
        machine.kernel_log.aside_of = PREFIX

    @property
    def timeout(self) -> float:
        """The machine's own; can be set."""
        return self._machine.timeout

    @timeout.setter
    def timeout(self, seconds: float) -> None:
        self._machine.timeout = seconds

    def load(self, image: bytes, arguments: str = "", *, timeout: float | None = None) -> Outcome:
        """init_module(2), with stubs where it is the module."""
        facts = ko.parse(image, "module")
        if facts.name != self._name:
            self.others.append(facts.name)
            return self._machine.load(image, arguments, timeout=timeout)
        choice = choose(set(facts.imports), self._tracker.series)
        made = interpose(
            image, facts.name, choice.rules, self._plan(), gate_crc=self._tracker.gate_crc
        )
        if not self.loads:
            self._machine.inventory()
        begin = len(self.said())
        outcome = self._machine.load(made.image, arguments, timeout=timeout)
        outcome = replace(outcome, records=reports.without(outcome.records))
        self.loads.append(Load(image, choice, outcome, begin))
        return outcome

    def unload(self, name: str, *, timeout: float | None = None) -> Outcome:
        """delete_module(2)."""
        outcome = self._machine.unload(name, timeout=timeout)
        if name == self._name:
            self.unloads.append(outcome)
        return replace(outcome, records=reports.without(outcome.records))

    def said(self) -> list[Record]:
        """What the stubs have said until now."""
        log = self._machine.kernel_log
        if self._machine.is_running:
            with contextlib.suppress(*FAILURES):
                log.refresh()
        return log.aside

    def reports(self) -> list[Report]:
        """What is known of each load until the next."""
        said = self.said()
        ends = [*(load.begin for load in self.loads[1:]), len(said)]
        return [
            reports.read(said[load.begin : end], load.choice)
            for load, end in zip(self.loads, ends, strict=True)
        ]
