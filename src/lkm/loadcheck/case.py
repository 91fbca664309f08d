"""One object on one kernel, with what is loaded there: what the rules look at. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from lkm.ko import KernelObject
from lkm.loadcheck.facts import KernelFacts
from lkm.loadcheck.image import Image
from lkm.loadcheck.symbols import Exported, SymbolTable

__all__ = ["Case", "is_gpl_compatible"]

_GPL_COMPATIBLE = frozenset(
    ("GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL")
)
"""license_is_gpl_compatible() of include/linux/license.h, the same from 5.10 to 7.3."""

_OFFENDERS = ("driverloader", "lve")
"""Names that count as proprietary whatever their licence says (kernel/module/main.c)."""


def is_gpl_compatible(license: str | None) -> bool:  # noqa: A002 - modinfo's own word
    """Whether a module of that licence may use GPL-only symbols; None is one that says nothing."""
    return license in _GPL_COMPATIBLE


@dataclass(frozen=True)
class Case:
    """An object and a kernel.

    `names` are loaded modules of the kernel's own, `objects` the others that are; `others` are other
    kernels' tables, oldest first.
    """

    image: Image
    facts: KernelFacts
    names: frozenset[str] = frozenset()
    objects: Sequence[KernelObject] = ()
    others: Sequence[SymbolTable] = field(default=(), repr=False)

    @property
    def name(self) -> str:
        """What the module will be called."""
        return self.image.struct_name

    @cached_property
    def proprietary(self) -> bool:
        """Whether its licence taints the kernel."""
        return not is_gpl_compatible(self.image.first("license")) or self.name in _OFFENDERS

    def taken(self) -> bool:
        """Whether a module of that name is loaded."""
        return self.name in self.names or any(each.name == self.name for each in self.objects)

    def find(self, name: str, *, gpl_ok: bool = True) -> Exported | None:
        """The symbol as find_symbol() finds it: the kernel's first, then those of loaded modules."""
        found = self.facts.symbols.get(name)
        if found and (gpl_ok or not found.gpl) and (not found.module or found.module in self.names):
            return found
        return self._of_objects.get((name, gpl_ok))

    @cached_property
    def _of_objects(self) -> dict[tuple[str, bool], Exported]:
        found: dict[tuple[str, bool], Exported] = {}
        for each in self.objects:
            for export in each.exports:
                namespace = export.namespace or ""
                symbol = Exported(export.name, export.crc, each.name, export.gpl, namespace)
                found[export.name, True] = symbol
                if not export.gpl:
                    found[export.name, False] = symbol
        return found

    def owner(self, symbol: Exported) -> KernelObject | None:
        """The module not of the kernel's own that exports it."""
        return next((each for each in self.objects if each.name == symbol.module), None)
