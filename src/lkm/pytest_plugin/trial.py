"""One test's machines, and what their kernels said when it was over."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lkm.errors import KernelProblem, LkmError, ModuleFailure, UnloadError
from lkm.machine import MachineState
from lkm.pytest_plugin.debugger import Twins
from lkm.pytest_plugin.settings import DEAD, Settings

if TYPE_CHECKING:
    from lkm.api.kernel import Kernel
    from lkm.api.module import Module
    from lkm.api.vm import VM
    from lkm.log import Record
    from lkm.machine import Left
    from lkm.problems import Problem
    from lkm.pytest_plugin.session import Session

__all__ = ["NEXT", "TRIAL", "Load", "Trial", "log_of"]


@dataclass(frozen=True)
class Load:
    """A module that the test loaded: its source, how many modules that has, and the parameters."""

    source: Path
    name: str
    is_only: bool
    params: dict[str, Any]


@dataclass
class Trial:
    """What a test has had of lkm. After `finish` it has the logs and the problems of all its machines."""

    session: Session
    settings: Settings
    kernel: Kernel | None = None
    machines: list[VM] = field(default_factory=list)
    loaded: list[tuple[VM, Module]] = field(default_factory=list)
    loads: list[Load | None] = field(default_factory=list)
    logs: list[list[Record]] = field(default_factory=list)
    reported: list[tuple[Problem, list[Record]]] = field(default_factory=list)
    twins: Twins = field(default_factory=Twins)
    _left: dict[int, Sequence[Left]] = field(default_factory=dict)

    def machine(self, kernel: Kernel, settings: Settings) -> VM:
        """A machine that ends with the test."""
        self.kernel = self.kernel or kernel
        machine = self.session.machine(kernel, settings)
        self.machines.append(machine)
        return machine

    def wants(self, error: BaseException) -> bool:
        """Whether it is a problem that the test expects."""
        return isinstance(error, KernelProblem) and error.problem.kind in self.settings.expect

    def has_said(self, lines: Sequence[str]) -> bool:
        """Whether the log of one of the machines has all of these."""
        return any({*lines} <= {r.text for r in log_of(machine)} for machine in self.machines)

    def finish(self) -> None:
        """Unload what is loaded, and end the machines.

        Raises KernelProblem for a problem that was not expected, ModuleFailure for one that did not
        come and for a kernel that died, UnloadError.
        """
        try:
            failures = list(self._unload())
            kinds: set[str] = set()
            for machine in self.machines:
                kinds |= self._look(machine)
            for problem, _ in self.reported:
                if problem.kind not in self._wanted:
                    from lkm.problems.text import evidence

                    # The log is in the report's section.
                    raise KernelProblem(problem, traced=evidence(problem))
            if failures and not kinds & self._wanted:
                raise failures[0]
            if DEAD in kinds - self._wanted and not self.reported:
                raise ModuleFailure("the machine died in this test", evidence=self._tail())
            if missing := sorted(self._wanted - kinds):
                raise ModuleFailure(
                    f"the kernel reported no {missing[0]}, which the test expects",
                    evidence=[f"it reported: {', '.join(sorted(kinds)) or 'no problem'}"],
                )
        finally:
            self.close()

    def close(self) -> None:
        """End the machines."""
        self.twins.close()
        for machine in self.machines:
            machine.close()

    @property
    def _wanted(self) -> set[str]:
        return set(self.settings.expect)

    def _unload(self) -> Iterator[ModuleFailure]:
        """The failures of unloading the modules that are still there, the newest first.

        What a module left to fire later fires before this is over, and what else it left is known then.
        """
        for machine in self.machines:
            # After an oops rmmod may wait for ever for a module that cannot go any more.
            if not machine.is_running or not machine.machine.has_loaded or _reported(machine)[1]:
                continue
            ours = [module for where, module in self.loaded if where is machine]
            try:
                for module in reversed(ours):
                    _remove(module)
            except ModuleFailure as error:
                yield error
            if machine.is_running and self.settings.settle != 0:
                self._settle(machine)

    def _settle(self, machine: VM) -> None:
        history = machine.history
        looks = history.looks
        if self.settings.settle is None and not looks and not history.fires_later:
            return
        outcome = machine.machine.settle(self.settings.settle, looks)
        if outcome.left:
            from lkm import remains

            left = remains.made_by_modules(outcome.left, with_programs=history.has_run)
            self._left[id(machine)] = left

    def _look(self, machine: VM) -> set[str]:
        """Keep a machine's log and problems; the kinds of these, and whether it is dead."""
        log, found = _reported(machine)
        if left := self._left.get(id(machine)):
            from lkm import remains

            found += remains.problems(left, len(log))
        found = machine.history.decode(found)
        self.logs.append(log)
        self.reported += [(problem, log) for problem in found]
        kinds = {str(problem.kind) for problem in found}
        is_dead = machine.machine.state is MachineState.DEAD
        return kinds | {DEAD} if is_dead else kinds

    def _tail(self) -> Sequence[str]:
        return [record.text for log in self.logs for record in log[-6:]]


TRIAL = pytest.StashKey[Trial]()
NEXT = pytest.StashKey[pytest.Item | None]()
"""The test that comes after one."""


def _remove(module: Module) -> None:
    try:
        module.rmmod()
    except UnloadError as error:
        # The test has unloaded it.
        if error.errno != errno.ENOENT:
            raise


def _reported(machine: VM) -> tuple[list[Record], list[Problem]]:
    """A machine's log, and the problems in it."""
    from lkm.problems import find

    log = log_of(machine)
    return log, find(log)


def log_of(machine: VM) -> list[Record]:
    """A machine's log; one whose kernel has died is found to be dead."""
    # A kernel that has died is found out by asking it; what it said last is in the log then.
    with contextlib.suppress(ModuleFailure):
        return list(machine.log)
    try:
        return list(machine.log)
    except LkmError:
        return []
