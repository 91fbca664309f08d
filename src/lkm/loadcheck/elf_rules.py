"""The loader's checks of the ELF file itself, in its order: all of them end in ENOEXEC.

Sources: kernel/module.c of 5.10 (elf_validity_check(), setup_load_info()), kernel/module/main.c of 6.1 (the
same with messages), 6.12 (elf_validity_cache_copy()) and 6.14 to 7.x (elf_validity_cache_*()).
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from lkm.loadcheck.changes import (
    CONTENTS_CHECKED,
    ELF_MESSAGES,
    EMPTY_NAMES_CHECKED,
    SPLIT_CHECKS,
    STRUCT_CHECKED,
    TABLES_TYPED,
)
from lkm.loadcheck.findings import Finding, Severity
from lkm.loadcheck.image import (
    EHDR_SIZE,
    SHDR_SIZE,
    SHF_ALLOC,
    SHT_NOBITS,
    SHT_NULL,
    SHT_STRTAB,
    SHT_SYMTAB,
    Image,
    Section,
)

if TYPE_CHECKING:
    from lkm.loadcheck.facts import KernelFacts

__all__ = ["check_elf"]

_ET_REL = 1
_TYPES = {0: "no type", 2: "an executable", 3: "a shared object", 4: "a core dump"}
_MACHINES = {
    3: "i386",
    40: "arm",
    62: "x86_64",
    183: "arm64",
    22: "s390",
    21: "ppc64",
    243: "riscv",
}
_NAMELESS = "(missing .modinfo section or name field)"
_THIS = ".gnu.linkonce.this_module"


class _Bad(NamedTuple):
    what: str
    why: str
    dmesg: str = ""
    certain: bool = True
    hint: str = "build it again, or copy it again"
    always_said: bool = False


_Check = Callable[[Image, "KernelFacts"], Iterator[_Bad]]


def check_elf(image: Image, facts: KernelFacts) -> Finding | None:
    """The first thing in which the file is not one that the loader would look into; None if all is well."""
    size = len(image.data)
    if size < EHDR_SIZE:
        # init_module(2) says so without a word, finit_module(2) adds a line since 5.16.
        why = f"{size} bytes are no ELF header" if size else "the file is empty"
        return _finding(_Bad("not a module", why), ())
    for check in (_header, *(_NEW if SPLIT_CHECKS.is_in(image.version) else _OLD)):
        if bad := next(check(image, facts), None):
            last = () if check is _setup_old else ("Module has invalid ELF structures",)
            if ELF_MESSAGES.is_in(image.version):
                return _finding(bad, (bad.dmesg,))
            said = bad.always_said or check is _setup_old
            return _finding(bad, (*((bad.dmesg,) if said else ()), *last))
    return None


def _finding(bad: _Bad, dmesg: tuple[str, ...]) -> Finding:
    severity = Severity.REFUSES if bad.certain else Severity.MAY_REFUSE
    return Finding(bad.what, bad.why, severity, errno.ENOEXEC, dmesg, bad.hint)


def _rebuild(facts: KernelFacts) -> str:
    return f"build it for this kernel: lkm build SOURCE -k {facts.release}"


def _header(image: Image, facts: KernelFacts) -> Iterator[_Bad]:
    header, size = image.header, len(image.data)
    if header.magic != b"\x7fELF":
        yield _Bad(
            "not a module",
            f"it starts with {header.magic!r}, not with ELF's magic number",
            "Invalid ELF header magic: != \x7fELF",
        )
    if header.type != _ET_REL:
        kind = _TYPES.get(header.type, f"of ELF type {header.type}")
        dmesg = f"Invalid ELF header type: {header.type} != {_ET_REL}"
        yield _Bad("not a module", f"it is {kind}, not relocatable (ET_REL)", dmesg)
    if header.machine != facts.machine:
        theirs = _MACHINES.get(header.machine, f"e_machine {header.machine}")
        yield _Bad(
            "wrong architecture",
            f"it is for {theirs}, and the kernel for {_MACHINES[facts.machine]}",
            f"Invalid architecture in ELF header: {header.machine}",
            hint=_rebuild(facts),
        )
    if header.shentsize != SHDR_SIZE:
        yield _Bad(
            "wrong ELF class or damaged header",
            f"its section headers have {header.shentsize} bytes, those of 64-bit ELF {SHDR_SIZE}",
            "Invalid ELF section header size",
        )
    end = header.shoff + header.shnum * SHDR_SIZE
    if header.shoff >= size or end > size:
        yield _Bad(
            "truncated",
            f"its {header.shnum} section headers end at byte {end} and the file has {size}",
            "Invalid ELF section header overflow",
        )


def _outside(image: Image, index: int) -> bool:
    section = image.sections[index]
    end = section.offset + section.size
    return end >= 1 << 64 or end > len(image.data)


def _null_section(image: Image) -> Iterator[_Bad]:
    first = image.sections[0] if image.sections else None
    if first and (first.type != SHT_NULL or first.size or first.addr):
        yield _Bad(
            "damaged",
            "its first section header is not the empty one that ELF wants",
            f"ELF Spec violation: section 0 type({first.type})!=SH_NULL or non-zero len or addr",
        )


def _names_index(image: Image) -> Iterator[_Bad]:
    index, count = image.header.shstrndx, image.header.shnum
    if not 0 < index < count:
        yield _Bad(
            "damaged",
            f"section names are said to be in section {index} of {count}",
            f"Invalid ELF section name index: {index} || e_shstrndx ({index}) >= e_shnum ({count})",
        )


def _names_table(image: Image) -> Iterator[_Bad]:
    section = image.sections[image.header.shstrndx]
    if not section.size:
        certain = EMPTY_NAMES_CHECKED.is_in(image.version)
        yield _Bad("damaged", "its section names are empty", "empty section name table", certain)
    elif image.data[section.offset + section.size - 1]:
        yield _Bad(
            "damaged",
            "its section names do not end in a NUL",
            "ELF Spec violation: section name table isn't null terminated",
        )


def _beyond_the_end(image: Image, index: int) -> _Bad:
    section = image.sections[index]
    end, size = section.offset + section.size, len(image.data)
    dmesg = f"Invalid ELF section in module (section {index} type {section.type})"
    why = f"section {index} ends at byte {end} and the file has {size}"
    return _Bad("truncated", why, dmesg, always_said=True)


def _nameless(image: Image, index: int) -> _Bad:
    """A name outside its table: looked up before it is checked in 6.4 to 6.13, or never checked at all."""
    section = image.sections[index]
    kept = section.flags & SHF_ALLOC and section.type != SHT_NOBITS
    certain = SPLIT_CHECKS.is_in(image.version) or (
        not STRUCT_CHECKED.is_in(image.version) and bool(kept)
    )
    dmesg = (
        f"Invalid ELF section name in module (section {index} type {image.sections[index].type})"
    )
    why = f"the name of section {index} is outside the table of names"
    if not certain:
        why += ", and this kernel reads it all the same: it may oops"
    return _Bad("damaged", why, dmesg, certain, always_said=True)


def _bad_link(image: Image, index: int) -> _Bad:
    link, count = image.sections[index].link, image.header.shnum
    return _Bad(
        "damaged",
        f"the names of its symbols are said to be in section {link} of {count}",
        f"Invalid ELF sh_link!=SHN_UNDEF({link}) or (sh_link({link}) >= hdr->e_shnum({count})",
    )


# 5.10 to 6.13


def _sections_old(image: Image, facts: KernelFacts) -> Iterator[_Bad]:
    yield from _names_index(image)
    names = image.header.shstrndx
    if _outside(image, names):
        dmesg = f"Invalid ELF section hdr(type {image.sections[names].type})"
        yield _beyond_the_end(image, names)._replace(dmesg=dmesg, always_said=False)
    yield from _names_table(image)
    yield from _null_section(image)
    table = image.sections[names].size
    for index, section in enumerate(image.sections):
        if not index or section.type in (SHT_NULL, SHT_NOBITS):
            if section.type == SHT_NOBITS and section.name_at >= table:
                yield _nameless(image, index)
            continue
        if section.type == SHT_SYMTAB and not 0 < section.link < image.header.shnum:
            yield _bad_link(image, index)
        if _outside(image, index):
            yield _beyond_the_end(image, index)
        if section.name_at >= table:
            yield _nameless(image, index)


def _setup_old(image: Image, facts: KernelFacts) -> Iterator[_Bad]:
    """setup_load_info() until 6.3, and what elf_validity_cache_copy() made of it from 6.4 on."""
    strict = STRUCT_CHECKED.is_in(image.version)
    if strict:
        yield from _one_modinfo(image)
    tables = image.of_type(SHT_SYMTAB)
    if not tables or (strict and len(tables) > 1):
        yield _no_symbols(image, len(tables))
    if strict:
        yield from _this_module(image, facts, "Only one")
    elif not image.named(_THIS):
        dmesg = f"{image.first('name') or _NAMELESS}: No module found in object"
        yield _no_struct(0)._replace(dmesg=dmesg)


def _counted(image: Image, name: str) -> int:
    return sum(
        found == name and section.type not in _uncounted(image)
        for index, (found, section) in enumerate(
            zip(image.section_names, image.sections, strict=True)
        )
        if index
    )


def _uncounted(image: Image) -> tuple[int, ...]:
    return () if SPLIT_CHECKS.is_in(image.version) else (SHT_NULL, SHT_NOBITS)


def _one_modinfo(image: Image) -> Iterator[_Bad]:
    if (count := _counted(image, ".modinfo")) > 1:
        dmesg = "Only one .modinfo section must exist."
        yield _Bad("damaged", f"it has {count} .modinfo sections", dmesg)


def _no_symbols(image: Image, count: int) -> _Bad:
    why = "it has no symbol table" if not count else f"it has {count} symbol tables"
    dmesg = f"{image.first('name') or _NAMELESS}: module has no symbols (stripped?)"
    return _Bad("stripped of its symbols", f"{why}, so that it cannot be linked", dmesg)


def _no_struct(count: int) -> _Bad:
    why = f"it has {count or 'no'} {_THIS} section{'s' if count > 1 else ''}: modpost makes one"
    return _Bad("not a linked module", why)


def _this_module(image: Image, facts: KernelFacts, how_many: str) -> Iterator[_Bad]:
    start = f"module {image.first('name') or _NAMELESS}:"
    count = _counted(image, _THIS)
    if count != 1:
        dmesg = f"{start} {how_many} {_THIS} section must exist."
        yield _no_struct(count)._replace(dmesg=dmesg)
        return
    section = image.sections[image.named(_THIS, allocated=False)]
    if section.type == SHT_NOBITS:
        dmesg = f"{start} {_THIS} section must have a size set"
        yield _Bad("damaged", f"{_THIS} has no contents", dmesg)
    if not section.flags & SHF_ALLOC:
        dmesg = f"{start} {_THIS} must occupy memory during process execution"
        yield _Bad("damaged", f"{_THIS} is not SHF_ALLOC", dmesg)
    if section.size != facts.module_size is not None:
        yield _wrong_size(image, section.size, facts)


def _wrong_size(image: Image, size: int, facts: KernelFacts) -> _Bad:
    start = f"module {image.first('name') or _NAMELESS}:"
    release = (image.first("vermagic") or "").partition(" ")[0] or "another kernel"
    return _Bad(
        f"built for {release}",
        f"its struct module has {size} bytes, the kernel's {facts.module_size}",
        f"{start} {_THIS} section size must match the kernel's built struct module size at run time",
        hint=_rebuild(facts),
    )


# 6.14 and later, but for what CONTENTS_CHECKED says 6.12.117 and later, too


def _sections_new(image: Image, facts: KernelFacts) -> Iterator[_Bad]:
    yield from _null_section(image)
    for index, section in enumerate(image.sections):
        if index and section.type not in (SHT_NULL, SHT_NOBITS) and _outside(image, index):
            yield _beyond_the_end(image, index)
    yield from _names_index(image)
    names = image.sections[image.header.shstrndx]
    if TABLES_TYPED.is_in(image.version) and names.type != SHT_STRTAB:
        yield _wrong_type("section name", names.type)
    yield from _names_table(image)
    for index, section in enumerate(image.sections):
        if section.type != SHT_NULL and section.name_at >= names.size:
            yield _nameless(image, index)


def _wrong_type(which: str, kind: int) -> _Bad:
    dmesg = f"Invalid ELF {which} table type: {kind}"
    return _Bad("damaged", f"its table of {which}s is a section of type {kind}", dmesg)


def _setup_new(image: Image, facts: KernelFacts) -> Iterator[_Bad]:
    yield from _one_modinfo(image)
    yield from _this_module(image, facts, "Exactly one")


def _symbols_new(image: Image, facts: KernelFacts) -> Iterator[_Bad]:
    tables = image.of_type(SHT_SYMTAB)
    if len(tables) != 1:
        yield _no_symbols(image, len(tables))
    link = image.sections[tables[0]].link
    if not 0 < link < image.header.shnum:
        yield _bad_link(image, tables[0])
    strings = image.sections[link]
    if TABLES_TYPED.is_in(image.version) and strings.type != SHT_STRTAB:
        yield _wrong_type("symbol string", strings.type)
    if CONTENTS_CHECKED.is_in(image.version):
        yield from _extended_versions(image)
        yield from _names_of_symbols(image, strings)


def _names_of_symbols(image: Image, strings: Section) -> Iterator[_Bad]:
    if not strings.size:
        yield _Bad("damaged", "its symbols' names are empty", "empty symbol string table")
    elif image.data[strings.offset]:
        dmesg = "symbol string table missing leading NUL"
        yield _Bad("damaged", "its symbols' names do not begin with a NUL", dmesg)
    elif image.data[strings.offset + strings.size - 1]:
        dmesg = "symbol string table isn't NUL terminated"
        yield _Bad("damaged", "its symbols' names do not end in a NUL", dmesg)
    if any(name >= strings.size for name in image.symbol_name_offsets()):
        dmesg = "symbol name out of bounds in string table"
        yield _Bad("damaged", "the name of a symbol is outside the table of names", dmesg)


def _extended_versions(image: Image) -> Iterator[_Bad]:
    crcs, names = image.named("__version_ext_crcs"), image.named("__version_ext_names")
    if bool(crcs) != bool(names):
        dmesg = "extended version crc+name presence does not match"
        yield _Bad("damaged", "one of __version_ext_crcs and __version_ext_names is missing", dmesg)
    elif crcs and image.sections[crcs].size // 4 > bytes(image.content(names)).count(b"\0"):
        dmesg = "more extended version crcs than names"
        yield _Bad("damaged", "__version_ext_names has fewer names than there are CRCs", dmesg)


_OLD: tuple[_Check, ...] = (_sections_old, _setup_old)
_NEW: tuple[_Check, ...] = (_sections_new, _setup_new, _symbols_new)
