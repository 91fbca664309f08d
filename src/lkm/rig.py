"""On which machines modules are tried, how long, and who is asked beside: the same for all of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lkm.machine import DEFAULT_TIMEOUT, Guest, Machine

if TYPE_CHECKING:
    from lkm.preflight import Preflight
    from lkm.targets import Target, Targets
    from lkm.twin import Addresses
    from lkm.verdict import ModuleRun

__all__ = ["Limits", "Rig", "Where"]

Where = Callable[["Target", "Targets"], "Addresses"]
"""Where a module that was tried, and those it needs of its own path, lay in the kernel's memory."""


@dataclass(frozen=True)
class Limits:
    """How long each load and each unload may take, and how long the kernel is watched after it.

    `timeout` is in seconds of the wall clock, `settle` of the guest's: None is the machine's own, with 0
    nothing is watched, and nothing compared.
    """

    timeout: float = DEFAULT_TIMEOUT
    settle: float | None = None


@dataclass(frozen=True)
class Rig:
    """What modules are tried with.

    `machine` makes the machine for a module of that name. `preflight` is asked before anything is loaded, on a
    machine that is no guest. `where` says where a module was that is gone, as `twins` does; it is asked when a
    problem needs it. `judged` says more of each ModuleRun, before its problems are traced to lines. `another`
    makes one more machine that is thrown away; with it a module that can fire later is also unloaded at once.
    """

    machine: Callable[[str], Machine]
    limits: Limits = Limits()
    preflight: Preflight | None = None
    where: Where | None = None
    judged: Callable[[ModuleRun], ModuleRun] = lambda run: run
    another: Callable[[], Guest] | None = None
