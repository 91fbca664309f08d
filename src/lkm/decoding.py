"""Problems traced to lines of source, with the modules of a path and what this computer has of their files."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from lkm.errors import UsageError
from lkm.problems import Module, Problem, needs_addresses, trace

if TYPE_CHECKING:
    from pathlib import Path

    from lkm.kernels.kernel import Kernel
    from lkm.targets import Target, Targets
    from lkm.twin import Addresses

__all__ = ["Decoder"]


class Decoder:
    """Traces the problems of modules. Their debug info is read once, when a problem names them."""

    def __init__(self, kernel: Kernel, *targets: Targets) -> None:
        self._kernel = kernel
        self._targets = list(targets)
        self._modules: dict[Path, Module | None] = {}

    def add(self, targets: Targets) -> None:
        """More modules, which stand before those that are known already."""
        if targets not in self._targets:
            self._targets.insert(0, targets)

    def __call__(
        self,
        problems: Sequence[Problem],
        addresses: Callable[[], Addresses] | None = None,
    ) -> tuple[Problem, ...]:
        """The problems with places and source; never raises.

        `addresses` is asked where a problem has frames that are mere addresses in the modules' memory.
        """
        if not problems or not self._targets:
            return tuple(problems)
        from lkm.sourcefiles import SourceFiles, SourceFilesOfSeveral

        known: Addresses = addresses() if addresses and needs_addresses(problems) else {}
        named = {frame.module for each in problems for frame in (each.fault, *each.trace) if frame}
        named |= known.keys()
        files = [SourceFiles(targets, self._kernel) for targets in self._targets]
        return trace(problems, self._at_hand(named, known), SourceFilesOfSeveral(files))

    def _at_hand(self, named: Container[str | None], known: Addresses) -> list[Module]:
        found: dict[str, Module] = {}
        for target in (each for targets in self._targets for each in targets.all):
            is_wanted = target.name in named and target.name not in found
            if is_wanted and (module := self._module(target)):
                found[module.name] = replace(module, sections=known.get(module.name, {}))
        return list(found.values())

    def _module(self, target: Target) -> Module | None:
        if target.path not in self._modules:
            self._modules[target.path] = _read(target)
        return self._modules[target.path]


def _read(target: Target) -> Module | None:
    from lkm.ko import read_image
    from lkm.symbolize import DebugInfo

    try:
        return Module(target.name, DebugInfo(read_image(target.path), target.path.name))
    except UsageError:
        return None
