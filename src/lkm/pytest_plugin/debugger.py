"""A test's machines while its user is in pdb: twins of them stay up, to be entered from another shell."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from lkm.errors import LkmError

if TYPE_CHECKING:
    from lkm.api.vm import VM
    from lkm.vm.named import Named

__all__ = ["Twins"]


class Twins:
    """Machines that stay, in the state of a test's own. `close` takes them down."""

    def __init__(self) -> None:
        self._up: list[Named] = []

    def start(self, machines: list[VM], say: Callable[[str], None]) -> None:
        """Put up a twin of each machine, and say what to type to enter it."""
        from lkm.vm import named

        for number, machine in enumerate(machines, 1):
            name = f"pytest-{os.getpid()}-{number}"
            if any(twin.name == name for twin in self._up):
                continue
            try:
                with machine.snapshot() as taken:
                    self._up.append(named.up(name, taken.frozen))
            except LkmError as error:
                say(f"lkm: the machine cannot be entered: {error.summary}")
            else:
                say(f"lkm: a twin of the machine is up until you leave pdb: lkm sh -m {name}")

    def close(self) -> None:
        """Take them down."""
        if not self._up:
            return
        from lkm.vm import named

        while self._up:
            named.down(self._up.pop())
