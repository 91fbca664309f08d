"""What apply_relocations() and apply_relocate_add() of arch/x86/kernel/module.c would refuse: ENOEXEC each."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from lkm.loadcheck.case import Case
from lkm.loadcheck.changes import PERCPU_RELOCATED
from lkm.loadcheck.findings import Finding, Severity
from lkm.loadcheck.image import SHF_ALLOC, SHT_NOBITS, SHT_REL, SHT_RELA, Image

__all__ = ["check_relocations"]

_NONE = 0
_SIZES = {1: 8, 2: 4, 4: 4, 10: 4, 11: 4, 24: 8}
"""Bytes that R_X86_64_64, PC32, PLT32, 32, 32S and PC64 write."""

_ABS32, _ABS32S = 10, 11
_SHN_LORESERVE = 0xFF00
_SHF_RELA_LIVEPATCH = 0x100000


def check_relocations(case: Case) -> Iterator[Finding]:
    """The first relocation that the kernel refuses, or of which nobody can say what it does."""
    image = case.image
    kept = _relocated(image)
    for index in sorted((*image.of_type(SHT_REL), *image.of_type(SHT_RELA))):
        section = image.sections[index]
        if section.info not in kept:
            continue
        if section.flags & _SHF_RELA_LIVEPATCH:
            yield _unsure(
                "relocations for livepatch", "what they say is not looked at here", errno.EINVAL
            )
        elif section.type == SHT_REL:
            yield _refused("a relocation section of type SHT_REL", "x86-64 has SHT_RELA only")
            return
        elif bad := next(_bad_rows(image, index, section.info), None):
            yield bad
            return


def _relocated(image: Image) -> set[int]:
    """The sections that are relocated: those that stay in memory."""
    names = ("__versions", "__version_ext_crcs", "__version_ext_names", ".modinfo")
    dropped = {image.named(name) for name in names}
    if not PERCPU_RELOCATED.is_in(image.version):
        dropped.add(image.named(".data..percpu"))
    sections = enumerate(image.sections)
    return {i for i, section in sections if section.flags & SHF_ALLOC and i not in dropped}


def _bad_rows(image: Image, index: int, target: int) -> Iterator[Finding]:
    section, content, written = image.sections[target], image.content(target), set[int]()
    zeros, symbols = section.type == SHT_NOBITS, image.symbol_count
    where = image.section_names[target]
    for offset, info, addend in image.relocations(index):
        kind, symbol = info & 0xFFFFFFFF, info >> 32
        size = _SIZES.get(kind)
        if size is None:
            if kind != _NONE:
                dmesg = f"module: {image.struct_name}: Unknown rela relocation: {kind}"
                yield _refused(f"a relocation of type {kind}", "the kernel does not know it", dmesg)
        elif symbol >= symbols or offset + size > section.size:
            why = f"it leads outside {where} or the symbols, which the kernel does not check"
            yield _unsure("a damaged relocation", why, errno.ENOEXEC)
        elif offset in written or (not zeros and any(content[offset : offset + size])):
            why = f"there is something already at byte {offset} of {where}: relocated before, or damaged"
            yield _refused("a relocation to a place that is not empty", why)
        elif kind in (_ABS32, _ABS32S) and _is_too_wide(image, kind, symbol, addend):
            dmesg = f"module: `{image.struct_name}' likely not compiled with -mcmodel=kernel"
            why = f"its place in {where} has 32 bits and the address more"
            yield _refused("a relocation that overflows", why, dmesg)
        written.add(offset)


def _is_too_wide(image: Image, kind: int, symbol: int, addend: int) -> bool:
    """Modules are in the uppermost 2 GiB: their addresses fit 32 bits with a sign, and never those without."""
    section, value = image.symbol_at(symbol)
    if not 0 < section < _SHN_LORESERVE or section == image.named(".data..percpu"):
        return False
    offset = (value + addend + (1 << 63)) % (1 << 64) - (1 << 63)
    return kind == _ABS32 or not -(1 << 31) <= offset < 1 << 31


def _refused(what: str, why: str, *dmesg: str) -> Finding:
    hint = "build it with the kernel's own flags: lkm build SOURCE"
    return Finding(what, why, errno=errno.ENOEXEC, dmesg=dmesg, hint=hint)


def _unsure(what: str, why: str, number: int) -> Finding:
    return Finding(what, why, Severity.MAY_REFUSE, number, hint="build it again")
