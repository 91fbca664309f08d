"""Machines that a run leaves up, one a module."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lkm.kernels.kernel import Kernel
    from lkm.machine import Machine
    from lkm.progress import Progress

__all__ = ["Staying"]


class Staying:
    """Makes them. Of a module that is tried more than once only the last one stays up."""

    def __init__(self, kernel: Kernel, progress: Progress, wanted: str | None) -> None:
        self._kernel = kernel
        self._progress = progress
        self._wanted = wanted
        self._names: dict[str, str] = {}

    @property
    def names(self) -> list[str]:
        """Of those that are up, in the order of their modules."""
        return list(self._names.values())

    def machine(self, module: str) -> Machine:
        """A machine for a module, named after it and the time."""
        from lkm.cli.up import raise_machine
        from lkm.vm import named
        from lkm.vm.attach import attach

        if earlier := self._names.get(module):
            named.down(named.find(earlier))
        name = f"{module}-{time.strftime('%H%M%S')}"
        machine = raise_machine(name, self._kernel, self._progress, wanted=self._wanted)
        self._names[module] = machine.name
        return attach(machine)
