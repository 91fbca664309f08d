"""`lkm run --track`: the machines for a run, and the run with what was seen on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from lkm.interpose.places import Places
from lkm.interpose.tracker import tracker_for
from lkm.interpose.watch import Watched, watched_run
from lkm.kernels.kernel import Kernel
from lkm.ko import read_image
from lkm.machine import Machine
from lkm.progress import SILENT, Progress
from lkm.run import Run

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
        tracker = tracker_for(self._kernel, progress=self._progress)
        watched = self._watched[module] = Watched(self._make(module), tracker)
        return watched.as_machine

    def judged(self, run: Run, path: str | Path) -> Run:
        """The run of `path`, with what was not given back, and what was given back wrongly."""
        modules = []
        for module in run.modules:
            seen = self._watched.get(module.name)
            report = seen.report if seen else None
            if report and report.problems:
                module = watched_run(module, report, self._places(run, module.name, path))
            modules.append(module)
        return replace(run, modules=tuple(modules))

    def _places(self, run: Run, name: str, path: str | Path) -> Places:
        built = run.build.objects[name].path if run.build else Path(path)
        return Places(read_image(built), built.name)
