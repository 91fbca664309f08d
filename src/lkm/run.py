"""A module source, a kernel and parameters in; log, problems and verdict out. Here the story is told."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lkm import kbuild, remains, requests
from lkm.end import End
from lkm.errors import BuildError, ExcludedError, UsageError
from lkm.kernels.kernel import Kernel
from lkm.machine import Area, Machine, NeedRefusedError, Needs, Outcome
from lkm.problems import Problem, ProblemKind, find
from lkm.progress import SILENT, Progress
from lkm.rig import Limits, Rig, Where
from lkm.source import DKMS_CONF
from lkm.targets import Target, Targets, assign, needed, needs_of, targets_of
from lkm.verbs import held
from lkm.verdict import ModuleRun, Stages, Timings, Verdict, judge

if TYPE_CHECKING:
    from lkm import ktap
    from lkm.decoding import Decoder
    from lkm.preflight import Refusal
    from lkm.twin import Addresses

__all__ = ["FATAL", "Limits", "Rig", "Run", "Where", "run", "try_modules", "twins"]

SCHEMA = 1


@dataclass(frozen=True)
class Run:
    """What became of a source on a kernel: one ModuleRun a module, in the order in which they were tried.

    `build` is None for a .ko, for a source that did not build, whose `error` says why, and for one that is
    not for this kernel: then there is one ModuleRun, with the source's name and the verdict `excluded`.
    """

    kernel: Kernel
    modules: tuple[ModuleRun, ...]
    build: kbuild.Build | None = None
    error: BuildError | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing failed: every verdict is `ok` or `excluded`."""
        return all(module.verdict in (Verdict.OK, Verdict.EXCLUDED) for module in self.modules)

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
    rig: Rig,
    *,
    params: Mapping[str, str | None] | None = None,
    module: str | None = None,
    progress: Progress = SILENT,
) -> Run:
    """Build `path` (a directory, a .c or a .ko), and load and unload each of its modules in a fresh machine.

    The rest is as for `try_modules`. What the module does is in the Run, never an exception: UsageError,
    HostError and MachineError are all that is raised.
    """
    started = time.monotonic()
    try:
        targets = targets_of(path, kernel, progress=progress)
    except BuildError as error:
        failed = _build_failed(path, module, error, time.monotonic() - started)
        return Run(kernel, (failed,), error=error)
    except ExcludedError as error:
        name = module or _source_name(path)
        return Run(kernel, (ModuleRun(name, Verdict.EXCLUDED, error.reason),))
    modules = try_modules(targets, kernel, rig, params=params, module=module)
    return Run(kernel, modules, targets.build)


def try_modules(
    targets: Targets,
    kernel: Kernel,
    rig: Rig,
    *,
    params: Mapping[str, str | None] | None = None,
    module: str | None = None,
) -> tuple[ModuleRun, ...]:
    """Load and unload each of the named `targets`, or the one that `module` names, in a fresh machine.

    `params` go to the modules that have them.
    """
    chosen = _chosen(targets.named, module)
    arguments = assign(chosen, params or {})
    decode = _decoder(targets, kernel)
    runs = []
    for one in chosen:
        words = arguments[one.name]
        attempt = partial(_try, targets=targets, arguments=words, kernel=kernel, rig=rig)
        target, first = requests.satisfied(one, targets.all, kernel, attempt)
        tried, where = _judged(first, target, targets, words, kernel, rig)
        known = partial(where, target, targets) if where else None
        runs.append(replace(tried, problems=decode(tried.problems, known)))
    return tuple(runs)


def _judged(
    first: ModuleRun,
    target: Target,
    targets: Targets,
    arguments: str,
    kernel: Kernel,
    rig: Rig,
) -> tuple[ModuleRun, Where | None]:
    """The run to show, and who knows where the module was in it."""
    tried = rig.judged(first)
    if (
        rig.another is None
        or tried.verdict is not Verdict.OK
        or rig.limits.settle == 0
        or not remains.fires_later(target.object.imports)
    ):
        return tried, rig.where
    from lkm.at_once import found_at_once

    needs = needs_of(target, targets.all, kernel)
    with rig.another() as machine:
        found = found_at_once(tried, target, needs, machine, arguments, rig.limits)
    return (found, twins(rig.another, kernel)) if found else (tried, rig.where)


def _decoder(
    targets: Targets, kernel: Kernel
) -> Callable[[tuple[Problem, ...], Callable[[], Addresses] | None], tuple[Problem, ...]]:
    """A Decoder, which is imported when there is a problem."""

    @cache
    def decoder() -> Decoder:
        from lkm.decoding import Decoder

        return Decoder(kernel, targets)

    return lambda problems, known: decoder()(problems, known) if problems else ()


def twins(make: Callable[[], Machine], kernel: Kernel) -> Where:
    """Finds out on one more machine, which `make` makes, like those on which the modules were tried."""

    def where(target: Target, targets: Targets) -> Addresses:
        from lkm.twin import addresses

        return addresses(make, [needs_of(target, targets.all, kernel), target])

    return where


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
    first = next((line for line in error.diagnostics if "error: " in line.lower()), None)
    return ModuleRun(
        module or _source_name(path),
        Verdict.BUILD_FAILED,
        (first or error.summary).strip(),
        timings=Timings(build=seconds),
    )


def _source_name(path: str | Path) -> str:
    """What to call a source that has no module: its name, without the version of a DKMS source's directory."""
    given = Path(path).absolute()
    name = given.name.removesuffix(".c")
    if (given / DKMS_CONF).is_file():
        name = re.sub(r"(?<=.)-\d.*", "", name)
    return name.replace("-", "_")


def _try(
    target: Target,
    targets: Targets,
    arguments: str,
    kernel: Kernel,
    rig: Rig,
) -> ModuleRun:
    preflight, limits = rig.preflight, rig.limits
    started = time.monotonic()
    build_seconds = targets.build.seconds if targets.build else None
    with rig.machine(target.name) as machine:
        machine.ping()
        timings = Timings(build_seconds, time.monotonic() - started)
        loaded = {module.name for module in machine.modules()} if preflight else set()
        needs = needs_of(target, targets.all, kernel, loaded=loaded)
        if preflight and (refusal := preflight.refusal(target, targets.all, loaded)):
            return _refused(target.name, refusal, timings, machine)
        try:
            machine.load_needs(needs)
        except NeedRefusedError as error:
            if error.path not in needs.others:
                raise  # the kernel's own module: nothing that the source is to blame for
            return _without_need(target.name, error, timings, machine)
        if needs != Needs() and limits.settle != 0:
            machine.inventory()
        return _tried(target, kernel, machine, arguments, limits, timings)


def _without_need(
    name: str, error: NeedRefusedError, timings: Timings, machine: Machine
) -> ModuleRun:
    """The verdict on a module that needs another of its own source, which does not load."""
    judged = judge(error.path.stem, Stages(error.outcome))
    return ModuleRun(
        name,
        Verdict.LOAD_FAILED,
        error.summary,
        judged.errno,
        log=error.outcome.records,
        problems=judged.problems,
        timings=timings,
        hint=judged.hint,
        taint=machine.taint(),
    )


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
    target: Target,
    kernel: Kernel,
    machine: Machine,
    arguments: str,
    limits: Limits,
    timings: Timings,
) -> ModuleRun:
    looks = remains.areas(target.object.imports)
    stages, params = _worked(target, machine, arguments, limits, looks)
    suites, failed = _suites(target.name, stages)
    leaked = _leaked(target.name, stages, machine) if kernel.knows_allocations else ()
    judged = judge(
        target.name,
        stages,
        has_exit=target.object.has_exit,
        found=(*_found(stages), *failed, *leaked),
        held=_holder(machine, target.name, stages.unload),
    )
    return ModuleRun(
        target.name,
        judged.verdict,
        judged.reason,
        judged.errno,
        params,
        stages.records,
        judged.problems,
        _timed(stages, timings),
        sum(outcome.lost for outcome in stages.outcomes),
        judged.hint,
        machine.taint(),
        suites,
        asked=requests.in_vain(stages.asked, kernel),
    )


def _suites(name: str, stages: Stages) -> tuple[tuple[ktap.Result, ...], tuple[Problem, ...]]:
    """The KUnit suites that ran, and the problem of each case that failed."""
    if not any("# Subtest: " in record.text for record in stages.records):
        return (), ()
    from lkm import ktap

    suites = ktap.find(stages.records)
    return suites, ktap.problems(suites, name)


def _worked(
    target: Target, machine: Machine, arguments: str, limits: Limits, looks: Area
) -> tuple[Stages, dict[str, str]]:
    """Load the module, watch, unload it, watch; as far as that goes."""
    from lkm.ko import read_image

    def watched(areas: int) -> Outcome | None:
        if limits.settle == 0:
            return None
        return machine.settle(limits.settle, areas, timeout=limits.timeout)

    load = machine.load(read_image(target.image), arguments, timeout=limits.timeout)
    if load.end is not End.DONE:
        return Stages(load), {}
    if load.errno:
        return Stages(load, watched(looks)), {}
    params: dict[str, str] = {}
    stages = Stages(load)
    if any(parameter.perm != 0 for parameter in target.object.parameters):
        reading, files = machine.read_parameters(target.name, timeout=limits.timeout)
        stages = replace(stages, reading=reading)
        params = {name: file.value for name, file in files.items() if file.value is not None}
        if reading.end is not End.DONE:
            return stages, params
    stages = replace(stages, after_load=watched(0))
    if _is_over(stages):
        return stages, params
    unload = machine.unload(target.name, timeout=limits.timeout)
    stages = replace(stages, unload=unload)
    if unload.end is End.DONE and unload.errno == 0:
        stages = replace(stages, after_unload=watched(looks))
    return stages, params


def _holder(machine: Machine, name: str, unload: Outcome | None) -> str | None:
    if unload is None or unload.end is not End.DONE or not unload.errno:
        return None
    return held(machine, name, unload.errno)


def _is_over(stages: Stages) -> bool:
    """Whether the machine cannot be asked for more: after an oops rmmod may wait for ever."""
    if stages.outcomes[-1].end is not End.DONE:
        return True
    return any(problem.kind in FATAL for problem in find(stages.records))


FATAL = (
    ProblemKind.OOPS, ProblemKind.BUG, ProblemKind.DOUBLE_FAULT, ProblemKind.STACK_OVERFLOW,
)  # fmt: skip
"""After these there may be processes that never end, and a module that cannot go."""


def _found(stages: Stages) -> tuple[Problem, ...]:
    """The problems that the log does not tell of."""
    left = [one for outcome in stages.outcomes for one in outcome.left]
    return remains.problems(left, len(stages.records)) if left else ()


def _leaked(module: str, stages: Stages, machine: Machine) -> tuple[Problem, ...]:
    """What a module that is gone has not freed; nothing where it is still there, or nobody can be asked."""
    gone = stages.load.errno or (stages.unload and not stages.unload.errno)
    if not gone or _is_over(stages):
        return ()
    from lkm import leaks
    from lkm.unfreed import unfreed

    return leaks.problems(unfreed(machine, module), module)


def _timed(stages: Stages, timings: Timings) -> Timings:
    watched = [one.seconds for one in (stages.after_load, stages.after_unload) if one]
    return replace(
        timings,
        load=stages.load.seconds,
        unload=stages.unload.seconds if stages.unload else None,
        settle=sum(watched) if watched else None,
    )
