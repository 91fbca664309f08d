"""What stands before a machine, and is it but for what it does itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from lkm.closing import Closing

if TYPE_CHECKING:
    from lkm.machine import Machine

__all__ = ["StandIn"]

M = TypeVar("M", bound="Machine")


class StandIn(Closing, Generic[M]):
    """Gives on what it does not know itself to the machine, which is closed with it."""

    def __init__(self, machine: M) -> None:
        self._machine = machine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._machine, name)

    def close(self) -> None:
        """The machine's own."""
        self._machine.close()

    @property
    def as_machine(self) -> M:
        """The same, for a type checker: what is not here is the machine's own."""
        return cast("M", self)
