"""How DWARF writes values: LEB128 numbers, attribute forms, abbreviations (DWARF 2 to 5, section 7.5). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Abbreviation", "Attribute", "Sizes", "abbreviations", "sleb", "uleb"]

SIBLING = 0x01  # DW_AT_sibling
IMPLICIT_CONST = 0x21

_FIXED = {
    0x0B: 1, 0x05: 2, 0x06: 4, 0x07: 8, 0x1E: 16,  # data1, 2, 4, 8, 16
    0x0C: 1, 0x19: 0, IMPLICIT_CONST: 0,  # flag, flag_present, implicit_const
    0x11: 1, 0x12: 2, 0x13: 4, 0x14: 8, 0x20: 8,  # ref1, 2, 4, 8, ref_sig8
    0x25: 1, 0x26: 2, 0x27: 3, 0x28: 4,  # strx1, 2, 3, 4
    0x29: 1, 0x2A: 2, 0x2B: 3, 0x2C: 4,  # addrx1, 2, 3, 4
}  # fmt: skip
"""DW_FORM_* -> bytes."""

_OFFSETS = {0x0E, 0x17, 0x1F, 0x1D}
"""strp, sec_offset, line_strp, strp_sup: 4 bytes, or 8 in 64-bit DWARF."""

ADDR, REF_ADDR = 0x01, 0x10


def uleb(data: bytes, at: int) -> tuple[int, int]:
    """The unsigned LEB128 number at an offset, and where it ends. Raises IndexError at the data's end."""
    byte = data[at]
    at += 1
    if byte < 0x80:
        return byte, at
    value, shift = byte & 0x7F, 7
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def sleb(data: bytes, at: int) -> tuple[int, int]:
    """The signed LEB128 number at an offset, and where it ends. Raises IndexError at the data's end."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return (value - (1 << shift) if byte & 0x40 else value), at


class Sizes(NamedTuple):
    """What a unit's header says of its fields: bytes of an address and of an offset, and the version."""

    address: int
    offset: int
    version: int

    def of(self, form: int) -> int | None:
        """The bytes of a form; None where each value says it."""
        if form in _OFFSETS:
            return self.offset
        if form == ADDR:
            return self.address
        if form == REF_ADDR:
            return self.address if self.version == 2 else self.offset
        return _FIXED.get(form)


class Attribute(NamedTuple):
    """DW_AT_* and DW_FORM_*, and the value of an implicit_const."""

    name: int
    form: int
    constant: int


@dataclass(frozen=True, slots=True)
class Abbreviation:
    """The shape of debugging entries: tag, whether children follow, attributes.

    `size` is the bytes of all attributes where that is fixed, `sibling` where a DW_AT_sibling is in them.
    """

    tag: int
    children: bool
    attributes: tuple[Attribute, ...]
    size: int | None
    sibling: int | None


def abbreviations(data: bytes, at: int, sizes: Sizes) -> dict[int, Abbreviation]:
    """The table at an offset of .debug_abbrev, by code."""
    table: dict[int, Abbreviation] = {}
    while at < len(data):
        code, at = uleb(data, at)
        if code == 0:
            break
        tag, at = uleb(data, at)
        children, at = data[at] != 0, at + 1
        attributes, at = _attributes(data, at)
        table[code] = _abbreviation(tag, children, attributes, sizes)
    return table


def _attributes(data: bytes, at: int) -> tuple[tuple[Attribute, ...], int]:
    found: list[Attribute] = []
    while True:
        name, at = uleb(data, at)
        form, at = uleb(data, at)
        constant = 0
        if form == IMPLICIT_CONST:
            constant, at = sleb(data, at)
        if name == form == 0:
            return tuple(found), at
        found.append(Attribute(name, form, constant))


def _abbreviation(
    tag: int, children: bool, attributes: tuple[Attribute, ...], sizes: Sizes
) -> Abbreviation:
    total: int | None = 0
    sibling = None
    for attribute in attributes:
        if attribute.name == SIBLING and attribute.form == 0x13:
            sibling = total
        size = sizes.of(attribute.form)
        total = total + size if total is not None and size is not None else None
    return Abbreviation(tag, children, attributes, total, sibling)
