"""A module source, a kernel and parameters in; log, problems and verdict out. Here the story is told."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lkm import kbuild
from lkm.errors import BuildError, UsageError
from lkm.kernels.kernel import Kernel
from lkm.progress import SILENT, Progress
from lkm.targets import Target, assign, dependencies, needed, targets_of
from lkm.verdict import ModuleRun, Timings, Verdict, judge
from lkm.vm.link import End
from lkm.vm.machine import DEFAULT_TIMEOUT, Machine, load_all

__all__ = ["Run", "run"]

SCHEMA = 1

MachineMaker = Callable[[str], Machine]


@dataclass(frozen=True)
class Run:
    """What became of a source on a kernel: one ModuleRun a module, in the order in which they were tried.

    `build` is None for a .ko, and for a source that did not build, whose `error` says why.
    """

    kernel: Kernel
    modules: tuple[ModuleRun, ...]
    build: kbuild.Build | None = None
    error: BuildError | None = None

    @property
    def ok(self) -> bool:
        """Whether every verdict is `ok`."""
        return all(module.verdict is Verdict.OK for module in self.modules)

    def to_dict(self) -> dict[str, Any]:
        """The document that `lkm run --json` prints."""
        return {
            "schema": SCHEMA,
            "kernel": self.kernel.release,
            "arch": self.kernel.arch.name,
            "modules": [module.to_dict() for module in self.modules],
        }


def run(
    path: str | Path,
    kernel: Kernel,
    machine: MachineMaker,
    *,
    params: Mapping[str, str | None] | None = None,
    module: str | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    progress: Progress = SILENT,
) -> Run:
    """Build `path` (a directory, a .c or a .ko), and load and unload each of its modules in a fresh machine.

    `machine` makes the machine for a module of that name. `params` go to the modules that have them; `module`
    names the one to try. `timeout` is for each load and each unload, in seconds. What the module does is in
    the Run, never an exception: UsageError, HostError and MachineError are all that is raised.
    """
    started = time.monotonic()
    try:
        targets = targets_of(path, kernel, progress=progress)
    except BuildError as error:
        failed = _build_failed(path, module, error, time.monotonic() - started)
        return Run(kernel, (failed,), error=error)
    chosen = _chosen(targets.named, module)
    arguments = assign(chosen, params or {})
    seconds = targets.build.seconds if targets.build else None
    runs = []
    for target in chosen:
        words = arguments[target.name]
        runs.append(_try(target, targets.all, words, kernel, machine, timeout, seconds))
    return Run(kernel, tuple(runs), targets.build)


def _chosen(targets: Sequence[Target], module: str | None) -> list[Target]:
    ordered: list[Target] = []
    for target in targets:
        ordered += [one for one in needed(target, targets) if one not in ordered]
    if module is None:
        return ordered
    wanted = module.removesuffix(".ko").replace("-", "_")
    if found := [target for target in ordered if target.name == wanted]:
        return found
    names = ", ".join(target.name for target in ordered)
    raise UsageError(f"no module {module!r} here", hint=f"--module takes one of: {names}")


def _build_failed(
    path: str | Path, module: str | None, error: BuildError, seconds: float
) -> ModuleRun:
    name = module or Path(path).absolute().name.removesuffix(".c")
    first = next((line for line in error.diagnostics if "error: " in line.lower()), None)
    return ModuleRun(
        name.replace("-", "_"),
        Verdict.BUILD_FAILED,
        (first or error.summary).strip(),
        timings=Timings(build=seconds),
    )


def _try(
    target: Target,
    beside: Sequence[Target],
    arguments: str,
    kernel: Kernel,
    make: MachineMaker,
    timeout: float,
    build_seconds: float | None,
) -> ModuleRun:
    from lkm.ko import read_image

    started = time.monotonic()
    with make(target.name) as machine:
        machine.ping()
        restored = time.monotonic() - started
        load_all(machine, list(dependencies(target, beside, kernel)))
        load = machine.load(read_image(target.image), arguments, timeout=timeout)
        params: dict[str, str] = {}
        unload = None
        if load.end is End.DONE and load.errno == 0:
            if any(parameter.perm != 0 for parameter in target.object.parameters):
                files = machine.parameters(target.name)
                params = {
                    name: file.value for name, file in files.items() if file.value is not None
                }
            unload = machine.unload(target.name, timeout=timeout)
    judged = judge(target.name, load, unload, has_exit=target.object.has_exit)
    records = (*load.records, *(unload.records if unload else ()))
    timings = Timings(build_seconds, restored, load.seconds, unload.seconds if unload else None)
    return ModuleRun(
        target.name,
        judged.verdict,
        judged.reason,
        judged.errno,
        params,
        records,
        judged.problems,
        timings,
        load.lost + (unload.lost if unload else 0),
        judged.hint,
    )
