"""Which function, and which calls inlined into it, an address belongs to. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from lkm.symbolize.lines import LineTable, line_table
from lkm.symbolize.ranges import Range
from lkm.symbolize.units import STMT_LIST, Entry, Unit

__all__ = ["Call", "Code"]

_SUBPROGRAM, _INLINED, _BLOCK = 0x2E, 0x1D, 0x0B
_NAMESPACES = {0x39, 0x1E}  # namespace, module: functions may be below them
_CALL_FILE, _CALL_LINE, _CALL_COLUMN = 0x58, 0x59, 0x57


@dataclass(frozen=True)
class Call:
    """A function, or a call inlined into one, and the code that belongs to it.

    `outer` is what it was inlined into, None for a function itself. `file` (the line table's number),
    `line` and `column` are where it was called.
    """

    at: int
    ranges: tuple[Range, ...]
    outer: Call | None = None
    file: int = 0
    line: int = 0
    column: int = 0


class Code:
    """The code of one unit: what is asked for is read, and kept."""

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        self._inlined: dict[int, list[Call]] = {}
        self._names: dict[int, str | None] = {}

    @cached_property
    def lines(self) -> LineTable:
        """The unit's line table; an empty one where it has none."""
        at = self.unit.top.value(STMT_LIST)
        if at is None:
            return LineTable({}, [])
        return line_table(self.unit.sections, at, self.unit.directory)

    @cached_property
    def functions(self) -> list[Call]:
        """Every function of the unit that has code."""
        return list(self._functions(self.unit.root))

    def _functions(self, below: int) -> Iterator[Call]:
        for at, tag, children in self.unit.children(below):
            if tag == _SUBPROGRAM:
                if ranges := self.unit.ranges(self.unit.entry(at)):
                    yield Call(at, tuple(ranges))
            elif children and tag in _NAMESPACES:
                yield from self._functions(at)

    def chain(self, address: int) -> list[Call]:
        """The calls that an address belongs to, the innermost first, the function itself last.

        The innermost is what has the smallest range around it, as in binutils' addr2line (bfd/dwarf2.c).
        """
        found = [call for call in self.functions if _width(call, address)]
        if not found:
            return []
        function = min(found, key=lambda call: (_width(call, address), -call.at))
        inner = [call for call in self._calls_in(function) if _width(call, address)]
        call: Call | None = min(
            [function, *inner], key=lambda call: (_width(call, address), -call.at)
        )
        chain = []
        while call:
            chain.append(call)
            call = call.outer
        return chain

    def name(self, call: Call) -> str | None:
        """The function's name in the source."""
        if call.at not in self._names:
            self._names[call.at] = self.unit.name(self.unit.entry(call.at))
        return self._names[call.at]

    def _calls_in(self, function: Call) -> list[Call]:
        if function.at not in self._inlined:
            self._inlined[function.at] = list(self._inlined_below(function.at, function))
        return self._inlined[function.at]

    def _inlined_below(self, at: int, outer: Call) -> Iterator[Call]:
        for child, tag, children in self.unit.children(at):
            inside = outer
            if tag == _INLINED:
                inside = self._call(self.unit.entry(child), outer)
                yield inside
            elif tag != _BLOCK:
                continue
            if children:
                yield from self._inlined_below(child, inside)

    def _call(self, entry: Entry, outer: Call) -> Call:
        return Call(
            entry.at,
            tuple(self.unit.ranges(entry)),
            outer,
            entry.value(_CALL_FILE) or 0,
            entry.value(_CALL_LINE) or 0,
            entry.value(_CALL_COLUMN) or 0,
        )


def _width(call: Call, address: int) -> int:
    """The size of the call's smallest range around an address; 0 where none is."""
    sizes = [high - low for low, high in call.ranges if low <= address < high]
    return min(sizes, default=0)
