"""The debug info of a kernel object: from a symbol or an address to functions, files and lines. Pure."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import cached_property
from typing import NamedTuple

from lkm.errors import UsageError
from lkm.ko.elf import Elf, read_elf
from lkm.symbolize.functions import Code
from lkm.symbolize.lines import Row
from lkm.symbolize.place import Place
from lkm.symbolize.ranges import unit_ranges
from lkm.symbolize.sections import SECTION_BITS, DebugSections, address_of
from lkm.symbolize.symbols import Function, Functions
from lkm.symbolize.units import Unit, units
from lkm.symbolize.variables import declared_in, function_in, variable_at

__all__ = ["Data", "DebugInfo", "Location"]

_DAMAGED = (
    IndexError,
    KeyError,
    OverflowError,
    RecursionError,
    StopIteration,
    UsageError,
    ValueError,
    struct.error,
)
"""What reading damaged debug info, or a kind that is not known here, ends with."""


class Location(NamedTuple):
    """What a symbol and an offset stand for: bytes from the start of a section of the object."""

    section: str
    offset: int


class Data(NamedTuple):
    """A variable, and where in it: `declared` is its place in the source, `function` the one it refers to."""

    name: str
    offset: int
    declared: Place | None
    function: Function | None


class DebugInfo:
    """What a `.ko` says about where its code comes from. Nothing is read before it is asked for, nor twice.

    A stripped object has none: its functions are known, and no place in them.
    """

    def __init__(self, data: bytes, name: str) -> None:
        """Raises UsageError for data that is no object."""
        self._elf: Elf = read_elf(data, name)
        self._numbers = {each.name: each.number for each in reversed(self._elf.sections)}
        self._codes: dict[int, Code] = {}

    @property
    def present(self) -> bool:
        """Whether the object has debug info that can be read."""
        has = {".debug_info", ".zdebug_info"} & self._numbers.keys()
        return self._elf.bits == 64 and bool(has)

    @cached_property
    def functions(self) -> Functions:
        """The object's functions by their symbols. Raises UsageError where it has no symbol table."""
        return Functions(self._elf)

    def places(
        self, function: str, offset: int, size: int | None = None, *, exact: bool = True
    ) -> tuple[Place, ...]:
        """Where the code at `function+offset` comes from, as the kernel prints it with the function's `size`.

        The innermost inlined call first, the function itself last; empty where it is not known. A return
        address, which is the one after the call, is not `exact`.
        """
        found = self._named(function, size)
        if found is None:
            return ()
        return self._places(address_of(found.section, found.value + offset), exact=exact)

    def location(self, function: str, offset: int, size: int | None = None) -> Location | None:
        """The section and offset of `function+offset`."""
        found = self._named(function, size)
        if found is None:
            return None
        return Location(self._elf.sections[found.section].name, found.value + offset)

    def _named(self, function: str, size: int | None) -> Function | None:
        try:
            return self.functions.named(function, size)
        except UsageError:
            return None

    def places_at(self, section: str, offset: int, *, exact: bool = True) -> tuple[Place, ...]:
        """Where the code at an offset in a section comes from."""
        number = self._numbers.get(section)
        return () if number is None else self._places(address_of(number, offset), exact=exact)

    def locate(self, address: int, sections: Mapping[str, int]) -> Location | None:
        """The section and offset of an address, by where the kernel put the sections."""
        for section in self._elf.sections:
            start = sections.get(section.name) if section.allocated else None
            if start and start <= address < start + section.size:
                return Location(section.name, address - start)
        return None

    def function_at(self, location: Location) -> Function | None:
        """The function whose code a location is in, as kallsyms would name it."""
        try:
            return self.functions.around(self._numbers[location.section], location.offset)
        except UsageError:
            return None

    def data_at(self, location: Location) -> Data | None:
        """The variable that a location is in; None where it is none, or the debug info is damaged."""
        try:
            number = self._numbers[location.section]
            found = variable_at(self._elf, number, location.offset)
            if found is None:
                return None
            to = function_in(self._elf, found)
            function = self.functions.around(*to) if to else None
            return Data(found.name, found.offset, self._declared(found.name), function)
        except _DAMAGED:
            return None

    def _declared(self, name: str) -> Place | None:
        for at in self._units if self.present else ():
            if declared := declared_in(self._code(at), name):
                return Place(name, *declared)
        return None

    def line_addresses(self) -> list[Location]:
        """Every address that a line table has a row for, in order."""
        found = {address for unit in self._units for address in self._code(unit).lines.addresses()}
        sections = self._elf.sections
        return [
            Location(sections[each >> SECTION_BITS].name, each & (1 << SECTION_BITS) - 1)
            for each in sorted(found)
        ]

    @cached_property
    def _sections(self) -> DebugSections:
        return DebugSections(self._elf)

    @cached_property
    def _units(self) -> list[int]:
        return [unit.at for unit in units(self._sections)]

    @cached_property
    def _ranges(self) -> list[tuple[tuple[int, int], int]]:
        """The ranges of all units that .debug_aranges has; gcc writes it, clang does not."""
        return list(unit_ranges(self._sections["aranges"]))

    def _places(self, address: int, *, exact: bool) -> tuple[Place, ...]:
        if not self.present:
            return ()
        try:
            return self._decoded(address - (not exact))
        except _DAMAGED:
            return ()

    def _decoded(self, address: int) -> tuple[Place, ...]:
        code = self._code_of(address)
        if code is None:
            return ()
        row = code.lines.row(address)
        chain = [(code.name(call) or "?", call) for call in code.chain(address)]
        if not chain:
            return self._between(code, row, address) if row else ()
        file, line, column = row or (0, 0, 0)
        found = []
        for name, call in chain:
            found.append(_place(code, name, file, line, column))
            file, line, column = call.file, call.line, call.column
        return tuple(found)

    def _between(self, code: Code, row: Row, address: int) -> tuple[Place, ...]:
        """A row for no function's code, as for what fills up to the next: it counts to the symbol before."""
        offset = address & (1 << SECTION_BITS) - 1
        function = self.functions.around(address >> SECTION_BITS, offset)
        return (_place(code, function.name if function else "?", *row),)

    def _code_of(self, address: int) -> Code | None:
        for (low, high), at in self._ranges:
            if low <= address < high:
                return self._code(at)
        listed = {at for _, at in self._ranges}
        for at in self._units:
            if at not in listed:
                code = self._code(at)
                if any(low <= address < high for low, high in code.unit.ranges(code.unit.top)):
                    return code
        return None

    def _code(self, at: int) -> Code:
        if at not in self._codes:
            self._codes[at] = Code(Unit(self._sections, at))
        return self._codes[at]


def _place(code: Code, name: str, file: int, line: int, column: int) -> Place:
    path = code.lines.files.get(file) if line else None
    return Place(name, path, line or None, column or None)
