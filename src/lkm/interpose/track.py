"""`lkm run --track`: the machines for a run, and what was seen on them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from lkm.interpose.tracker import Tracker, tracker_for
from lkm.interpose.watch import Watched, watched_run
from lkm.kernels.kernel import Kernel
from lkm.machine import Machine
from lkm.progress import SILENT, Progress
from lkm.verdict import ModuleRun

__all__ = ["Tracking"]


class Tracking:
    """Wraps the machines of one run. The kernel's `lkm_interpose` is built when the first is asked for."""

    def __init__(
        self, kernel: Kernel, make: Callable[[str], Machine], *, progress: Progress = SILENT
    ) -> None:
        self._kernel = kernel
        self._make = make
        self._progress = progress
        self._watched: dict[str, Watched] = {}

    def machine(self, module: str) -> Machine:
        """A machine for the module of that name."""
        watched = self._watched[module] = Watched(self._make(module), self._tracker)
        return watched.as_machine

    def twin(self, make: Callable[[], Machine]) -> Callable[[], Machine]:
        """Makes, of what `make` makes, a machine on which a module gets its stubs, as on the others."""
        return lambda: Watched(make(), self._tracker).as_machine

    def judged(self, run: ModuleRun) -> ModuleRun:
        """The run with what was not given back, and what was given back wrongly."""
        seen = self._watched.get(run.name)
        return watched_run(run, seen.report) if seen else run

    @cached_property
    def _tracker(self) -> Tracker:
        return tracker_for(self._kernel, progress=self._progress)
