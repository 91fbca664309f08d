"""Kernel objects that go wrong: one whole module in, many damaged ones out, each with a name for what was done.

Fields are overwritten in place, so that everything else stays where the linker put it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from lkm.ko.signature import MAGIC
from lkm.loadcheck import changes
from lkm.loadcheck.changes import Version
from lkm.loadcheck.image import SHF_ALLOC, SHT_NOBITS, SHT_NULL, SHT_RELA, SHT_SYMTAB, Image

__all__ = [
    "Damaged",
    "damaged",
    "damaged_versions",
    "renamed",
    "replaced",
    "struct_named",
    "without",
]

_THIS = ".gnu.linkonce.this_module"
_HEADER = {"type": (16, "H"), "machine": (18, "H"), "shoff": (40, "Q"), "shentsize": (58, "H"),
           "shnum": (60, "H"), "shstrndx": (62, "H")}  # fmt: skip
_SECTION = {"name": (0, "I"), "type": (4, "I"), "flags": (8, "Q"), "addr": (16, "Q"), "offset": (24, "Q"),
            "size": (32, "Q"), "link": (40, "I")}  # fmt: skip
_FAR = 1 << 40


class Damaged(NamedTuple):
    """What was done, and what came of it."""

    kind: str
    data: bytes


def replaced(data: bytes, old: bytes, new: bytes) -> bytes:
    """`data` with the first `old` overwritten by `new`, which is as long."""
    if len(old) != len(new) or old not in data:
        raise ValueError(f"{old!r} cannot become {new!r}")
    return data.replace(old, new, 1)


def renamed(data: bytes, new: str) -> bytes:
    """The module under another name of the same length, in its structure and in its modinfo."""
    old = Image(data).struct_name
    return struct_named(replaced(data, f"name={old}\0".encode(), f"name={new}\0".encode()), new)


def struct_named(data: bytes, name: str) -> bytes:
    """The module under another name of any length, in its structure alone."""
    image = Image(data)
    at = image.sections[image.named(_THIS)].offset + 24
    return _put(data, at, name.encode() + b"\0")


def damaged(data: bytes, version: Version) -> Iterator[Damaged]:
    """The damaged copies of a module that was built for a kernel of `version`."""
    for family in (_headers, _cuts, _sections, _tables, _modinfo, _this_module, _versions, _symbols,
                   _relocations, _signatures):  # fmt: skip
        yield from family(data, Image(data, version))


def damaged_versions(data: bytes) -> Iterator[Damaged]:
    """Those alone in which CRCs are wrong or missing; none of a module without modversions."""
    return _versions(data, Image(data))


def _put(data: bytes, at: int, raw: bytes) -> bytes:
    return data[:at] + raw + data[at + len(raw) :]


def _header(data: bytes, field: str, value: int) -> bytes:
    at, layout = _HEADER[field]
    return _put(data, at, struct.pack(f"<{layout}", value))


def _section(data: bytes, image: Image, index: int, field: str, value: int) -> bytes:
    at, layout = _SECTION[field]
    return _put(data, image.header.shoff + index * 64 + at, struct.pack(f"<{layout}", value))


def _headers(data: bytes, image: Image) -> Iterator[Damaged]:
    count = image.header.shnum
    yield Damaged("as it was built", data)
    yield Damaged("magic", _put(data, 1, b"elf"))
    for field, values in {
        "type": (0, 2, 3, 4),
        "machine": (0, 3, 40, 183, 243),
        "shoff": (0, _FAR, len(data)),
        "shentsize": (0, 40, 63),
        "shnum": (0, count + 1, 0xFFFF),
        "shstrndx": (0, count, 0xFFFF),
    }.items():
        for value in values:
            yield Damaged(f"header: {field} {value:#x}", _header(data, field, value))
    yield Damaged("header: 32-bit class", _put(data, 4, b"\1"))
    yield Damaged("header: big-endian", _put(data, 5, b"\2"))
    yield Damaged("header: version", _put(data, 20, b"\7"))


def _cuts(data: bytes, image: Image) -> Iterator[Damaged]:
    """Cut off at each section's begin and end."""
    bounds = {0, 1, 63, 64, 65, len(data) - 1}
    for section in image.sections[1:]:
        bounds |= {section.offset}
        if section.type != SHT_NOBITS:
            bounds |= {section.offset + section.size}
    yield from (
        Damaged(f"cut to {size}", data[:size]) for size in sorted(bounds) if size < len(data)
    )


def _sections(data: bytes, image: Image) -> Iterator[Damaged]:
    for field, value in {"type": 1, "size": 8, "addr": 8}.items():
        yield Damaged(f"section 0: {field}", _section(data, image, 0, field, value))
    for index, section in enumerate(image.sections):
        if section.type == SHT_NULL:
            continue
        name = image.section_names[index]
        if section.type != SHT_NOBITS:
            yield Damaged(f"{name}: far away", _section(data, image, index, "offset", _FAR))
            wrapped = _section(data, image, index, "size", (1 << 64) - section.offset)
            yield Damaged(f"{name}: wraps around", wrapped)
        checked = changes.SPLIT_CHECKS.is_in(image.version) or (
            not changes.STRUCT_CHECKED.is_in(image.version) and section.flags & SHF_ALLOC
        )
        if checked or name in (".bss", ".text", ".symtab"):
            yield Damaged(f"{name}: name outside", _section(data, image, index, "name", 1 << 20))
    for name in (".init.text", ".data"):
        flags = _section(data, image, image.named(name), "flags", 7)
        yield Damaged(f"{name}: writable and executable", flags)


def _tables(data: bytes, image: Image) -> Iterator[Damaged]:
    names, symbols = image.header.shstrndx, image.of_type(SHT_SYMTAB)[0]
    strings = image.sections[symbols].link
    for what, index in (("section names", names), ("symbol names", strings)):
        section = image.sections[index]
        yield Damaged(
            f"{what}: no NUL at the end", _put(data, section.offset + section.size - 1, b"x")
        )
        yield Damaged(f"{what}: of another type", _section(data, image, index, "type", 1))
    yield Damaged("section names: empty", _section(data, image, names, "size", 0))
    yield Damaged("symbol table: gone", _section(data, image, symbols, "type", 1))
    yield Damaged("symbol table: no names", _section(data, image, symbols, "link", 0))
    yield Damaged("symbol table: names outside", _section(data, image, symbols, "link", 0xFFF))
    yield Damaged("two symbol tables", _section(data, image, _comment(image), "type", SHT_SYMTAB))
    if changes.CONTENTS_CHECKED.is_in(image.version):
        # Before, nobody checks: names are what happens to be in memory.
        yield Damaged("symbol names: empty", _section(data, image, strings, "size", 0))
        yield Damaged(
            "symbol names: no NUL first", _put(data, image.sections[strings].offset, b"x")
        )
        row = image.sections[symbols].offset + 24
        yield Damaged("a symbol's name outside", _put(data, row, struct.pack("<I", 1 << 20)))


def _comment(image: Image) -> int:
    """A section that the loader has no use for."""
    return next(i for i in image.of_type(7))


def _modinfo(data: bytes, image: Image) -> Iterator[Damaged]:
    release = (image.first("vermagic") or "").partition(" ")[0]
    for kind, old, new in (
        ("another release", f"vermagic={release}", f"vermagic=9{release[1:]}"),
        ("UP", "SMP ", "UP  "),
        ("no mod_unload", " mod_unload ", " mod_umload "),
        ("no vermagic", "vermagic=", "vermagix="),
        ("proprietary", "license=GPL", "license=GPX"),
        ("no licence", "license=GPL", "licence=GPL"),
        ("no name", "name=lc_plain", "nane=lc_plain"),
        ("another name", "name=lc_plain", "name=lc_plane"),
        ("no retpolines", "retpoline=Y", "redpoline=Y"),
        ("a livepatch", "retpoline=Y", "livepatch=Y"),
        ("imports a module's namespace", "description=To be damaged", "import_ns=module:lc_plain"),
        ("imports a namespace", "description=To be damaged", "import_ns=LC_SPACE_OR_ANY"),
    ):
        if old.encode() in data:
            yield Damaged(f"modinfo: {kind}", replaced(data, old.encode(), new.encode()))
    yield Damaged("modinfo: gone", without(data, ".modinfo"))
    yield Damaged("modinfo: twice", _another(data, image, ".modinfo"))


def _name_field(image: Image, section: str) -> int:
    return image.sections[image.named(section, allocated=False)].name_at


def without(data: bytes, section: str) -> bytes:
    """`data` with that section under another name, as good as stripped; as it is where it has none."""
    image = Image(data)
    index = image.named(section, allocated=False)
    if not index:
        return data
    return _section(data, image, index, "name", _name_field(image, section) + 1)


def _another(data: bytes, image: Image, section: str) -> bytes:
    """One more section of that name, which the loader has no other use for."""
    return _section(data, image, _comment(image), "name", _name_field(image, section))


def _this_module(data: bytes, image: Image) -> Iterator[Damaged]:
    index = image.named(_THIS)
    size = image.sections[index].size
    yield Damaged("this_module: gone", without(data, _THIS))
    yield Damaged("this_module: not allocated", _section(data, image, index, "flags", 1))
    yield Damaged("this_module: another size", _section(data, image, index, "size", size - 64))
    yield Damaged("this_module: without contents", _section(data, image, index, "type", SHT_NOBITS))
    yield Damaged("this_module: twice", _another(data, image, _THIS))
    struct_name = image.sections[index].offset + 24
    yield Damaged("this_module: another name", _put(data, struct_name, b"lc_plane"))


def _versions(data: bytes, image: Image) -> Iterator[Damaged]:
    if not image.versions:
        return
    start = image.sections[image.named("__versions")].offset
    for row, symbol in enumerate(image.versions):
        at = start + row * 64
        crc = int.from_bytes(data[at : at + 4], "little")
        flipped = struct.pack("<I", crc ^ 0x100)
        yield Damaged(f"versions: another of {symbol}", _put(data, at, flipped))
        yield Damaged(f"versions: none of {symbol}", _put(data, at + 8, b"~"))
    yield Damaged("versions: more than 32 bits", _put(data, start + 4, b"\1"))
    yield Damaged("versions: gone", without(data, "__versions"))
    release = (image.first("vermagic") or "").partition(" ")[0].encode()
    other = replaced(data, b"vermagic=" + release, b"vermagic=9" + release[1:])
    yield Damaged("versions: gone, another release", without(other, "__versions"))


def _symbols(data: bytes, image: Image) -> Iterator[Damaged]:
    table = image.of_type(SHT_SYMTAB)[0]
    start, strings = image.sections[table].offset, image.sections[image.sections[table].link].offset
    for row, name in enumerate(image.symbol_name_offsets()):
        section, _ = image.symbol_at(row)
        text, at = image.text_at(strings + name), start + row * 24
        if row and section == 0:
            yield Damaged(f"symbol {text}: renamed", _put(data, strings + name, b"~"))
        elif text.endswith("_init") or text == "kept":
            for kind, value in (("undefined", 0), ("common", 0xFFF2)):
                moved = _put(data, at + 6, struct.pack("<H", value))
                yield Damaged(f"symbol {text}: {kind}", moved)
            if changes.SYMBOL_INDEX_CHECKED.is_in(image.version):
                moved = _put(data, at + 6, struct.pack("<H", 0x1000))
                yield Damaged(f"symbol {text}: in no section", moved)


def _relocations(data: bytes, image: Image) -> Iterator[Damaged]:
    for index in image.of_type(SHT_RELA):
        section, name = image.sections[index], image.section_names[index]
        if not image.sections[section.info].flags & 2:
            continue
        for kind in (9, 42, 200):
            row = _put(data, section.offset + 8, struct.pack("<I", kind))
            yield Damaged(f"{name}: type {kind}", row)
        yield Damaged(f"{name}: SHT_REL", _section(data, image, index, "type", 9))
        offset, info, _ = next(image.relocations(index))
        target = image.sections[section.info]
        if info & 0xFFFFFFFF in (1, 2, 4, 11) and target.type != SHT_NOBITS:
            yield Damaged(f"{name}: not empty", _put(data, target.offset + offset, b"\1"))


def _signatures(data: bytes, image: Image) -> Iterator[Damaged]:
    info = struct.Struct(">BBBBB3xI")
    der = bytes.fromhex("300c06092a864886f70d010702")
    for kind, tail in (
        ("only the magic string", b""),
        ("too long", info.pack(0, 0, 2, 0, 0, 1 << 20)),
        ("PGP", der + info.pack(0, 0, 0, 0, 0, len(der))),
        ("X.509", der + info.pack(0, 0, 1, 0, 0, len(der))),
        ("fields set", der + info.pack(1, 0, 2, 0, 0, len(der))),
        ("no PKCS#7 at all", b"x" * 64 + info.pack(0, 0, 2, 0, 0, 64)),
        ("PKCS#7 that ends early", der + info.pack(0, 0, 2, 0, 0, len(der))),
        ("of no bytes", info.pack(0, 0, 2, 0, 0, 0)),
    ):
        yield Damaged(f"signature: {kind}", data + tail + MAGIC)
    yield Damaged("signature: on nothing", MAGIC)
    yield Damaged("signature: its end cut off", data + MAGIC[:-1])
