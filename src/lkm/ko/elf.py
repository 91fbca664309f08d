"""Relocatable ELF objects, read with the checks that the kernel's loader makes. Pure.

Sections, symbols and the pointers in initial data, as elf(5) and <linux/elf.h> lay them out. Names that
repeat, sizes that lie and links that lead nowhere end in a UsageError that says which; nothing is
read beyond the bytes given, and no work is done that the size of the file does not bound.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Literal, NamedTuple, overload

from lkm.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Elf", "Place", "Section", "Symbol", "Symbols", "malformed", "read_elf"]

SHT_NULL = 0
SHT_SYMTAB = 2
SHT_RELA = 4
SHT_NOBITS = 8
SHF_ALLOC = 2
SHN_UNDEF = 0
SHN_ABS = 0xFFF1
SHN_XINDEX = 0xFFFF
ET_REL = 1
STB_WEAK = 2

_KINDS = {0: "no type", 2: "an executable", 3: "a shared object", 4: "a core dump"}

_MACHINES = {
    3: "EM_386",
    8: "EM_MIPS",
    20: "EM_PPC",
    21: "EM_PPC64",
    22: "EM_S390",
    40: "EM_ARM",
    43: "EM_SPARCV9",
    62: "EM_X86_64",
    183: "EM_AARCH64",
    243: "EM_RISCV",
    258: "EM_LOONGARCH",
}

_ONLY_BITS = {"EM_386": 32, "EM_PPC": 32, "EM_ARM": 32, "EM_PPC64": 64, "EM_SPARCV9": 64,
              "EM_X86_64": 64, "EM_AARCH64": 64}  # fmt: skip

_ONLY_ORDER = {"EM_386": "<", "EM_X86_64": "<", "EM_S390": ">", "EM_SPARCV9": ">"}

_ABSOLUTE_64 = {"EM_X86_64": 1, "EM_AARCH64": 257, "EM_RISCV": 2}
"""R_X86_64_64, R_AARCH64_ABS64, R_RISCV_64: the relocations that a pointer in data has."""

_NAME_LIMIT = 1024
"""Bytes of a name; the kernel's own limit for a symbol, KSYM_NAME_LEN, is 512."""


_MOST_NAMED = 1 << 16
"""Symbols that are read by name in one go; Debian's modules have 1231, and a kernel exports fewer than this."""


class Section(NamedTuple):
    """One section header. `number` is its index, `size` is in bytes, none of them in the file for NOBITS."""

    number: int
    name: str
    type: int
    flags: int
    offset: int
    size: int
    link: int
    info: int

    @property
    def allocated(self) -> bool:
        """Whether the kernel keeps the section in memory."""
        return bool(self.flags & SHF_ALLOC)


class Symbol(NamedTuple):
    """One symbol. `section` is a section's index, or SHN_UNDEF, SHN_ABS, SHN_COMMON."""

    name: str
    section: int
    value: int
    size: int
    weak: bool


class Place(NamedTuple):
    """What a pointer in initial data points to: an offset in a section, or an undefined `symbol`."""

    section: int
    offset: int
    symbol: str = ""


_SYMBOL = {64: ("IBBHQQ", (0, 1, 3, 4, 5)), 32: ("IIIBBH", (0, 3, 5, 1, 2))}
"""bits -> the layout of a row, and which of its fields are name, info, section, value and size."""


class Symbols(Sequence[Symbol]):
    """A symbol table, of which rows are read when they are asked for: most of a large one is never needed."""

    def __init__(self, file: str, table: bytes, strings: bytes, order: str, bits: int) -> None:
        layout, self._fields = _SYMBOL[bits]
        self._entry = struct.Struct(order + layout)
        self._file = file
        self._table = memoryview(table)[: len(table) - len(table) % self._entry.size]
        self._strings = strings

    def __len__(self) -> int:
        return len(self._table) // self._entry.size

    @overload
    def __getitem__(self, index: int) -> Symbol: ...
    @overload
    def __getitem__(self, index: slice) -> list[Symbol]: ...
    def __getitem__(self, index: int | slice) -> Symbol | list[Symbol]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        row = self._entry.unpack_from(self._table, range(len(self))[index] * self._entry.size)
        name, info, section, value, size = (row[field] for field in self._fields)
        return Symbol(self._name(name), section, value, size, info >> 4 == STB_WEAK)

    def undefined(self) -> list[Symbol]:
        """Those that another object has to define, in the table's order. Raises UsageError for too many."""
        name, _, section, _, _ = self._fields
        rows = enumerate(self._entry.iter_unpack(self._table))
        found = (n for n, row in rows if n and row[section] == SHN_UNDEF and row[name])
        return [each for each in self._read(found) if each.name]

    def defined(self, *starts: bytes) -> list[Symbol]:
        """Those defined here whose names start so, in the table's order. Raises UsageError for too many."""
        name, _, section, _, _ = self._fields
        rows = enumerate(self._entry.iter_unpack(self._table))
        known = self._strings.startswith
        found = (n for n, row in rows if row[section] != SHN_UNDEF and known(starts, row[name]))
        return self._read(found)

    def _read(self, numbers: Iterator[int]) -> list[Symbol]:
        some = list(islice(numbers, _MOST_NAMED + 1))
        if len(some) > _MOST_NAMED:
            raise malformed(self._file, f"it names more than {_MOST_NAMED} symbols")
        return [self[number] for number in some]

    def _name(self, at: int) -> str:
        end = self._strings.find(b"\0", at, at + _NAME_LIMIT)
        if end < 0:
            raise malformed(self._file, "the name of a symbol is outside its string table")
        return self._strings[at:end].decode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class Elf:
    """A relocatable object in memory. `bits` is 32 or 64, `machine` as elf.h has it (`EM_X86_64`)."""

    name: str
    data: bytes = field(repr=False)
    bits: int
    order: str
    machine: str
    sections: tuple[Section, ...] = field(repr=False)

    def section(self, name: str) -> Section | None:
        """The first section of that name; None where there is none."""
        return next((section for section in self.sections if section.name == name), None)

    def content(self, section: Section) -> bytes:
        """The section's bytes in the file; empty for SHT_NOBITS and SHT_NULL."""
        if section.type in (SHT_NULL, SHT_NOBITS):
            return b""
        return self.data[section.offset : section.offset + section.size]

    @cached_property
    def symbols(self) -> Symbols:
        """The symbol table, the null symbol first. Raises UsageError where there is not exactly one."""
        tables = [section for section in self.sections if section.type == SHT_SYMTAB]
        if not tables:
            raise UsageError(
                f"{self.name} has no symbol table: the kernel cannot link it",
                hint="strip a module with --strip-debug only, or build it again",
            )
        if len(tables) > 1 or tables[0].link >= len(self.sections):
            raise malformed(self.name, "its symbol table is ambiguous or without names")
        strings = self.content(self.sections[tables[0].link])
        return Symbols(self.name, self.content(tables[0]), strings, self.order, self.bits)

    def _rows(self, table: bytes, layout: str) -> Iterator[tuple[int, ...]]:
        entry = struct.Struct(self.order + layout)
        return entry.iter_unpack(memoryview(table)[: len(table) - len(table) % entry.size])

    # Initial data. Only 64-bit layouts are read: 32-bit objects keep their addends in place (REL).

    @cached_property
    def _relocations(self) -> dict[int, dict[int, int]]:
        return {}

    @cached_property
    def _relocation_tables(self) -> dict[int, list[Section]]:
        found: dict[int, list[Section]] = {}
        for table in self.sections:
            if table.type == SHT_RELA and self.bits == 64:
                found.setdefault(table.info, []).append(table)
        return found

    def _relocations_of(self, section: int) -> dict[int, int]:
        """offset in a section -> where in the file its Elf64_Rela is; read once, when first asked for."""
        if section not in self._relocations:
            found: dict[int, int] = {}
            for table in self._relocation_tables.get(section, ()):
                rows = enumerate(self._rows(self.content(table), "Q16x"))
                found |= {offset: table.offset + 24 * number for number, (offset,) in rows}
            self._relocations[section] = found
        return self._relocations[section]

    def pointer(self, place: Place) -> Place | None:
        """What the pointer at `place` will point to; None for NULL.

        Raises UsageError for a pointer that is made by another relocation than the machine's plain one.
        """
        row = self._relocations_of(place.section).get(place.offset)
        if row is None:
            return None
        info, addend = struct.unpack_from(self.order + "Qq", self.data, row + 8)
        index, kind = info >> 32, info & 0xFFFFFFFF
        if kind != _ABSOLUTE_64.get(self.machine) or index >= len(self.symbols):
            raise malformed(
                self.name, f"a pointer in {self._name_of(place.section)} makes no sense"
            )
        symbol = self.symbols[index]
        if symbol.section == SHN_UNDEF:
            return Place(SHN_UNDEF, addend, symbol.name)
        return Place(symbol.section, symbol.value + addend)

    def bytes_at(self, place: Place, count: int) -> bytes:
        """`count` bytes of initial data; zeros in SHT_NOBITS. Raises UsageError outside the section."""
        if not 0 < place.section < len(self.sections):
            raise malformed(self.name, "a pointer leads outside its sections")
        section = self.sections[place.section]
        if place.offset < 0 or place.offset + count > section.size:
            raise malformed(self.name, f"a pointer leads outside {section.name}")
        if section.type == SHT_NOBITS:
            return bytes(count)
        start = section.offset + place.offset
        return self.data[start : start + count]

    def integer(self, place: Place, size: int, *, signed: bool = False) -> int:
        """The integer of `size` bytes at `place`."""
        order: Literal["little", "big"] = "little" if self.order == "<" else "big"
        return int.from_bytes(self.bytes_at(place, size), order, signed=signed)

    def string_at(self, place: Place, limit: int = _NAME_LIMIT) -> str:
        """The NUL-terminated string at `place`, at most `limit` bytes of it."""
        self.bytes_at(place, 0)
        room = min(limit, self.sections[place.section].size - place.offset)
        text = self.bytes_at(place, room).partition(b"\0")[0]
        return text.decode("utf-8", "backslashreplace")

    def _name_of(self, section: int) -> str:
        return self.sections[section].name if section < len(self.sections) else f"section {section}"


def malformed(name: str, what: str) -> UsageError:
    """The error for bytes that no compiler made."""
    return UsageError(f"{name} is damaged: {what}", hint="build or fetch it again")


def read_elf(data: bytes, name: str) -> Elf:
    """The object in `data`; `name` is what errors call it.

    Raises UsageError for what is empty, not ELF, truncated, of a class that its machine does not
    have, or not relocatable.
    """
    order, bits = _ident(data, name)
    header = struct.Struct(order + ("HHIQQQIHHHHHH" if bits == 64 else "HHIIIIIHHHHHH"))
    if len(data) < 16 + header.size:
        raise _truncated(name, f"the ELF header ends at byte {16 + header.size}", len(data))
    kind, number, _, _, _, at, _, _, _, _, entsize, count, names = header.unpack_from(data, 16)
    machine = _MACHINES.get(number, f"EM_{number}")
    if kind != ET_REL:
        what = _KINDS.get(kind, f"an ELF file of type {kind}")
        raise UsageError(f"{name} is not a kernel object: it is {what}, not relocatable (ET_REL)")
    if _ONLY_BITS.get(machine, bits) != bits:
        raise UsageError(f"{name} is not a kernel object: wrong class, {bits}-bit for {machine}")
    if _ONLY_ORDER.get(machine, order) != order:
        raise UsageError(f"{name} is not a kernel object: wrong byte order for {machine}")
    table = _Table(name, data, order, bits, at, entsize, count, names)
    return Elf(name, data, bits, order, machine, table.sections())


def _ident(data: bytes, name: str) -> tuple[str, int]:
    if not data:
        raise UsageError(f"{name} is not a kernel object: it is empty", hint="build it again")
    if not data.startswith(b"\x7fELF"):
        raise UsageError(f"{name} is not a kernel object: starts with {data[:8]!r}, not ELF")
    if len(data) < 16:
        raise _truncated(name, "the ELF identification ends at byte 16", len(data))
    try:
        return {1: "<", 2: ">"}[data[5]], {1: 32, 2: 64}[data[4]]
    except KeyError:
        raise UsageError(
            f"{name} is not a kernel object: wrong class {data[4]} or byte order {data[5]}"
        ) from None


def _truncated(name: str, what: str, size: int) -> UsageError:
    return UsageError(
        f"{name} is truncated: {what} and the file has {size} bytes",
        hint="build or copy it again",
    )


class _Table(NamedTuple):
    """The section header table, as the ELF header announces it."""

    name: str
    data: bytes
    order: str
    bits: int
    at: int
    entsize: int
    total: int
    names: int

    def sections(self) -> tuple[Section, ...]:
        raw = self._raw()
        if not 0 < self.names < len(raw):
            raise malformed(self.name, "it has no section names")
        strings = self._bytes(raw[self.names][3], raw[self.names][4], ".shstrtab")
        return tuple(self._section(index, fields, strings) for index, fields in enumerate(raw))

    def _raw(self) -> list[tuple[int, ...]]:
        """(name, type, flags, offset, size, link, info) of each section."""
        entry = struct.Struct(self.order + ("IIQQQQIIQQ" if self.bits == 64 else "IIIIIIIIII"))
        if not self.total or self.entsize != entry.size:
            raise malformed(self.name, f"{self.total} sections of {self.entsize} bytes a header")
        end = self.at + self.total * entry.size
        if end > len(self.data):
            what = f"its {self.total} section headers end at byte {end}"
            raise _truncated(self.name, what, len(self.data))
        rows = entry.iter_unpack(memoryview(self.data)[self.at : end])
        return [(*row[:3], *row[4:8]) for row in rows]

    def _section(self, index: int, fields: tuple[int, ...], strings: bytes) -> Section:
        at, kind, flags, offset, size, link, info = fields
        stop = strings.find(b"\0", at, at + _NAME_LIMIT)
        if stop < 0:
            raise malformed(self.name, f"the name of section {index} is outside .shstrtab")
        name = strings[at:stop].decode("utf-8", "backslashreplace")
        if kind not in (SHT_NULL, SHT_NOBITS) and offset + size > len(self.data):
            what = f"section {name or index} ends at byte {offset + size}"
            raise _truncated(self.name, what, len(self.data))
        return Section(index, name, kind, flags, offset, size, link, info)

    def _bytes(self, offset: int, size: int, what: str) -> bytes:
        if offset + size > len(self.data):
            raise _truncated(
                self.name, f"section {what} ends at byte {offset + size}", len(self.data)
            )
        return self.data[offset : offset + size]
