"""The ELF reader against pyelftools, which reads the same files by other code."""

from __future__ import annotations

from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from lkm.errors import UsageError
from lkm.ko.elf import SHN_ABS, SHN_UNDEF, Place, read_elf

DATA = Path(__file__).parent.parent / "data" / "ko"
OBJECTS = sorted(DATA.glob("*.ko"))
BOTH = pytest.mark.parametrize("path", OBJECTS, ids=[path.stem for path in OBJECTS])
SPECIAL = {"SHN_UNDEF": SHN_UNDEF, "SHN_ABS": SHN_ABS}


@BOTH
def test_sections_are_those_of_pyelftools(path: Path) -> None:
    ours = read_elf(path.read_bytes(), path.name)
    with path.open("rb") as file:
        theirs = list(ELFFile(file).iter_sections())
        assert [(each.name, each.size, each.flags) for each in ours.sections] == [
            (each.name, each["sh_size"], each["sh_flags"]) for each in theirs
        ]
        assert [ours.content(each) for each in ours.sections[1:]] == [
            b"" if each["sh_type"] == "SHT_NOBITS" else each.data() for each in theirs[1:]
        ]


@BOTH
def test_symbols_are_those_of_pyelftools(path: Path) -> None:
    ours = read_elf(path.read_bytes(), path.name)
    with path.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection)
        theirs = [
            (
                each.entry["st_value"],
                each.entry["st_size"],
                SPECIAL.get(each.entry["st_shndx"], each.entry["st_shndx"]),
                each.entry["st_info"]["bind"] == "STB_WEAK",
            )
            for each in table.iter_symbols()
        ]
    assert [(each.value, each.size, each.section, each.weak) for each in ours.symbols] == theirs


@BOTH
def test_symbols_are_a_sequence_that_is_read_by_index_slice_and_name(path: Path) -> None:
    symbols = read_elf(path.read_bytes(), path.name).symbols
    rows = list(symbols)
    assert (symbols[-1], symbols[2:5], len(symbols)) == (rows[-1], rows[2:5], len(rows))
    with pytest.raises(IndexError):
        symbols[len(rows)]
    undefined = [each for each in rows if each.section == SHN_UNDEF and each.name]
    assert symbols.undefined() == undefined
    found = symbols.defined(b"everything_", b"init_module\0")
    assert {"everything_plain", "everything_gpl", "init_module"} <= {each.name for each in found}
    starts = ("everything_", "init_module")
    assert found == [e for e in rows if e.section != SHN_UNDEF and e.name.startswith(starts)]


def test_an_object_of_32_bits_and_the_other_byte_order_is_read() -> None:
    """Hand-made: a header, .shstrtab, .symtab with one weak symbol, .strtab, and four headers."""
    import struct

    names = b"\0.shstrtab\0.symtab\0.strtab\0"
    strings = b"\0here\0"
    symtab = bytes(16) + struct.pack(">IIIBBH", 1, 4, 8, 0x21, 0, 3)
    body = names + symtab + strings
    at = 52 + len(body)
    header = b"\x7fELF\x01\x02\x01" + bytes(9)
    header += struct.pack(">HHIIIIIHHHHHH", 1, 20, 1, 0, 0, at, 0, 52, 0, 0, 40, 4, 1)
    rows = [(1, 3, 52, len(names), 0), (11, 2, 52 + len(names), len(symtab), 3),
            (19, 3, 52 + len(names) + len(symtab), len(strings), 0)]  # fmt: skip
    table = bytes(40) + b"".join(
        struct.pack(">IIIIIIIIII", name, kind, 0, 0, start, size, link, 0, 1, 0)
        for name, kind, start, size, link in rows
    )
    elf = read_elf(header + body + table, "old.ko")
    assert (elf.bits, elf.machine, elf.order) == (32, "EM_PPC", ">")
    assert elf.symbols[1]._asdict() == {
        "name": "here", "section": 3, "value": 4, "size": 8, "weak": True,
    }  # fmt: skip


@pytest.mark.parametrize("place", [Place(0, 0), Place(9999, 0), Place(1, -1), Place(1, 1 << 40)])
def test_nothing_is_read_outside_a_section(place: Place) -> None:
    elf = read_elf(OBJECTS[0].read_bytes(), "x.ko")
    with pytest.raises(UsageError, match="leads outside"):
        elf.bytes_at(place, 1)


def test_a_pointer_leads_to_a_section_or_to_a_symbol_of_another_object() -> None:
    elf = read_elf(OBJECTS[0].read_bytes(), "x.ko")
    table = elf.section("__param")
    assert table is not None
    name = elf.pointer(Place(table.number, 0))
    assert name is not None
    assert elf.string_at(name).isidentifier()
    targets = [elf.pointer(Place(table.number, at + 16)) for at in range(0, table.size, 40)]
    assert "param_ops_byte" in {target.symbol for target in targets if target}
    assert elf.pointer(Place(table.number, 24)) is None
