"""A module's bytes as the kernel's loader reads them: nothing is believed that it does not check.

`lkm.ko` refuses what is not a kernel object; here damaged ones are looked at with the loader's eyes, so that
it can be said where exactly it stops. Layouts are those of elf(5) for 64-bit little-endian kernels. Pure.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import NamedTuple

from lkm.loadcheck.changes import EXPORTS_IN_ONE_TABLE, STRUCT_CHECKED, Version

__all__ = [
    "EHDR_SIZE",
    "SHDR_SIZE",
    "SHF_ALLOC",
    "SHT_NOBITS",
    "SHT_NULL",
    "SHT_REL",
    "SHT_RELA",
    "SHT_STRTAB",
    "SHT_SYMTAB",
    "Header",
    "Image",
    "Section",
    "Symbol",
]

SHT_NULL, SHT_SYMTAB, SHT_STRTAB, SHT_RELA, SHT_NOBITS, SHT_REL = 0, 2, 3, 4, 8, 9
SHF_ALLOC = 2

_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_SHDR = struct.Struct("<IIQQQQIIQQ")
_SYM = struct.Struct("<IBBHQQ")
_RELA = struct.Struct("<QQq")
_VERSION = struct.Struct("<Q56s")
EHDR_SIZE, SHDR_SIZE = _EHDR.size, _SHDR.size

TEXT_MOST = 1024
"""Bytes of a name that are looked at: KSYM_NAME_LEN is 512 at most (include/linux/kallsyms.h, 6.1), a log line
less than 1024."""

_MODINFO_MOST = 1 << 20
"""Bytes of .modinfo that are looked at: the longest tables of aliases have a tenth of that."""

_NAME_AT = 24
_NAME_SIZE = 56
"""Where `name` is in struct module (include/linux/module.h), and MODULE_NAME_LEN."""


class Header(NamedTuple):
    """The fields of the ELF header that the loader looks at."""

    magic: bytes
    type: int
    machine: int
    shoff: int
    shentsize: int
    shnum: int
    shstrndx: int


class Section(NamedTuple):
    """A section header, unchecked. `name_at` is an offset in the table of names."""

    name_at: int
    type: int
    flags: int
    addr: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entsize: int


class Symbol(NamedTuple):
    """A row of the symbol table. `section` is a section's index or one of the reserved ones."""

    name: str
    section: int
    value: int
    weak: bool


@dataclass(frozen=True)
class Image:
    """The bytes of a module without its signature, for a kernel of `version`.

    What the loader checks before it uses something must hold before it is asked for here.
    """

    data: bytes = field(repr=False)
    version: Version = (6, 12)

    @cached_property
    def header(self) -> Header:
        """The ELF header; there must be EHDR_SIZE bytes."""
        ident, kind, machine, _, _, _, shoff, _, _, _, _, size, count, names = _EHDR.unpack_from(
            self.data
        )
        return Header(ident[:4], kind, machine, shoff, size, count, names)

    @cached_property
    def sections(self) -> tuple[Section, ...]:
        """All section headers; the table must be within the file."""
        start = self.header.shoff
        table = memoryview(self.data)[start : start + self.header.shnum * SHDR_SIZE]
        return tuple(Section(*row) for row in _SHDR.iter_unpack(table))

    @cached_property
    def section_names(self) -> tuple[str, ...]:
        """The name of each section; the table of names must be valid."""
        start = self.sections[self.header.shstrndx].offset
        return tuple(self.text_at(start + section.name_at) for section in self.sections)

    def text_at(self, offset: int) -> str:
        """The C string there, as far as the file goes and TEXT_MOST allows."""
        most = offset + TEXT_MOST
        end = self.data.find(b"\0", offset, most)
        raw = self.data[offset : end if end >= 0 else most]
        return raw.decode("utf-8", "backslashreplace")

    def content(self, index: int) -> memoryview:
        """The bytes where a section is said to be, whatever its type is, as far as the file goes."""
        section = self.sections[index]
        return memoryview(self.data)[section.offset : section.offset + section.size]

    def named(self, name: str, *, allocated: bool = True) -> int:
        """The first section of that name, as find_sec() and find_any_sec() find it; 0 where there is none."""
        for index, found in enumerate(self.section_names):
            kept = not allocated or self.sections[index].flags & SHF_ALLOC
            if index and kept and found == name:
                return index
        return 0

    def of_type(self, kind: int) -> list[int]:
        """The sections of a type, but for the first one of the table."""
        return [i for i, section in enumerate(self.sections) if i and section.type == kind]

    @cached_property
    def modinfo(self) -> tuple[tuple[str, str], ...]:
        """The pairs of .modinfo in their order: get_next_modinfo() of kernel/module/main.c."""
        index = self.named(".modinfo", allocated=not STRUCT_CHECKED.is_in(self.version))
        if not index:
            return ()
        section = self.sections[index]
        # The last string may lack its NUL; the loader reads on to the next one.
        end = self.data.find(b"\0", max(section.offset + section.size - 1, section.offset))
        raw = self.data[section.offset : end if end >= 0 else len(self.data)][:_MODINFO_MOST]
        words = raw.decode("utf-8", "backslashreplace").split("\0") if section.size else []
        pairs = (word.partition("=") for word in words)
        return tuple((key, value) for key, equals, value in pairs if equals)

    def first(self, key: str) -> str | None:
        """The first value of that key, or None."""
        return next((value for tag, value in self.modinfo if tag == key), None)

    @cached_property
    def struct_name(self) -> str:
        """`name` of struct module, which is what the module will be called."""
        section = self.sections[self.named(".gnu.linkonce.this_module")]
        start = section.offset + _NAME_AT
        raw = self.data[start : start + _NAME_SIZE].partition(b"\0")[0]
        return raw.decode("utf-8", "backslashreplace")

    @property
    def name(self) -> str:
        """What the loader's early messages call the module: modinfo's name, else the structure's."""
        return self.first("name") or self.struct_name

    def symbols(self) -> Iterator[Symbol]:
        """The symbol table without its first row, but for those that are defined in a section."""
        strings = self.sections[self.sections[self.of_type(SHT_SYMTAB)[0]].link].offset
        sections = len(self.sections)
        for name, info, _, section, value, _ in islice(self._symbol_rows(), 1, None):
            if not 0 < section < sections:
                yield Symbol(self.text_at(strings + name), section, value, info >> 4 == 2)

    def symbol_at(self, row: int) -> tuple[int, int]:
        """(section, value) of a row of the symbol table, which must have it."""
        _, _, _, section, value, _ = _SYM.unpack_from(self._symbol_table, row * _SYM.size)
        return section, value

    def symbol_name_offsets(self) -> Iterator[int]:
        """Where in the table of names each row's name is, the first row's too."""
        return (row[0] for row in self._symbol_rows())

    @property
    def symbol_count(self) -> int:
        """The rows of the symbol table, the first one too."""
        return len(self._symbol_table) // _SYM.size

    @cached_property
    def _symbol_table(self) -> memoryview:
        return self.content(self.of_type(SHT_SYMTAB)[0])

    def _symbol_rows(self) -> Iterator[tuple[int, ...]]:
        return _rows(_SYM, self._symbol_table)

    def relocations(self, index: int) -> Iterator[tuple[int, ...]]:
        """(offset, info, addend) of each row of a RELA section."""
        return _rows(_RELA, self.content(index))

    @cached_property
    def versions(self) -> dict[str, int] | None:
        """symbol -> CRC of struct modversion_info, unsigned long; None without the section."""
        index = self.named("__versions")
        if not index:
            return None
        start = self.sections[index].offset
        found: dict[str, int] = {}
        for row, (crc, _) in enumerate(_rows(_VERSION, self.content(index))):
            # strcmp() reads on where the array has no NUL.
            found.setdefault(self.text_at(start + row * _VERSION.size + 8), crc)
        return found

    @cached_property
    def extended_versions(self) -> dict[str, int] | None:
        """The same from __version_ext_crcs and __version_ext_names (6.14 and later)."""
        crcs, names = self.named("__version_ext_crcs"), self.named("__version_ext_names")
        if not crcs or not names:
            return None
        words = bytes(self.content(names)).decode("utf-8", "backslashreplace").split("\0")
        numbers = [crc for (crc,) in _rows(struct.Struct("<I"), self.content(crcs))]
        return dict(reversed(list(zip(words, numbers, strict=False))))

    @cached_property
    def exports(self) -> tuple[str, ...]:
        """The names that it exports, in the order in which the loader looks at them."""
        one = EXPORTS_IN_ONE_TABLE.is_in(self.version)
        tables = ("__ksymtab",) if one else ("__ksymtab", "__ksymtab_gpl")
        return tuple(name for table in tables for name in self._exports_of(table))

    def _exports_of(self, table: str) -> Iterator[str]:
        """struct kernel_symbol is three PC-relative words: value, name, namespace."""
        index = self.named(table)
        if not index:
            return
        names = {
            offset: (info >> 32, addend)
            for each in self.of_type(SHT_RELA)
            if self.sections[each].info == index
            for offset, info, addend in self.relocations(each)
        }
        for entry in range(0, self.sections[index].size - 11, 12):
            symbol, addend = names.get(entry + 4, (0, 0))
            if 0 < symbol < self.symbol_count:
                section, value = self.symbol_at(symbol)
                if section < len(self.sections):
                    yield self.text_at(self.sections[section].offset + value + addend)


def _rows(layout: struct.Struct, table: memoryview) -> Iterator[tuple[int, ...]]:
    return layout.iter_unpack(table[: len(table) - len(table) % layout.size])
