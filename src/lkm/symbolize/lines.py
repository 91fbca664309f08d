"""The line table of a unit: address to file, line and column (DWARF 2 to 5, section 6.2). Pure."""

from __future__ import annotations

import posixpath
from bisect import bisect_right
from dataclasses import dataclass
from typing import NamedTuple

from lkm.symbolize.forms import sleb, uleb
from lkm.symbolize.sections import Area, DebugSections

__all__ = ["LineTable", "Row", "line_table"]


class Row(NamedTuple):
    """What a line table says of an address: the number of its file, and line and column, 0 for none."""

    file: int
    line: int
    column: int


@dataclass(frozen=True)
class _Sequence:
    """Rows for [low, high) with their addresses, in order."""

    low: int
    high: int
    addresses: list[int]
    rows: list[Row]


class LineTable:
    """A unit's line table; `files` are paths by their numbers."""

    def __init__(self, files: dict[int, str], sequences: list[_Sequence]) -> None:
        self.files = files
        self.sequences = sorted(sequences, key=lambda sequence: sequence.low)
        self._lows = [sequence.low for sequence in self.sequences]

    def row(self, address: int) -> Row | None:
        """The row for an address: of several for the same one the last; None outside the table."""
        at = bisect_right(self._lows, address) - 1
        if at < 0 or address >= self.sequences[at].high:
            return None
        sequence = self.sequences[at]
        return sequence.rows[bisect_right(sequence.addresses, address) - 1]

    def addresses(self) -> list[int]:
        """Every address that the table has a row for, in order."""
        found = {address for each in self.sequences for address in each.addresses}
        return sorted(found)


class _Header(NamedTuple):
    files: dict[int, str]
    program: int
    end: int
    address_size: int
    min_length: int
    line_base: int
    line_range: int
    opcode_base: int
    lengths: bytes


def line_table(sections: DebugSections, at: int, directory: str) -> LineTable:
    """The table at an offset of .debug_line; `directory` is the unit's DW_AT_comp_dir."""
    area = sections["line"]
    header = _header(sections, area, at, directory)
    return LineTable(header.files, _run(area, header))


def _header(sections: DebugSections, area: Area, at: int, directory: str) -> _Header:
    data = area.data
    length, offset, at = area.number(at, 4), 4, at + 4
    if length == 0xFFFFFFFF:
        length, offset, at = area.number(at, 8), 8, at + 8
    end = at + length
    version, at = area.number(at, 2), at + 2
    if not 2 <= version <= 5:
        raise ValueError(f"line table of version {version}")
    size = 8
    if version >= 5:
        size, at = data[at], at + 2
    program, at = at + offset + area.number(at, offset), at + offset
    min_length, at = data[at], at + (2 if version >= 4 else 1)
    base, line_range, opcode_base = int.from_bytes(data[at + 1 : at + 2], "little", signed=True), \
        data[at + 2], data[at + 3]  # fmt: skip
    lengths, at = data[at + 4 : at + 3 + opcode_base], at + 3 + opcode_base
    if version >= 5:
        files = _Tables(sections, area, offset, size).files(at, directory)
    else:
        files = _old_files(area, at, directory)
    return _Header(files, program, end, size, min_length, base, line_range, opcode_base, lengths)


def _old_files(area: Area, at: int, directory: str) -> dict[int, str]:
    """The file names of DWARF 2 to 4: directories, then files, each list with an empty string at its end."""
    directories = [directory]
    while text := area.string(at):
        directories.append(text)
        at = area.data.index(b"\0", at) + 1
    at += 1
    files: dict[int, str] = {}
    while text := area.string(at):
        at = area.data.index(b"\0", at) + 1
        where, at = uleb(area.data, at)
        for _ in ("time", "size"):
            _, at = uleb(area.data, at)
        files[len(files) + 1] = _path(directory, directories[where], text)
    return files


def _path(*parts: str) -> str:
    return posixpath.normpath(posixpath.join(*parts))


class _Tables(NamedTuple):
    """The directory and file tables of DWARF 5, whose columns are described in front of them."""

    sections: DebugSections
    area: Area
    offset: int
    address: int

    def files(self, at: int, directory: str) -> dict[int, str]:
        directories, at = self._table(at)
        names, _ = self._table(at)
        paths = [text for text, _ in directories]
        return {
            number: _path(directory, paths[0], paths[where], text)
            for number, (text, where) in enumerate(names)
        }

    def _table(self, at: int) -> tuple[list[tuple[str, int]], int]:
        """(name, directory's number) of each row."""
        columns, at = self._columns(at)
        count, at = uleb(self.area.data, at)
        rows: list[tuple[str, int]] = []
        for _ in range(count):
            row: dict[int, str | int] = {}
            for content, form in columns:
                row[content], at = self._value(form, at)
            rows.append((str(row.get(1, "")), int(row.get(2, 0))))
        return rows, at

    def _columns(self, at: int) -> tuple[list[tuple[int, int]], int]:
        count, at = self.area.data[at], at + 1
        found = []
        for _ in range(count):
            content, at = uleb(self.area.data, at)
            form, at = uleb(self.area.data, at)
            found.append((content, form))
        return found, at

    def _value(self, form: int, at: int) -> tuple[str | int, int]:
        area = self.area
        if form in (0x0E, 0x1F):  # strp, line_strp
            strings = self.sections["str" if form == 0x0E else "line_str"]
            return strings.string(area.address(at, self.offset)), at + self.offset
        if form == 0x08:  # string
            return area.string(at), area.data.index(b"\0", at) + 1
        if form == 0x0F:  # udata
            return uleb(area.data, at)
        if form in (0x0B, 0x05, 0x06, 0x07, 0x1E):  # data1, 2, 4, 8, 16 (an MD5)
            size = {0x0B: 1, 0x05: 2, 0x06: 4, 0x07: 8, 0x1E: 16}[form]
            return area.number(at, size), at + size
        if form == 0x09:  # block
            size, at = uleb(area.data, at)
            return 0, at + size
        raise ValueError(f"DW_FORM {form:#x} in a line table")


def _run(area: Area, header: _Header) -> list[_Sequence]:  # noqa: C901 - a loop over opcodes
    """The sequences that the line number program makes (section 6.2.5)."""
    data, end, base = area.data, min(header.end, len(area.data)), header.opcode_base
    step, line_base, line_range = header.min_length, header.line_base, header.line_range
    found: list[_Sequence] = []
    address, file, line, column = 0, 1, 1, 0
    addresses: list[int] = []
    rows: list[Row] = []
    at = header.program
    while at < end:
        opcode = data[at]
        at += 1
        if opcode >= base:  # special: both advance, and a row
            advance, more = divmod(opcode - base, line_range)
            address += advance * step
            line += line_base + more
            addresses.append(address)
            rows.append(Row(file, line, column))
        elif opcode == 0:  # extended
            size, at = uleb(data, at)
            kind = data[at]
            if kind == 1:  # end_sequence
                if addresses:
                    found.append(_Sequence(addresses[0], address, addresses, rows))
                address, file, line, column = 0, 1, 1, 0
                addresses, rows = [], []
            elif kind == 2:  # set_address
                address = area.address(at + 1, header.address_size)
            at += size
        elif opcode == 1:  # copy
            addresses.append(address)
            rows.append(Row(file, line, column))
        elif opcode == 2:  # advance_pc
            advance, at = uleb(data, at)
            address += advance * step
        elif opcode == 3:  # advance_line
            more, at = sleb(data, at)
            line += more
        elif opcode == 4:  # set_file
            file, at = uleb(data, at)
        elif opcode == 5:  # set_column
            column, at = uleb(data, at)
        elif opcode == 8:  # const_add_pc
            address += (255 - base) // line_range * step
        elif opcode == 9:  # fixed_advance_pc
            address += area.number(at, 2)
            at += 2
        else:  # negate_stmt and what else has operands that are of no use here
            for _ in range(header.lengths[opcode - 1]):
                _, at = uleb(data, at)
    return found
