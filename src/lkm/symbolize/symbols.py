"""The functions of an object by the names and sizes that the kernel prints. Pure."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from struct import Struct

from lkm.errors import UsageError
from lkm.ko.elf import Elf

__all__ = ["Function", "Functions", "symbol_rows"]

_PAGE = 4096
_FUNCTION_TYPES = {0, 2}  # STT_NOTYPE, which assembler code may have, and STT_FUNC
_EXECUTABLE = 4  # SHF_EXECINSTR


@dataclass(frozen=True)
class Function:
    """A symbol in a section with code. `extent` is the size that the kernel prints: up to the next symbol."""

    name: str
    section: int
    value: int
    size: int
    extent: int


class Functions:
    """The symbols in an object's code."""

    def __init__(self, elf: Elf) -> None:
        """Raises UsageError where there is no symbol table."""
        self._elf = elf
        self._sizes = {
            s.number: s.size for s in elf.sections if s.flags & _EXECUTABLE and s.allocated
        }
        rows = symbol_rows(elf)
        self._by_section: dict[int, list[tuple[int, int, int]]] = {n: [] for n in self._sizes}
        for number, (_, info, section, value, size) in enumerate(rows):
            if section in self._sizes and info & 15 in _FUNCTION_TYPES:
                self._by_section[section].append((value, number, size))
        for found in self._by_section.values():
            found.sort()

    def named(self, name: str, size: int | None) -> Function | None:
        """The function of that name whose printed size is `size`.

        A static name may occur several times, and then the size tells; None where it does not, or there is
        none. The size of the last function of a section is not known here: the kernel counts it up to the end
        of the memory, a multiple of the page.
        """
        found = [each for each in self._all_named(name) if each.name == name]
        if len(found) > 1 and size is not None:
            found = [each for each in found if each.extent == size] or [
                each for each in found if each.size <= size < each.size + 32 or not size % _PAGE
            ]
        places = {(each.section, each.value) for each in found}
        return found[0] if len(places) == 1 else None

    def around(self, section: int, offset: int) -> Function | None:
        """The function that an offset of a section is in: the last symbol that is not after it."""
        rows = self._by_section.get(section, [])
        at = bisect_right(rows, (offset, 1 << 64, 0)) - 1
        if at < 0:
            return None
        first = bisect_right(
            rows, (rows[at][0], -1, 0)
        )  # of several names the table's first, as kallsyms
        return self._function(section, first)

    def _all_named(self, name: str) -> list[Function]:
        symbols = {id(each): each for each in self._elf.symbols.defined(name.encode() + b"\0")}
        wanted = {(each.section, each.value) for each in symbols.values()}
        return [
            self._function(section, index)
            for section, rows in self._by_section.items()
            for index, (value, _, _) in enumerate(rows)
            if (section, value) in wanted
        ]

    def _function(self, section: int, index: int) -> Function:
        rows = self._by_section[section]
        value, number, size = rows[index]
        after = next((row[0] for row in rows[index:] if row[0] > value), self._sizes[section])
        return Function(self._elf.symbols[number].name, section, value, size, after - value)


def symbol_rows(elf: Elf) -> list[tuple[int, int, int, int, int]]:
    """(name, info, section, value, size) of each symbol. Raises UsageError for an object that has none."""
    if elf.bits != 64:
        raise UsageError(f"{elf.name} is a 32-bit object, and only 64-bit ones are decoded")
    table = next((section for section in elf.sections if section.type == 2), None)
    if table is None:
        raise UsageError(f"{elf.name} has no symbol table")
    content = elf.content(table)
    entry = Struct(elf.order + "IBxHQQ")
    return list(entry.iter_unpack(content[: len(content) // 24 * 24]))
