"""The modules to try: where their bytes are, what they need first, which parameters go to which."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lkm import kbuild
from lkm import source as sources
from lkm.errors import UsageError
from lkm.kernels.kernel import Kernel
from lkm.ko import KernelObject
from lkm.machine import Needs
from lkm.params import Value
from lkm.progress import SILENT, Progress

__all__ = ["Target", "Targets", "assign", "needed", "needs_of", "targets_of"]


@dataclass(frozen=True)
class Target:
    """A module to try: its facts, the file whose bytes are loaded, and the file with its debug info.

    `requests` are the names of other modules that the kernel is known to want when it is loaded.
    """

    object: KernelObject
    image: Path
    path: Path
    requests: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The module's name, with underscores."""
        return self.object.name


@dataclass(frozen=True)
class Targets:
    """What a path holds: the modules that it names, and those `beside` them that these may need.

    `build` is None for a .ko.
    """

    named: tuple[Target, ...]
    beside: tuple[Target, ...] = ()
    build: kbuild.Build | None = None

    @property
    def all(self) -> tuple[Target, ...]:
        """Every module that is at hand."""
        return (*self.named, *self.beside)


def targets_of(path: str | Path, kernel: Kernel, *, progress: Progress = SILENT) -> Targets:
    """The modules that `path` (a directory, a .c or a .ko) holds for this kernel, built where it is a source.

    A .ko that needs others finds them in its own directory before it finds the kernel's.
    """
    if ".ko" in Path(path).suffixes[-2:]:
        given = Path(path)
        if not given.is_file():
            raise UsageError(f"no such file: {path}", hint="lkm build SOURCE makes one")
        target = _target(given)
        return Targets((target,), tuple(_beside(target)))
    build = kbuild.build(sources.find(path), kernel, progress=progress)
    found = (Target(b.kernel_object, b.stripped, b.path) for b in build.objects.values())
    return Targets(tuple(found), build=build)


def needed(target: Target, targets: Sequence[Target]) -> list[Target]:
    """`target` and those of `targets` that it needs, the needed ones first."""
    by_name = {other.name: other for other in targets}
    order: list[Target] = []
    seen: set[str] = set()

    def visit(one: Target) -> None:
        seen.add(one.name)
        for name in map(_underscored, one.object.depends):
            if name in by_name and name not in seen:
                visit(by_name[name])
        order.append(one)

    visit(target)
    return order


def needs_of(
    target: Target, beside: Sequence[Target], kernel: Kernel, *, loaded: Collection[str] = ()
) -> Needs:
    """The files that must be loaded before: the kernel's own modules, then those of `beside`.

    The kernel's come in modules.dep's order; what is `loaded` is left out. Those that are only requested may
    be refused. Raises UsageError for a need that neither has.
    """
    ours = needed(target, beside)
    here = {one.name for one in ours} | set(loaded)
    wanted = [name for one in ours for name in one.object.depends if _underscored(name) not in here]
    own: tuple[Path, ...] = ()
    soft: tuple[Path, ...] = ()
    if wanted:
        from lkm.kernels.modules import load_order, soft_needs

        own = load_order(kernel, wanted)
        soft = soft_needs(kernel, own)
    others = [one.image for one in ours if one is not target and one.name not in loaded]
    return Needs(own, tuple(others), (*soft, *_requested(target, beside, kernel, loaded)))


def _requested(
    target: Target, beside: Sequence[Target], kernel: Kernel, loaded: Collection[str]
) -> Iterator[Path]:
    if not target.requests:
        return
    from lkm.kernels.modules import load_order, soft_needs

    here = {one.name: one for one in beside}
    for name in target.requests:
        if other := here.get(name):
            needs = needs_of(other, beside, kernel, loaded=loaded)
            yield from (*needs.soft, *needs.own, *needs.others, other.image)
        else:
            order = load_order(kernel, [name])
            yield from (*soft_needs(kernel, order), *order)


def assign(targets: Sequence[Target], params: Mapping[str, Value]) -> dict[str, str]:
    """The argument string for each module by its name: a parameter goes to every module that has it.

    Raises UsageError for one that none has, and for a value that the kernel would not take.
    """
    from lkm import params as rules

    chosen: dict[str, dict[str, Value]] = {target.name: {} for target in targets}
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


def _target(path: Path) -> Target:
    from lkm import ko

    return Target(ko.read(path), path, path)


def _beside(target: Target) -> Iterator[Target]:
    """The modules in the directory of a .ko that it needs, and that those need."""
    waiting = list(target.object.depends)
    seen = {target.name}
    while waiting:
        name = _underscored(waiting.pop())
        if name in seen:
            continue
        seen.add(name)
        for spelled in (name, name.replace("_", "-")):
            path = target.path.with_name(f"{spelled}.ko")
            if path.is_file():
                other = _target(path)
                waiting += other.object.depends
                yield other
                break


def _underscored(name: str) -> str:
    return name.replace("-", "_")
