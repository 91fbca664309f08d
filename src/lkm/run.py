"""A module source, a kernel and parameters in; log, problems and verdict out. Here the story is told."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lkm import kbuild
from lkm.end import End
from lkm.errors import BuildError, UsageError
from lkm.kernels.kernel import Kernel
from lkm.machine import DEFAULT_TIMEOUT, Machine
from lkm.progress import SILENT, Progress
from lkm.targets import Target, Targets, assign, needed, needs_of, targets_of
from lkm.verdict import ModuleRun, Timings, Verdict, judge

if TYPE_CHECKING:
    from lkm.preflight import Preflight, Refusal

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
    preflight: Preflight | None = None,
    progress: Progress = SILENT,
) -> Run:
    """Build `path` (a directory, a .c or a .ko), and load and unload each of its modules in a fresh machine.

    `machine` makes the machine for a module of that name. `params` go to the modules that have them; `module`
    names the one to try. `timeout` is for each load and each unload, in seconds. `preflight` is asked before
    anything is loaded, on a machine that is no guest. What the module does is in the Run, never an
    exception: UsageError, HostError and MachineError are all that is raised.
    """
    started = time.monotonic()
    try:
        targets = targets_of(path, kernel, progress=progress)
    except BuildError as error:
        failed = _build_failed(path, module, error, time.monotonic() - started)
        return Run(kernel, (failed,), error=error)
    chosen = _chosen(targets.named, module)
    arguments = assign(chosen, params or {})
    runs = [
        _try(target, targets, arguments[target.name], kernel, machine, timeout, preflight)
        for target in chosen
    ]
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
    targets: Targets,
    arguments: str,
    kernel: Kernel,
    make: MachineMaker,
    timeout: float,
    preflight: Preflight | None,
) -> ModuleRun:
    started = time.monotonic()
    build_seconds = targets.build.seconds if targets.build else None
    with make(target.name) as machine:
        machine.ping()
        timings = Timings(build_seconds, time.monotonic() - started)
        loaded = {module.name for module in machine.modules()} if preflight else set()
        needs = needs_of(target, targets.all, kernel, loaded=loaded)
        if preflight and (refusal := preflight.refusal(target, targets.all, loaded)):
            return _refused(target.name, refusal, timings, machine)
        machine.load_needs(needs)
        return _tried(target, machine, arguments, timeout, timings)


def _refused(name: str, refusal: Refusal, timings: Timings, machine: Machine) -> ModuleRun:
    return ModuleRun(
        name,
        Verdict.LOAD_FAILED,
        refusal.reason,
        refusal.symbol,
        timings=timings,
        hint=refusal.hint,
        taint=machine.taint(),
    )


def _tried(
    target: Target, machine: Machine, arguments: str, timeout: float, timings: Timings
) -> ModuleRun:
    from lkm.ko import read_image

    load = machine.load(read_image(target.image), arguments, timeout=timeout)
    params: dict[str, str] = {}
    unload = None
    if load.end is End.DONE and load.errno == 0:
        if any(parameter.perm != 0 for parameter in target.object.parameters):
            files = machine.parameters(target.name)
            params = {name: file.value for name, file in files.items() if file.value is not None}
        unload = machine.unload(target.name, timeout=timeout)
    judged = judge(target.name, load, unload, has_exit=target.object.has_exit)
    return ModuleRun(
        target.name,
        judged.verdict,
        judged.reason,
        judged.errno,
        params,
        (*load.records, *(unload.records if unload else ())),
        judged.problems,
        replace(timings, load=load.seconds, unload=unload.seconds if unload else None),
        load.lost + (unload.lost if unload else 0),
        judged.hint,
        machine.taint(),
    )
