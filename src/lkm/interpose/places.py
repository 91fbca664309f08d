"""Where in the source the code of an object comes from: file and line, by its debug info."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from lkm.ko.elf import read_elf
from lkm.symbolize import DebugInfo, Place

__all__ = ["Places"]


class Places:
    """The lines of one `.ko` with debug info. Nothing is read before it is asked for."""

    def __init__(self, data: bytes, name: str) -> None:
        """Raises UsageError for data that is no object."""
        self._elf = read_elf(data, name)
        self._info = DebugInfo(data, name)

    def at(self, section: str, offset: int) -> tuple[str, int] | None:
        """(file, line) of an offset in a section; None where the debug info does not say."""
        return _users(self._info.places_at(section, offset))

    def of(self, function: str, offset: int) -> tuple[str, int] | None:
        """The same of the call that returns to `function+offset`."""
        return _users(self._info.places(function, offset, exact=False))

    def where(self, function: str, offset: int) -> tuple[str, int] | None:
        """(section, offset) of `function+offset`."""
        place = self._functions.get(function)
        return (place[0], place[1] + offset) if place else None

    def function_at(self, section: str, offset: int) -> str | None:
        """The function whose code an offset of a section is in."""
        around = [(start, name) for name, (of, start) in self._functions.items() if of == section]
        return max((each for each in around if each[0] <= offset), default=(0, None))[1]

    @cached_property
    def _functions(self) -> dict[str, tuple[str, int]]:
        sections = self._elf.sections
        found: dict[str, tuple[str, int]] = {}
        for symbol in self._elf.symbols:
            if symbol.name and 0 < symbol.section < len(sections):
                section = sections[symbol.section]
                if section.flags & 4 and not symbol.name.startswith((".L", "__pfx_")):
                    found.setdefault(symbol.name, (section.name, symbol.value))
        return found


def _users(places: Sequence[Place]) -> tuple[str, int] | None:
    """Of a call and those that it is inlined into the innermost outside headers: there the user called."""
    known = [(place.file, place.line) for place in places if place.file and place.line]
    source = next((place for place in known if not place[0].endswith(".h")), None)
    return source or (known[-1] if known else None)
