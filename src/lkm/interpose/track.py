"""`lkm run --track`: the machines for a run, and what was seen on them."""

from __future__ import annotations

from collections.abc import Callable

from lkm.interpose.tracker import Tracker
from lkm.interpose.watch import Watched, watched_run
from lkm.machine import Machine
from lkm.verdict import ModuleRun

__all__ = ["Tracking"]


class Tracking:
    """Wraps the machines of one run, which have `lkm_interpose` loaded where `has_tracker` says so."""

    def __init__(
        self, tracker: Tracker, make: Callable[[str], Machine], *, has_tracker: bool = True
    ) -> None:
        self._tracker = tracker
        self._make = make
        self._has_tracker = has_tracker
        self._watched: dict[str, Watched] = {}

    def machine(self, module: str) -> Machine:
        """A machine for the module of that name."""
        watched = self._watched[module] = self._watch(self._make(module))
        return watched.as_machine

    def twin(self, make: Callable[[], Machine]) -> Callable[[], Machine]:
        """Makes, of what `make` makes, a machine on which a module gets its stubs, as on the others."""
        return lambda: self._watch(make()).as_machine

    def judged(self, run: ModuleRun) -> ModuleRun:
        """The run with what was not given back, and what was given back wrongly."""
        seen = self._watched.get(run.name)
        return watched_run(run, seen.report) if seen else run

    def _watch(self, machine: Machine) -> Watched:
        return Watched(machine, self._tracker, has_tracker=self._has_tracker)
