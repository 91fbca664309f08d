"""What `bench.fuzz_ko` feeds the reader: kernel objects with every kind of damage, from a seeded generator."""

from __future__ import annotations

import gzip
import lzma
import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Protocol

import zstandard

from lkm.ko.elf import Elf, Section, read_elf
from lkm.ko.signature import split

__all__ = ["KINDS", "Base", "bombs"]


@dataclass(frozen=True)
class Base:
    """An object to damage; `data` may end in a signature."""

    name: str
    data: bytes = field(repr=False)
    elf: Elf = field(repr=False)

    @classmethod
    def of(cls, name: str, data: bytes) -> Base:
        """The base made of an undamaged object."""
        return cls(name, data, read_elf(split(data)[0], name))

    def sections(self, *names: str) -> list[Section]:
        """Those of its sections whose names start with one of these, and that have bytes."""
        return [each for each in self.elf.sections if each.size and each.name.startswith(names)]


Mutation = Callable[[random.Random, Base], bytes]


# Numbers


def _number(rng: random.Random, base: Base, size: int) -> int:
    """One that sits on an edge, or belongs to another field, or means nothing."""
    whole = 1 << 8 * size
    sections = base.elf.sections
    some = sections[rng.randrange(len(sections))]
    edges = (
        0,
        1,
        2,
        3,
        7,
        8,
        24,
        40,
        64,
        0x7F,
        0xFF,
        0xFFFF,
        0xFFF1,
        0xFFF2,
        1 << 31,
        1 << 32,
        1 << 63,
    )
    near = (
        some.offset,
        some.size,
        some.number,
        some.offset + some.size,
        len(sections),
        len(base.data),
    )
    number = rng.choice((*edges, *near, rng.getrandbits(8 * size))) + rng.choice((0, 0, 0, -1, 1))
    return number % whole


def _put(data: bytearray, at: int, size: int, number: int) -> None:
    if 0 <= at <= len(data) - size:
        data[at : at + size] = number.to_bytes(size, "little")


def _some(rng: random.Random) -> range:
    return range(rng.choice((1, 1, 1, 2, 3, 8)))


# Mutations


def anywhere(rng: random.Random, base: Base) -> bytes:
    """Bytes and words anywhere."""
    data = bytearray(base.data)
    for _ in _some(rng):
        size = rng.choice((1, 1, 2, 4, 8))
        _put(data, rng.randrange(len(data)), size, _number(rng, base, size))
    return bytes(data)


_HEADER = ((4, 1), (5, 1), (6, 1), (7, 1), (16, 2), (18, 2), (20, 4), (24, 8), (32, 8), (40, 8), (48, 4),
           (52, 2), (54, 2), (56, 2), (58, 2), (60, 2), (62, 2))  # fmt: skip
"""(offset, size) of the fields of an Elf64_Ehdr."""


def elf_header(rng: random.Random, base: Base) -> bytes:
    """Fields of the ELF header."""
    data = bytearray(base.data)
    for _ in _some(rng):
        at, size = rng.choice(_HEADER)
        _put(data, at, size, _number(rng, base, size))
    return bytes(data)


_SECTION_HEADER = (
    (0, 4),
    (4, 4),
    (8, 8),
    (16, 8),
    (24, 8),
    (32, 8),
    (40, 4),
    (44, 4),
    (48, 8),
    (56, 8),
)


def section_headers(rng: random.Random, base: Base) -> bytes:
    """Fields of the section headers, and headers that take another's place."""
    data = bytearray(base.data)
    table = struct.unpack_from("<Q", data, 40)[0]
    count = len(base.elf.sections)
    for _ in _some(rng):
        row = table + 64 * rng.randrange(count)
        if rng.random() < 0.1:
            other = table + 64 * rng.randrange(count)
            data[row : row + 64] = data[other : other + 64]
        at, size = rng.choice(_SECTION_HEADER)
        _put(data, row + at, size, _number(rng, base, size))
    return bytes(data)


def _rows(*names: str, entry: int, fields: tuple[tuple[int, int], ...]) -> Mutation:
    """Fields of the rows of tables."""

    def mutate(rng: random.Random, base: Base) -> bytes:
        data = bytearray(base.data)
        tables = base.sections(*names)
        for _ in _some(rng) if tables else ():
            table = rng.choice(tables)
            row = table.offset + entry * rng.randrange(max(table.size // entry, 1))
            at, size = rng.choice(fields)
            _put(data, row + at, size, _number(rng, base, size))
        return bytes(data)

    return mutate


symbols = _rows(".symtab", entry=24, fields=((0, 4), (4, 1), (5, 1), (6, 2), (8, 8), (16, 8)))
relocations = _rows(".rela", entry=24, fields=((0, 8), (8, 4), (12, 4), (16, 8)))
parameters = _rows(
    ".rela__param", ".data", ".rodata", "__param", entry=8, fields=((0, 8), (0, 4), (4, 4), (0, 1))
)
exports = _rows(
    "__ksymtab",
    "__kcrctab",
    "__kflagstab",
    ".rela__ksymtab",
    entry=4,
    fields=((0, 4), (0, 1), (0, 8)),
)
versions = _rows("__versions", "__version_ext", entry=64, fields=((0, 8), (8, 1), (16, 8), (63, 1)))

_WORDS = (
    b"\0", b"=", b":", b"parm=", b"parmtype=", b"parm=a:", b"parmtype=a:array of int", b"license=GPL",
    b"vermagic=", b"vermagic=99999999999.1 ", b"name=", b"name=../x", b"depends=,,a,", b"import_ns=",
    b"intree=", b"retpoline=Y", b"\xff\xfe", b"\xc3\xa9", b"\n", b"x" * 300, b"livepatch=", b"staging=",
)  # fmt: skip


def modinfo(rng: random.Random, base: Base) -> bytes:
    """Words of .modinfo, over others."""
    data = bytearray(base.data)
    (section,) = base.sections(".modinfo")
    for _ in _some(rng):
        word = rng.choice(_WORDS) + rng.choice((b"", b"\0"))
        at = section.offset + rng.randrange(section.size)
        data[at : min(at + len(word), section.offset + section.size)] = word[
            : section.offset + section.size - at
        ]
    return bytes(data)


def names(rng: random.Random, base: Base) -> bytes:
    """String tables and the name in struct module, without ends or with others."""
    data = bytearray(base.data)
    section = rng.choice(
        base.sections(".shstrtab", ".strtab", ".gnu.linkonce.this_module", "__ksymtab_strings")
    )
    for _ in _some(rng):
        start = section.offset + rng.randrange(section.size)
        stop = min(start + rng.choice((1, 1, 16, section.size)), section.offset + section.size)
        data[start:stop] = bytes([rng.choice((0, 0x2E, 0x5F, 0x61, 0xFF))]) * (stop - start)
    return bytes(data)


_MAGIC = b"~Module signature appended~\n"
_DER = (
    0,
    1,
    2,
    4,
    5,
    6,
    0x20,
    0x24,
    0x30,
    0x31,
    0x7F,
    0x80,
    0x81,
    0x82,
    0x84,
    0x88,
    0xA0,
    0xFE,
    0xFF,
)


def trailer(rng: random.Random, base: Base) -> bytes:
    """The signature: its DER, struct module_signature, the magic string, and several of them."""
    image, _ = split(base.data)
    tail = bytearray(base.data[len(image) :] or bytes(40) + _MAGIC)
    info = len(tail) - len(_MAGIC) - 12
    for _ in _some(rng):
        where = rng.random()
        if where < 0.3:
            _put(tail, info + rng.randrange(8), 1, _number(rng, base, 1))
        elif where < 0.6:
            size = rng.choice((len(tail), len(base.data), 0, info, rng.getrandbits(32)))
            tail[info + 8 : info + 12] = (size % (1 << 32)).to_bytes(4, "big")
        else:
            tail[rng.randrange(min(len(tail), 120))] = rng.choice(_DER)
    return image + bytes(tail) * rng.choice((1, 1, 1, 2))


def spliced(rng: random.Random, base: Base) -> bytes:
    """Pieces left out, doubled or moved, and a tail of zeros."""
    data = base.data
    start = rng.randrange(len(data))
    stop = start + rng.choice((1, 8, 64, 4096))
    return rng.choice(
        (
            lambda: data[:start] + data[stop:],
            lambda: data[:stop] + data[start:],
            lambda: data[:start] + bytes(stop - start) + data[stop:],
            lambda: data + bytes(rng.choice((1, 1 << 12, 1 << 20))),
        )
    )()


def swollen(rng: random.Random, base: Base) -> bytes:
    """Megabytes of the same behind the object, which one of its sections takes in."""
    data = bytearray(base.data)
    table = struct.unpack_from("<Q", data, 40)[0]
    swelling = rng.choice((1 << 20, 8 << 20, 24 << 20))
    section = rng.choice(base.elf.sections[1:])
    _put(data, table + 64 * section.number + 24, 8, len(data) - rng.choice((0, 64)))
    _put(data, table + 64 * section.number + 32, 8, swelling)
    filler = rng.choice((b"\0", b"a", b"=", b"a=b\0", base.elf.content(section)[:4096] or b"\0"))
    return bytes(data) + (filler * (swelling // len(filler) + 1))[:swelling]


PLAIN: dict[str, Mutation] = {
    "anywhere": anywhere,
    "elf header": elf_header,
    "section headers": section_headers,
    "symbols": symbols,
    "relocations": relocations,
    "parameters": parameters,
    "exports": exports,
    "versions": versions,
    "modinfo": modinfo,
    "names": names,
    "trailer": trailer,
    "spliced": spliced,
    "swollen": swollen,
}


# Containers

PACK: dict[str, Callable[[bytes], bytes]] = {
    "xz": lambda data: lzma.compress(data, preset=0),
    "zst": zstandard.ZstdCompressor(level=1).compress,
    "gz": lambda data: gzip.compress(data, 1, mtime=0),
}


def packed(rng: random.Random, base: Base) -> bytes:
    """A damaged object, compressed, sometimes twice."""
    data = rng.choice(list(PLAIN.values()))(rng, base)
    for _ in rng.choice((range(1), range(1), range(2))):
        data = PACK[rng.choice(list(PACK))](data)
    return data


@cache
def _packed_whole(base: Base) -> tuple[bytes, ...]:
    return tuple(pack(base.data) for pack in PACK.values())


def container(rng: random.Random, base: Base) -> bytes:
    """An object, compressed, and then damaged, cut off, or followed by something."""
    data = bytearray(rng.choice(_packed_whole(base)))
    near = rng.random() < 0.5
    for _ in _some(rng):
        size = rng.choice((1, 1, 2, 4))
        _put(
            data,
            rng.randrange(min(len(data), 24) if near else len(data)),
            size,
            _number(rng, base, size),
        )
    tail = rng.choice((b"", b"", b"\0\0\0\0", b"\xff", bytes(data), _packed_whole(base)[0]))
    return bytes(data[: rng.choice((len(data), len(data), rng.randrange(len(data))))]) + tail


_PACKERS: tuple[Callable[[], _Packer], ...] = (
    lambda: zlib.compressobj(9, zlib.DEFLATED, 31),
    lambda: zstandard.ZstdCompressor(level=1).compressobj(),
    lambda: lzma.LZMACompressor(preset=0),
)

BOMB = 256 << 20
"""Bytes that a bomb unpacks to."""


class _Packer(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


def _bomb(packer: _Packer, start: bytes, zeros: int) -> bytes:
    block = bytes(1 << 20)
    parts = [packer.compress(start), *(packer.compress(block) for _ in range(zeros >> 20))]
    return b"".join(parts) + packer.flush()


@cache
def bombs() -> tuple[bytes, ...]:
    """Zeros, alone and behind ELF's magic, in each format; many behind each other; one in another."""
    made = [
        _bomb(packer(), start, zeros)
        for packer in _PACKERS
        for start in (b"", b"\x7fELF\2\1\1")
        for zeros in (16 << 20, 30 << 20, BOMB)
    ]
    return (
        *made,
        made[-1] * 3,
        PACK["gz"](made[0]),
        PACK["xz"](made[8]),
        PACK["zst"](bytes(1000)) * 1000,
    )


def bomb(rng: random.Random, base: Base) -> bytes:
    """A little that unpacks to much, sometimes damaged."""
    data = bytearray(rng.choice(bombs()))
    if rng.random() < 0.7:
        _put(data, rng.randrange(min(len(data), 64)), 1, rng.randrange(256))
    return bytes(data)


KINDS: dict[str, tuple[Mutation, int]] = {
    **{name: (mutation, 20) for name, mutation in PLAIN.items()},
    "section headers": (section_headers, 60),
    "relocations": (relocations, 40),
    "symbols": (symbols, 40),
    "parameters": (parameters, 40),
    "swollen": (swollen, 2),
    "packed": (packed, 20),
    "container": (container, 30),
    "bomb": (bomb, 2),
}
"""Each kind of damage, and how often it is done, against the others."""
