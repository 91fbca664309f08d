"""The units of .debug_info and the entries in them (DWARF 2 to 5), as far as functions and inlined calls go.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

from lkm.symbolize.forms import Abbreviation, Sizes, abbreviations, sleb, uleb
from lkm.symbolize.ranges import Range, ranges_at, ranges_indexed
from lkm.symbolize.sections import DebugSections

__all__ = ["Entry", "Unit", "units"]

NAME, LOW_PC, HIGH_PC, COMP_DIR, STMT_LIST = 0x03, 0x11, 0x12, 0x1B, 0x10
ABSTRACT_ORIGIN, SPECIFICATION, RANGES = 0x31, 0x47, 0x55
STR_OFFSETS_BASE, ADDR_BASE, RNGLISTS_BASE = 0x72, 0x73, 0x74

_STRINGS = {0x0E: "str", 0x1F: "line_str"}
_REFERENCES = {0x11, 0x12, 0x13, 0x14, 0x15}
_STRX = {0x1A, 0x25, 0x26, 0x27, 0x28}
_ADDRX = {0x1B, 0x29, 0x2A, 0x2B, 0x2C}
_RNGLISTX = 0x23
_SEC_OFFSET = 0x17
_ADDR = 0x01
_BLOCKS = {0x0A: 1, 0x03: 2, 0x04: 4}


class Entry:
    """A debugging information entry: its tag and attributes by DW_AT_*, as (form, value)."""

    __slots__ = ("abbreviation", "at", "attributes", "body_end")

    def __init__(
        self, at: int, abbreviation: Abbreviation, attributes: dict[int, tuple[int, Any]], end: int
    ) -> None:
        self.at = at
        self.abbreviation = abbreviation
        self.attributes = attributes
        self.body_end = end

    def value(self, name: int) -> Any:
        """The attribute's value as it is in the file, relocated; None without one."""
        found = self.attributes.get(name)
        return found[1] if found else None


class Unit:
    """One unit of .debug_info; `at` and `end` are offsets there."""

    def __init__(self, sections: DebugSections, at: int) -> None:
        self.sections = sections
        self.at = at
        self.area = sections["info"]
        length, wide, body = _length(sections, at)
        self.end = body + length
        offset = 8 if wide else 4
        version = self.area.number(body, 2)
        if not 2 <= version <= 5:
            raise ValueError(f"DWARF {version}")
        if version >= 5:
            kind, address, where = self.area.data[body + 2], self.area.data[body + 3], body + 4
            # DW_UT_type and its like carry more; a compile unit (1) or a partial one (3) does not.
            self.root = where + offset + {2: 8 + offset, 4: 8, 5: 8, 6: 8 + offset}.get(kind, 0)
        else:
            where, address = body + 2, self.area.data[body + 2 + offset]
            self.root = where + offset + 1
        self.sizes = Sizes(address, offset, version)
        self._abbreviations_at = self.area.address(where, offset)

    @cached_property
    def _table(self) -> dict[int, Abbreviation]:
        data = self.sections["abbrev"].data
        return abbreviations(data, self._abbreviations_at, self.sizes)

    @cached_property
    def top(self) -> Entry:
        """The unit's own entry."""
        return self.entry(self.root)

    @cached_property
    def directory(self) -> str:
        """Where the compiler ran: DW_AT_comp_dir."""
        return self.text(self.top, COMP_DIR) or ""

    def entry(self, at: int) -> Entry:
        """The entry at an offset. Raises KeyError where there is none."""
        code, body = uleb(self.area.data, at)
        abbreviation = self._table[code]
        found = {}
        for name, form, constant in abbreviation.attributes:
            value, body = self._value(form, body, constant)
            found[name] = (form, value)
        return Entry(at, abbreviation, found, body)

    def children(self, of: int) -> Iterator[tuple[int, int, bool]]:
        """(offset, tag, whether it has children) of the entries directly below the one at `of`.

        Their attributes are passed over: of the thousands of types in a unit nothing else is read.
        """
        code, body = uleb(self.area.data, of)
        if not self._table[code].children:
            return
        at = self._past(self._table[code], body)
        data, table, end, start = self.area.data, self._table, self.end, self.at
        while at < end:
            code, body = uleb(data, at)
            if code == 0:
                return
            found = table[code]
            yield at, found.tag, found.children
            if not found.children:
                at = body + found.size if found.size is not None else self._past(found, body)
                continue
            after = None
            if found.sibling is not None:
                after = start + self.area.number(body + found.sibling, 4)
            at = after if after and after > at else self._past_tree(self._past(found, body))

    def _past_tree(self, at: int) -> int:
        """Where the children that begin here, and theirs, end."""
        depth = 1
        while depth and at < self.end:
            code, at = uleb(self.area.data, at)
            if code == 0:
                depth -= 1
            else:
                at = self._past(self._table[code], at)
                depth += self._table[code].children
        return at

    def _past(self, abbreviation: Abbreviation, at: int) -> int:
        if abbreviation.size is not None:
            return at + abbreviation.size
        for _, form, constant in abbreviation.attributes:
            size = self.sizes.of(form)
            at = at + size if size is not None else self._value(form, at, constant)[1]
        return at

    def _value(self, form: int, at: int, constant: int) -> tuple[Any, int]:
        """An attribute's value, relocated, and where it ends."""
        if (size := self.sizes.of(form)) is not None:
            return self._fixed(form, at, size, constant), at + size
        data = self.area.data
        if form == 0x0D:  # sdata
            return sleb(data, at)
        if form == 0x08:  # string
            return self.area.string(at), data.index(b"\0", at) + 1
        if form == 0x16:  # indirect
            form, at = uleb(data, at)
            return self._value(form, at, 0)
        if form in (0x09, 0x18):  # block, exprloc
            length, at = uleb(data, at)
            return None, at + length
        if form in _BLOCKS:
            return None, at + _BLOCKS[form] + self.area.number(at, _BLOCKS[form])
        if form in (0x0F, 0x15, 0x1A, 0x1B, 0x22, 0x23):  # udata, ref_udata, strx, addrx, lists
            value, at = uleb(data, at)
            return (value + self.at if form == 0x15 else value), at
        raise ValueError(f"DW_FORM {form:#x}")

    def _fixed(self, form: int, at: int, size: int, constant: int) -> Any:
        if size == 0:
            return constant if form == 0x21 else 1
        if form in _REFERENCES:
            return self.at + self.area.number(at, size)
        if size in (4, 8):
            return self.area.address(at, size)
        return self.area.number(at, size)

    # What attributes mean.

    def text(self, entry: Entry, name: int) -> str | None:
        """An attribute that is a string; None without one."""
        if name not in entry.attributes:
            return None
        form, value = entry.attributes[name]
        if isinstance(value, str):
            return value
        if form in _STRX:
            base = self.top.value(STR_OFFSETS_BASE) or 8
            at = base + value * self.sizes.offset
            value, form = self.sections["str_offsets"].address(at, self.sizes.offset), 0x0E
        return self.sections[_STRINGS[form]].string(value) if form in _STRINGS else None

    def address(self, entry: Entry, name: int) -> int | None:
        """An attribute that is an address; None without one, and for one that no section has."""
        if name not in entry.attributes:
            return None
        form, value = entry.attributes[name]
        return self._indexed(value) if form in _ADDRX else int(value)

    def _indexed(self, index: int) -> int:
        base = self.top.value(ADDR_BASE) or 8
        size = self.sizes.address
        return self.sections["addr"].address(base + index * size, size)

    def ranges(self, entry: Entry) -> list[Range]:
        """The addresses that belong to an entry, as [from, to); none for one that is only declared."""
        if RANGES in entry.attributes:
            form, value = entry.attributes[RANGES]
            base = self.address(self.top, LOW_PC) or 0
            if form == _RNGLISTX:
                lists = self.top.value(RNGLISTS_BASE) or 12
                return ranges_indexed(self.sections, self.sizes, lists, value, base, self._indexed)
            return ranges_at(self.sections, self.sizes, value, base, self._indexed)
        low = self.address(entry, LOW_PC)
        if low is None or HIGH_PC not in entry.attributes:
            return []
        form, high = entry.attributes[HIGH_PC]
        if form in _ADDRX:
            high = self._indexed(high)
        return [(low, high if form == _ADDR or form in _ADDRX else low + high)]

    def name(self, entry: Entry, depth: int = 8) -> str | None:
        """The name in the source, of the entry or of the one that it is an instance of."""
        if (text := self.text(entry, NAME)) is not None:
            return text
        for name in (ABSTRACT_ORIGIN, SPECIFICATION):
            if name in entry.attributes and depth:
                unit, other = self._entry_at(entry.attributes[name][1])
                return unit.name(other, depth - 1)
        return None

    def _entry_at(self, at: int) -> tuple[Unit, Entry]:
        """An entry by its place in .debug_info, which may be in another unit (LTO)."""
        if self.at < at < self.end:
            return self, self.entry(at)
        unit = next(unit for unit in units(self.sections) if unit.at < at < unit.end)
        return unit, unit.entry(at)


def units(sections: DebugSections) -> Iterator[Unit]:
    """The units of .debug_info, in its order."""
    at, size = 0, len(sections["info"].data)
    while at < size:
        unit = Unit(sections, at)
        yield unit
        at = max(unit.end, at + 4)


def _length(sections: DebugSections, at: int) -> tuple[int, bool, int]:
    """A unit's length, whether it is 64-bit DWARF, and where what it counts begins."""
    area = sections["info"]
    length = area.number(at, 4)
    if length == 0xFFFFFFFF:
        return area.number(at + 4, 8), True, at + 12
    return length, False, at + 4
