"""How a request to a kernel ended: apart from the rest, for what starts QEMU imports it first."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["End"]


class End(StrEnum):
    """How a request to a machine ended.

    `done`: it was answered. `killed`: the kernel killed the process that did it (an oops). `panic`: the
    guest halted or rebooted. `hung`: there was no answer within the limit. `gone`: QEMU ended with it, or what
    answered was not the agent any more.
    """

    DONE = "done"
    KILLED = "killed"
    PANIC = "panic"
    HUNG = "hung"
    GONE = "gone"
