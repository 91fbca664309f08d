"""A module source, a kernel and parameters in; log, problems and verdict out. Here the story is told."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lkm import kbuild as builds
from lkm import source as sources
from lkm.errors import BuildError, UsageError
from lkm.kernels.kernel import Kernel
from lkm.ko import KernelObject
from lkm.progress import SILENT, Progress
from lkm.verdict import ModuleRun, Timings, Verdict, judge
from lkm.vm.link import End
from lkm.vm.machine import DEFAULT_TIMEOUT, Machine, load_all

__all__ = ["Run", "Target", "run", "targets_of"]

SCHEMA = 1

MachineMaker = Callable[[str], Machine]


@dataclass(frozen=True)
class Target:
    """A module to try: its facts, the file whose bytes are loaded, and the file with its debug info."""

    object: KernelObject
    image: Path
    path: Path

    @property
    def name(self) -> str:
        """The module's name, with underscores."""
        return self.object.name


@dataclass(frozen=True)
class Run:
    """What became of a source on a kernel: one ModuleRun a module, in the order in which they were tried.

    `build` is None for a .ko, and for a source that did not build, whose `error` says why.
    """

    kernel: Kernel
    modules: tuple[ModuleRun, ...]
    build: builds.Build | None = None
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
        targets, build = targets_of(path, kernel, progress=progress)
    except BuildError as error:
        failed = _build_failed(path, module, error, time.monotonic() - started)
        return Run(kernel, (failed,), error=error)
    chosen = _chosen(targets, module)
    arguments = assign(chosen, params or {})
    seconds = build.seconds if build else None
    runs = []
    for target in chosen:
        before = [other for other in needed(target, targets) if other is not target]
        runs.append(_try(target, before, arguments[target.name], kernel, machine, timeout, seconds))
    return Run(kernel, tuple(runs), build)


def targets_of(
    path: str | Path, kernel: Kernel, *, progress: Progress = SILENT
) -> tuple[tuple[Target, ...], builds.Build | None]:
    """The modules that `path` holds for this kernel, built where it is a source."""
    from lkm import ko

    if ".ko" in Path(path).suffixes[-2:]:
        given = Path(path)
        if not given.is_file():
            raise UsageError(f"no such file: {path}", hint="lkm build SOURCE makes one")
        return (Target(ko.read(given), given, given),), None
    build = builds.build(sources.find(path), kernel, progress=progress)
    found = (Target(b.kernel_object, b.stripped, b.path) for b in build.objects.values())
    return tuple(found), build


def needed(target: Target, targets: Sequence[Target]) -> list[Target]:
    """`target` and those of `targets` that it needs, the needed ones first."""
    by_name = {other.name: other for other in targets}
    order: list[Target] = []

    def visit(one: Target) -> None:
        for name in one.object.depends:
            if (other := by_name.get(name.replace("-", "_"))) and other not in order:
                visit(other)
        if one not in order:
            order.append(one)

    visit(target)
    return order


def assign(targets: Sequence[Target], params: Mapping[str, str | None]) -> dict[str, str]:
    """The argument string for each module by its name: a parameter goes to every module that has it.

    Raises UsageError for one that none has, and for a value that the kernel would not take.
    """
    from lkm import params as rules

    chosen: dict[str, dict[str, str | None]] = {target.name: {} for target in targets}
    for name, value in params.items():
        takers = [t for t in targets if len(targets) == 1 or _has(t.object, name)]
        for target in takers or targets[:1]:
            chosen[target.name][name] = value
    return {
        target.name: rules.render(rules.check(target.object, chosen[target.name]))
        for target in targets
    }


def _has(module: KernelObject, name: str) -> bool:
    wanted = name.replace("-", "_")
    return any(parameter.name.replace("-", "_") == wanted for parameter in module.parameters)


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
    before: Sequence[Target],
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
        load_all(machine, list(dependencies(target, before, kernel)))
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


def dependencies(
    target: Target, before: Sequence[Target], kernel: Kernel
) -> Iterator[tuple[str, bytes]]:
    """The kernel's own modules that these need, in modules.dep's order, then the source's."""
    from lkm.ko import read_image

    ours = {other.name for other in before}
    wanted = [
        name
        for one in (*before, target)
        for name in one.object.depends
        if name.replace("-", "_") not in ours
    ]
    if wanted:
        from lkm.kernels.modules import load_order

        for path in load_order(kernel, wanted):
            yield path.name, read_image(path)
    for other in before:
        yield other.name, read_image(other.image)
