"""The variables of an object: which one an address is in, where it is declared, what it refers to. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING

from lkm.ko.elf import SHT_RELA, Elf
from lkm.symbolize.symbols import symbol_rows

if TYPE_CHECKING:
    from lkm.symbolize.functions import Code

__all__ = ["Variable", "declared_in", "function_in", "variable_at"]

_OBJECT = 1  # STT_OBJECT
_EXECUTABLE = 4  # SHF_EXECINSTR
_VARIABLE, _SUBPROGRAM, _BLOCK = 0x34, 0x2E, 0x0B
_DECL_FILE, _DECL_LINE = 0x3A, 0x3B


@dataclass(frozen=True)
class Variable:
    """A variable of static storage: `offset` is where in it the address is, `size` its bytes.

    `name` is that of the source: gcc's `timer.0`, of a static one in a function, is `timer`.
    """

    name: str
    section: int
    value: int
    size: int
    offset: int


def variable_at(elf: Elf, section: int, offset: int) -> Variable | None:
    """The variable that an offset of a section is in. Raises UsageError where there is no symbol table."""
    for number, (_, info, index, value, size) in enumerate(symbol_rows(elf)):
        if index == section and info & 15 == _OBJECT and value <= offset < value + size:
            name = re.sub(r"\.\d+$", "", elf.symbols[number].name)
            return Variable(name, section, value, size, offset - value)
    return None


def function_in(elf: Elf, variable: Variable) -> tuple[int, int] | None:
    """(section, offset) of the first function that the variable's initial value points to.

    A DEFINE_TIMER or a DECLARE_WORK has its function so.
    """
    entry = Struct(elf.order + "QQq")
    code = {s.number for s in elf.sections if s.flags & _EXECUTABLE and s.allocated}
    symbols = symbol_rows(elf)
    for table in elf.sections:
        if table.type != SHT_RELA or table.info != variable.section:
            continue
        content = elf.content(table)
        for at, info, addend in entry.iter_unpack(content[: len(content) // 24 * 24]):
            inside = variable.value <= at < variable.value + variable.size
            if inside and info >> 32 < len(symbols):
                _, _, section, value, _ = symbols[info >> 32]
                if section in code:
                    return section, value + addend
    return None


def declared_in(code: Code, name: str) -> tuple[str, int] | None:
    """The file and line where a unit declares a variable; None where it does not."""
    for at in _variables(code, code.unit.root):
        entry = code.unit.entry(at)
        if code.unit.name(entry) == name:
            file, line = entry.value(_DECL_FILE), entry.value(_DECL_LINE)
            if line and (path := code.lines.files.get(file or 0)):
                return path, line
    return None


def _variables(code: Code, below: int) -> Iterator[int]:
    for at, tag, children in code.unit.children(below):
        if tag == _VARIABLE:
            yield at
        elif children and tag in (_SUBPROGRAM, _BLOCK):
            yield from _variables(code, at)
