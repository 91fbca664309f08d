"""The debug sections of a relocatable object: decompressed, and relocated field by field. Pure.

Every section of a `.ko` starts at address 0, so an address alone says nothing. Here each section that the
kernel keeps in memory has a base of its own, its number times 2^40, and `address` is a base plus an offset;
values that refer to debug sections are plain offsets.
"""

from __future__ import annotations

import sys
import zlib
from array import array
from collections.abc import Mapping
from struct import Struct
from typing import Literal

from lkm.errors import UsageError
from lkm.ko.elf import SHN_UNDEF, SHT_RELA, SHT_SYMTAB, Elf, Section, malformed

__all__ = ["SECTION_BITS", "Area", "DebugSections", "address_of"]

SECTION_BITS = 40
"""A section's base is its number shifted by so much; no module has sections of a terabyte."""

_COMPRESSED = 0x800  # SHF_COMPRESSED
_ZLIB, _ZSTD = 1, 2  # ch_type of Elf64_Chdr
_LIMIT = 256 << 20
"""Bytes of one debug section."""

_ABSOLUTE = {"EM_X86_64": {1, 10, 11}, "EM_AARCH64": {257, 258}}
"""R_X86_64_64, _32 and _32S; R_AARCH64_ABS64 and _ABS32: symbol plus addend, in 8 or 4 bytes."""


def address_of(section: int, offset: int) -> int:
    """The address that stands for an offset in a section, by its number."""
    return (section << SECTION_BITS) + offset


class Area:
    """One debug section: its `data`, and what the linker would have put into the fields that it relocates."""

    def __init__(self, data: bytes, order: str, fields: Mapping[int, tuple[int, int]],
                 symbols: _Values) -> None:  # fmt: skip
        self.data = data
        self._order: Literal["little", "big"] = "little" if order == "<" else "big"
        self._fields = fields
        self._symbols = symbols

    def number(self, at: int, size: int) -> int:
        """The unsigned integer of `size` bytes at an offset, as it is in the file."""
        return int.from_bytes(self.data[at : at + size], self._order)

    def address(self, at: int, size: int) -> int:
        """The same, relocated where a relocation is for it."""
        if (field := self._fields.get(at)) is None:
            return self.number(at, size)
        info, addend = field
        return self._symbols.value(info) + addend

    def string(self, at: int) -> str:
        """The NUL-terminated string at an offset."""
        return self.data[at : self.data.index(b"\0", at)].decode("utf-8", "backslashreplace")


class _Values:
    """What the symbols of relocations stand for."""

    def __init__(self, elf: Elf) -> None:
        self._table = b""
        self._kinds = _ABSOLUTE.get(elf.machine, set())
        self._entry = Struct(elf.order + "IBBHQQ")
        self._memory = {section.number for section in elf.sections if section.allocated}
        for section in elf.sections:
            if section.type == SHT_SYMTAB:
                self._table = elf.content(section)

    def value(self, info: int) -> int:
        """A relocation's symbol: base plus value. Raises ValueError for a kind that is not known here."""
        if info & 0xFFFFFFFF not in self._kinds:
            raise ValueError(f"relocation {info & 0xFFFFFFFF}")
        _, _, _, section, value, _ = self._entry.unpack_from(self._table, (info >> 32) * 24)
        if section == SHN_UNDEF:
            raise ValueError("debug info refers to another object")
        return address_of(section, value) if section in self._memory else value


class DebugSections:
    """The debug sections of a 64-bit object, each read when it is first asked for."""

    def __init__(self, elf: Elf) -> None:
        self._elf = elf
        self._symbols = _Values(elf)
        self._areas: dict[str, Area] = {}

    def __getitem__(self, name: str) -> Area:
        """The section `.debug_NAME`; an empty one where there is none. Raises UsageError for a damaged one."""
        if name not in self._areas:
            self._areas[name] = self._read(name)
        return self._areas[name]

    def _read(self, name: str) -> Area:
        elf = self._elf
        if section := elf.section(f".debug_{name}"):
            data = elf.content(section)
            if section.flags & _COMPRESSED:
                data = _decompress(elf, section, data)
        elif section := elf.section(f".zdebug_{name}"):
            data = elf.content(section)  # of binutils before 2.26: "ZLIB", the size in 8 bytes
            data = _inflate(elf, section, data[12:], int.from_bytes(data[4:12], "big"))
        else:
            return Area(b"", elf.order, {}, self._symbols)
        return Area(data, elf.order, self._relocations(section), self._symbols)

    def _relocations(self, section: Section) -> dict[int, tuple[int, int]]:
        """offset -> r_info and addend; by whole columns, for there are ten thousands."""
        found: dict[int, tuple[int, int]] = {}
        for table in self._elf.sections:
            if table.type == SHT_RELA and table.info == section.number:
                content = self._elf.content(table)
                content = content[: len(content) // 24 * 24]
                unsigned, signed = array("Q", content), array("q", content)
                if (self._elf.order == "<") != (sys.byteorder == "little"):
                    unsigned.byteswap()
                    signed.byteswap()
                found.update(
                    zip(unsigned[0::3], zip(unsigned[1::3], signed[2::3], strict=True), strict=True)
                )
        return found


def _decompress(elf: Elf, section: Section, data: bytes) -> bytes:
    kind, _, size, _ = Struct(elf.order + "IIQQ").unpack_from(data)
    if kind == _ZLIB:
        return _inflate(elf, section, data[24:], size)
    if kind != _ZSTD or size > _LIMIT:
        raise malformed(elf.name, f"{section.name} is compressed in a way that is not known")
    import zstandard

    try:
        return zstandard.ZstdDecompressor().decompress(data[24:], max_output_size=size)
    except zstandard.ZstdError as error:
        raise malformed(elf.name, f"{section.name}: zstd says {error}") from error


def _inflate(elf: Elf, section: Section, data: bytes, size: int) -> bytes:
    try:
        found = zlib.decompressobj().decompress(data, min(size, _LIMIT) or 1)
    except zlib.error as error:
        raise malformed(elf.name, f"{section.name}: zlib says {error}") from error
    if len(found) != size:
        raise UsageError(f"{elf.name} is damaged: {section.name} does not unpack to {size} bytes")
    return found
