"""Addresses in real modules against binutils' addr2line, symbols as the kernel prints them, damage."""

from __future__ import annotations

import json
import lzma
import random
import struct
import zlib
from functools import cache
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from lkm.errors import UsageError
from lkm.ko.elf import read_elf
from lkm.symbolize import DebugInfo, Place
from lkm.symbolize.forms import sleb, uleb
from lkm.symbolize.image import inert

DATA = Path(__file__).parents[1] / "data"
OBJECTS = DATA / "symbolize"
SERIES = ("5.10", "6.1", "6.12", "7.2", "7.3")


@cache
def module(series: str) -> bytes:
    """crash.ko with its debug info, by gcc 10 to 16."""
    return lzma.decompress((OBJECTS / series / "crash.ko.xz").read_bytes())


@cache
def info(series: str) -> DebugInfo:
    return DebugInfo(module(series), "crash.ko")


def line_of(text: str) -> int:
    """The number of the line of crash.c that is this one, but for its indentation."""
    lines = (DATA / "modules" / "crash.c").read_text().split("\n")
    (number,) = (n for n, line in enumerate(lines, 1) if line.strip() == text)
    return number


@pytest.mark.parametrize("series", SERIES)
def test_every_row_of_the_line_tables_is_decoded_as_addr2line_does(series: str) -> None:
    packed = (OBJECTS / series / "crash.addr2line.xz").read_bytes()
    answers = json.loads(lzma.decompress(packed))
    assert len(answers) > 200
    wrong = []
    for section, offset, expected in answers:
        places = info(series).places_at(section, offset)
        found = [[place.function, place.file or "?", place.line or 0] for place in places]
        if found != expected:
            wrong.append((section, offset, found, expected))
    assert not wrong


@pytest.mark.parametrize("series", SERIES)
def test_a_symbol_and_an_offset_give_function_file_line_and_column(series: str) -> None:
    code = [place for offset in range(32) for place in info(series).places("divide", offset, 32)]
    assert {(place.function, place.file) for place in code} == {("divide", "/build/crash.c")}
    assert {place.column for place in code if place.line == line_of("return 100 / zero;")} & {
        13,
        20,
    }


@pytest.mark.parametrize("series", SERIES)
def test_an_inlined_call_is_told_from_the_function_that_it_is_in(series: str) -> None:
    found = [
        places
        for offset in range(0x60)
        if len(places := info(series).places("corrupt_list", offset)) > 2
    ]
    *inlined, outer = found[0]
    assert outer.function == "corrupt_list"
    assert outer.line in (line_of("one.next = &two;") - 1, line_of("list_del(&one);"))
    assert all(str(place.file).endswith("/include/linux/list.h") for place in inlined)


@pytest.mark.parametrize("series", SERIES)
def test_a_return_address_is_of_the_call_before_it(series: str) -> None:
    function = info(series).functions.named("keep_counting", None)
    assert function is not None
    # A call that never comes back can be the last of a function: it returns to what is not its own.
    places = info(series).places("keep_counting", function.size, exact=False)
    assert places == info(series).places("keep_counting", function.size - 1)
    assert places[-1].function == "keep_counting"


@pytest.mark.parametrize("series", SERIES)
def test_what_is_not_there_has_no_place(series: str) -> None:
    assert info(series).places("no_such_function", 0) == ()
    assert info(series).location("no_such_function", 0) is None
    assert info(series).places("divide", 1 << 30) == ()
    assert info(series).places("divide", 1 << 70) == ()
    assert info(series).places_at(".no_such_section", 0) == ()
    assert info(series).places_at(".text", 1 << 50) == ()


def test_a_stripped_module_has_functions_and_no_places() -> None:
    stripped = DebugInfo((DATA / "ko" / "everything-5.10.ko").read_bytes(), "everything.ko")
    assert not stripped.present
    assert stripped.places("init_module", 0) == ()


def test_data_that_is_no_object_is_refused() -> None:
    with pytest.raises(UsageError, match="not a kernel object"):
        DebugInfo(b"MZ" + bytes(100), "x.ko")


# Where the kernel put it


@pytest.mark.parametrize("series", SERIES)
def test_an_address_is_found_by_where_the_sections_are(series: str) -> None:
    sections = {".text": 0xFFFFFFFFC0201000, ".init.text": 0xFFFFFFFFC0205000}
    function = info(series).functions.named("divide", None)
    assert function is not None
    at = info(series).locate(0xFFFFFFFFC0201000 + function.value + 8, sections)
    assert at == (".text", function.value + 8)
    assert info(series).function_at(at) == function
    assert info(series).places_at(*at) == info(series).places("divide", 8)
    assert info(series).location("divide", 8, function.extent) == at
    assert info(series).locate(0xFFFFFFFFC0300000, sections) is None


@pytest.mark.parametrize("series", SERIES)
def test_an_inert_module_differs_in_two_relocations_and_keeps_its_layout(series: str) -> None:
    before, after = module(series), inert(module(series), "crash.ko")
    assert len(before) == len(after)
    assert 2 <= sum(a != b for a, b in zip(before, after, strict=True)) <= 16
    elf = read_elf(after, "crash.ko")
    assert elf.sections == read_elf(before, "crash.ko").sections
    table = next(each for each in elf.sections if each.name == ".rela.gnu.linkonce.this_module")
    kinds = [kind for _, kind, _ in struct.iter_unpack("<QQq", elf.content(table))]
    assert kinds.count(0) == 2


# Names that occur twice


def test_a_static_name_that_occurs_twice_is_told_apart_by_its_size() -> None:
    twice = DebugInfo(lzma.decompress((OBJECTS / "twice.ko.xz").read_bytes()), "twice.ko")
    same = [each for each in twice.functions._all_named("helper") if each.name == "helper"]
    assert len(same) == 2
    lines = set()
    for function in same:
        (place,) = twice.places("helper", 5, function.extent)
        lines.add(place.file)
    assert len(lines) == 2
    assert twice.places("helper", 5) == ()


# Compressed sections


def compressed(data: bytes, kind: int) -> bytes:
    """The object with its debug sections compressed in place, at the end of the file (SHF_COMPRESSED)."""
    elf = read_elf(data, "crash.ko")
    out = bytearray(data)
    (headers,) = struct.unpack_from("<Q", data, 0x28)
    for section in elf.sections:
        if section.name.startswith(".debug_"):
            raw = elf.content(section)
            packed = zlib.compress(raw) if kind == 1 else zstandard.ZstdCompressor().compress(raw)
            content = struct.pack("<IIQQ", kind, 0, len(raw), 1) + packed
            at = headers + 64 * section.number
            struct.pack_into("<Q", out, at + 8, section.flags | 0x800)
            struct.pack_into("<QQ", out, at + 24, len(out), len(content))
            out += content
    return bytes(out)


@pytest.mark.parametrize("kind", [1, 2], ids=["zlib", "zstd"])
def test_compressed_debug_sections_say_the_same(kind: int) -> None:
    packed = DebugInfo(compressed(module("6.1"), kind), "crash.ko")
    assert packed.places("divide", 8) == info("6.1").places("divide", 8) != ()


def test_a_compressed_section_that_lies_about_its_size_has_no_places() -> None:
    data = bytearray(compressed(module("6.1"), 1))
    elf = read_elf(bytes(data), "crash.ko")
    for section in elf.sections:
        if section.name == ".debug_info":
            struct.pack_into("<Q", data, section.offset + 8, 1 << 40)
    assert DebugInfo(bytes(data), "crash.ko").places("divide", 8) == ()


# Damage


@pytest.mark.parametrize("seed", range(40))
def test_damaged_debug_info_gives_places_or_none_and_no_exception(seed: int) -> None:
    chance = random.Random(seed)
    data = bytearray(module("6.1" if seed % 2 else "5.10"))
    elf = read_elf(bytes(data), "crash.ko")
    areas = [each for each in elf.sections if "debug_" in each.name and each.size]
    for _ in range(chance.choice([1, 5, 200])):
        section = chance.choice(areas)
        data[section.offset + chance.randrange(section.size)] = chance.randrange(256)
    damaged = DebugInfo(bytes(data), "crash.ko")
    for name in ("divide", "corrupt_list", "crash_init"):
        places = damaged.places(name, 8)
        assert all(isinstance(place, Place) for place in places)


# Numbers


@given(st.integers(0, 1 << 70))
def test_an_unsigned_number_is_read_as_it_was_written(value: int) -> None:
    out, rest = bytearray(), value
    while True:
        out.append(rest & 0x7F | (0x80 if rest > 0x7F else 0))
        rest >>= 7
        if not rest:
            break
    assert uleb(bytes(out) + b"\xff", 0) == (value, len(out))


@given(st.integers(-(1 << 62), 1 << 62))
def test_a_signed_number_is_read_as_it_was_written(value: int) -> None:
    out, rest = bytearray(), value
    while True:
        byte, rest = rest & 0x7F, rest >> 7
        done = rest == (-1 if byte & 0x40 else 0)
        out.append(byte if done else byte | 0x80)
        if done:
            break
    assert sleb(bytes(out), 0) == (value, len(out))
