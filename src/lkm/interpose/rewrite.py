"""A kernel object with stubs between it and the functions that it imports. Pure: bytes in, bytes out.

For each function a stub of 32 bytes is added, in a section of its own, and the relocations that named the
function name the stub. A stub puts its rule into r11 and the real function into r10 and jumps to `lkm_gate`,
which `lkm_interpose` exports:

    endbr64
    lea rule(%rip), %r11
    lea function(%rip), %r10
    jmp lkm_gate

r10 and r11 are the caller's to lose, and no C function gets anything in them (System V ABI, AMD64 supplement,
figure 3.4; the kernel has no nested functions). The functions themselves stay imports of the module, with its
own versions, namespaces and licence, so that the loader's rules are those for the original. All that is new or
has grown goes to the end of the file, where the section headers go too.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lkm.errors import UsageError
from lkm.interpose.rules import NOTHING, RULE, Plan, Rule
from lkm.ko import signature
from lkm.ko.elf import SHN_UNDEF, SHT_RELA, SHT_SYMTAB, Elf, Section, read_elf

__all__ = ["GATE", "CallSite", "Interposed", "call_sites", "interpose"]

GATE = "lkm_gate"
_STUB_SIZE = 32
_STUB = bytes.fromhex("f30f1efa 4c8d1d00000000 4c8d1500000000 e900000000".replace(" ", ""))
_RULE_AT, _REAL_AT, _GATE_AT = 7, 14, 19
"""Where in a stub the three displacements are."""

_PC32, _PLT32 = 2, 4
_RELOCATABLE = {1, _PC32, _PLT32, 11}
"""R_X86_64_64, _PC32, _PLT32, _32S: those that a use of a function's address has (kernel, mcmodel=kernel)."""

_PROGBITS, _STRTAB = 1, 3
_ALLOC, _EXECUTABLE, _INFO_LINK = 2, 4, 0x40
_GLOBAL_UNDEFINED, _SECTION_SYMBOL = 0x10, 0x03
_RELA = struct.Struct("<QQq")
_SYMBOL = struct.Struct("<IBBHQQ")
_HEADER = struct.Struct("<IIQQQQIIQQ")
_VERSION = struct.Struct("<Q56s")
"""struct modversion_info (include/linux/module.h): CRC and name."""
_MODERN = ("__version_ext_crcs", "__version_ext_names")
"""CONFIG_EXTENDED_MODVERSIONS, since 6.14 (kernel/module/version.c)."""


@dataclass(frozen=True)
class CallSite:
    """A use of an imported function: where the instruction's operand is, and the return address behind it.

    A `tail` call is a jump: who was called by is then not to be seen.
    """

    function: str
    section: str
    offset: int
    tail: bool = False

    @property
    def returns_to(self) -> int:
        """The offset in the section that the call returns to."""
        return self.offset + 4


@dataclass(frozen=True)
class Interposed:
    """An object with stubs: its bytes, and the rules by their numbers."""

    image: bytes
    rules: tuple[Rule, ...]


def interpose(
    data: bytes, name: str, rules: Sequence[Rule], plan: Plan = NOTHING, *, gate_crc: int | None
) -> Interposed:
    """The object in `data` with a stub for each of `rules` whose function it imports, and what is to be done.

    `gate_crc` is the version of lkm_gate, which the object needs where it has versions. A signature is left
    out: it would be wrong. Raises UsageError for a damaged object, and for one that is not for x86_64.
    """
    image, _ = signature.split(data)
    elf = read_elf(image, name)
    if elf.machine != "EM_X86_64":
        raise UsageError(f"{name} is for {elf.machine}: calls can be watched on x86_64 only")
    imported = _imported(elf)
    chosen = tuple(rule for rule in rules if rule.name in imported)
    return Interposed(_Writer(elf, imported, chosen, plan, gate_crc).image(), chosen)


def call_sites(data: bytes, name: str, functions: Sequence[str]) -> list[CallSite]:
    """Every call of one of `functions` in the object's code, by section and offset."""
    elf = read_elf(signature.split(data)[0], name)
    wanted = {number: each for each, number in _imported(elf).items() if each in set(functions)}
    sites: list[CallSite] = []
    for table, of in _relocation_tables(elf):
        if not of.flags & _EXECUTABLE:
            continue
        code = elf.content(of)
        for offset, info, _ in _RELA.iter_unpack(elf.content(table)):
            function = wanted.get(info >> 32)
            if function and info & 0xFFFFFFFF in (_PC32, _PLT32) and 0 < offset < len(code):
                opcode = code[offset - 1]
                if opcode in (0xE8, 0xE9) or 0x80 <= opcode <= 0x8F:
                    sites.append(CallSite(function, of.name, offset, tail=opcode != 0xE8))
    return sorted(sites, key=lambda site: (site.section, site.offset))


def _imported(elf: Elf) -> dict[str, int]:
    """The undefined symbols by name, with their numbers."""
    found: dict[str, int] = {}
    for number, symbol in enumerate(elf.symbols):
        if number and symbol.section == SHN_UNDEF and symbol.name:
            found.setdefault(symbol.name, number)
    return found


def _relocation_tables(elf: Elf) -> list[tuple[Section, Section]]:
    """The relocations of what stays in memory: each table, and the section that it is for."""
    found = []
    for table in elf.sections:
        if table.type == SHT_RELA and 0 < table.info < len(elf.sections):
            of = elf.sections[table.info]
            if of.allocated:
                found.append((table, of))
    return found


class _Writer:
    """Puts the new object together."""

    def __init__(
        self,
        elf: Elf,
        imported: Mapping[str, int],
        rules: Sequence[Rule],
        plan: Plan,
        gate_crc: int | None,
    ) -> None:
        self._elf = elf
        self._imported = imported
        self._rules = rules
        self._plan = plan
        self._crc = gate_crc
        self._data = bytearray(elf.data)
        at = struct.unpack_from("<Q", elf.data, 0x28)[0]
        self._headers = [
            list(_HEADER.unpack_from(elf.data, at + _HEADER.size * n))
            for n in range(len(elf.sections))
        ]
        self._names_at = struct.unpack_from("<H", elf.data, 0x3E)[0]

    def image(self) -> bytes:
        """The whole file."""
        first = len(self._headers)
        table = next(section for section in self._elf.sections if section.type == SHT_SYMTAB)
        symbols = self._symbols(table, text=first, rules=first + 1)
        self._redirect(symbols - 3)
        numbers = {rule.name: self._imported[rule.name] for rule in self._rules}
        self._add(".text.lkm", _PROGBITS, _ALLOC | _EXECUTABLE, self._stubs(), align=32)
        self._add(".rodata.lkm", _PROGBITS, _ALLOC, self._packed(), align=8)
        self._add(
            ".rela.text.lkm", SHT_RELA, _INFO_LINK, self._relocations(numbers, symbols),
            link=table.number, info=first, entsize=_RELA.size,
        )  # fmt: skip
        self._add_version()
        return self._finished()

    def _symbols(self, table: Section, *, text: int, rules: int) -> int:
        """Append the two new sections and lkm_gate to the symbols; returns how many there are."""
        strings = self._elf.sections[table.link]
        names = self._elf.content(strings)
        more = (
            _SYMBOL.pack(0, _SECTION_SYMBOL, 0, text, 0, 0)
            + _SYMBOL.pack(0, _SECTION_SYMBOL, 0, rules, 0, 0)
            + _SYMBOL.pack(len(names), _GLOBAL_UNDEFINED, 0, SHN_UNDEF, 0, 0)
        )
        self._replace(strings.number, names + GATE.encode() + b"\0")
        content = self._elf.content(table)
        self._replace(table.number, content + more)
        return (len(content) + len(more)) // _SYMBOL.size

    def _redirect(self, text_symbol: int) -> None:
        """Let the relocations that name a function name its stub."""
        stub_of = {self._imported[rule.name]: n for n, rule in enumerate(self._rules)}
        for table, _ in _relocation_tables(self._elf):
            end = table.offset + table.size - table.size % _RELA.size
            for at in range(table.offset, end, _RELA.size):
                offset, info, addend = _RELA.unpack_from(self._data, at)
                stub, kind = stub_of.get(info >> 32), info & 0xFFFFFFFF
                if stub is not None and kind in _RELOCATABLE:
                    new = (offset, text_symbol << 32 | kind, addend + stub * _STUB_SIZE)
                    _RELA.pack_into(self._data, at, *new)

    def _stubs(self) -> bytes:
        return _STUB.ljust(_STUB_SIZE, b"\xcc") * len(self._rules)

    def _packed(self) -> bytes:
        return b"".join(rule.pack(number, self._plan) for number, rule in enumerate(self._rules))

    def _relocations(self, numbers: Mapping[str, int], symbols: int) -> bytes:
        rules, gate = symbols - 2, symbols - 1
        rows = []
        for n, rule in enumerate(self._rules):
            base = n * _STUB_SIZE
            rows.append((base + _RULE_AT, rules << 32 | _PC32, n * RULE.size - 4))
            rows.append((base + _REAL_AT, numbers[rule.name] << 32 | _PC32, -4))
            rows.append((base + _GATE_AT, gate << 32 | _PLT32, -4))
        return b"".join(_RELA.pack(*row) for row in rows)

    def _add_version(self) -> None:
        if self._crc is None:
            return
        if basic := self._elf.section("__versions"):
            entry = _VERSION.pack(self._crc, GATE.encode())
            self._replace(basic.number, self._elf.content(basic) + entry)
        crcs, names = (self._elf.section(name) for name in _MODERN)
        if crcs and names:
            self._replace(crcs.number, self._elf.content(crcs) + struct.pack("<I", self._crc))
            self._replace(names.number, self._elf.content(names) + GATE.encode() + b"\0")

    def _add(self, name: str, kind: int, flags: int, content: bytes, *, align: int = 8, link: int = 0,
             info: int = 0, entsize: int = 0) -> None:  # fmt: skip
        names = self._content(self._names_at)
        self._replace(self._names_at, names + name.encode() + b"\0")
        at = self._append(content, align)
        self._headers.append(
            [len(names), kind, flags, 0, at, len(content), link, info, align, entsize]
        )

    def _content(self, number: int) -> bytes:
        _, _, _, _, offset, size, *_ = self._headers[number]
        return bytes(self._data[offset : offset + size])

    def _replace(self, number: int, content: bytes) -> None:
        """A new copy of a section, at the end of the file."""
        header = self._headers[number]
        header[4] = self._append(content, max(header[8], 8))
        header[5] = len(content)

    def _append(self, content: bytes, align: int) -> int:
        self._data += bytes(-len(self._data) % align)
        at = len(self._data)
        self._data += content
        return at

    def _finished(self) -> bytes:
        at = self._append(b"".join(_HEADER.pack(*header) for header in self._headers), 8)
        struct.pack_into("<Q", self._data, 0x28, at)
        struct.pack_into("<H", self._data, 0x3C, len(self._headers))
        return bytes(self._data)
