"""A second machine on which modules lie where they lay on the first, to be asked where that was.

It is restored from the same snapshot and gets the same modules in the same order: the kernel then places them
by their sizes alone (nokaslr). A module that is judged is loaded without its init and exit, which may fail,
or worse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from lkm.errors import LkmError
from lkm.machine import Needs, sections
from lkm.targets import Target

if TYPE_CHECKING:
    from lkm.machine import Machine

__all__ = ["Addresses", "Step", "addresses", "loaded_at"]

Addresses = Mapping[str, Mapping[str, int]]
"""Modules by name, each with the addresses of its sections by name."""

Step = Needs | Target | str
"""What was done on the first machine: needs were loaded, a module was, or the module of that name went."""


def addresses(
    make: Callable[[], Machine], steps: Iterable[Step], seen: Mapping[str, int] | None = None
) -> Addresses:
    """Where the modules of `steps` were. Empty where the twin, which `make` makes, does not come so far.

    `seen` are modules of the first machine with their addresses, as `loaded_at` gives them: where the twin
    has another, the steps do not tell the whole story, and nothing is known.
    """
    found: dict[str, Mapping[str, int]] = {}
    try:
        with make() as machine:
            machine.ping()
            for step in steps:
                found |= _again(machine, step)
            there = loaded_at(machine)
            if any(there.get(name, at) != at for name, at in (seen or {}).items()):
                return {}
    except LkmError:
        return {}
    return found


def loaded_at(machine: Machine) -> dict[str, int]:
    """The modules that a machine has, with the last column of /proc/modules (kernel/module/procfs.c)."""
    lines = machine.read("/proc/modules").decode(errors="replace").splitlines()
    rows = (line.split() for line in lines)
    return {row[0]: int(row[5], 16) for row in rows if len(row) > 5}


def _again(machine: Machine, step: Step) -> Addresses:
    if isinstance(step, str):
        machine.unload(step)
        return {}
    if isinstance(step, Needs):
        machine.load_needs(step)
        names = [path.name.partition(".ko")[0].replace("-", "_") for path in step.others]
        return {name: sections(machine, name) for name in names}
    from lkm.ko import read_image
    from lkm.symbolize.image import inert

    outcome = machine.load(inert(read_image(step.image), step.name))
    return {} if outcome.errno else {step.name: sections(machine, step.name)}
