"""What is done with the module between its load and its unload."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lkm.end import End
from lkm.errors import KernelProblem, LkmError, ModuleFailure
from lkm.machine import Machine, Outcome

__all__ = ["exercise"]


def exercise(command: str, timeout: float) -> Callable[[Machine], Outcome]:
    """Runs a shell command in the guest. Its exit code says nothing: a failed call may well be told to it."""

    def run(machine: Machine) -> Outcome:
        from lkm.vm.process import run as run_program

        guest: Any = machine
        end = End.DONE
        try:
            run_program(guest, ["/bin/sh", "-c", command], timeout=timeout)
        except KernelProblem:
            pass  # its report is in the log
        except ModuleFailure:
            end = End.HUNG
        if not guest.is_running:
            return Outcome(End.PANIC, 0, tuple(guest.kernel_log.records), timeout)
        try:
            return Outcome(end, 0, tuple(guest.log()), timeout)
        except LkmError:
            return Outcome(End.PANIC, 0, tuple(guest.kernel_log.records), timeout)

    return run
