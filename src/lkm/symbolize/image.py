"""A kernel object without its functions, to see where a kernel would put it. Pure."""

from __future__ import annotations

from lkm.ko.elf import SHT_RELA, read_elf
from lkm.ko.object import THIS_MODULE

__all__ = ["inert"]

_NONE = bytes(8)
"""r_info of a relocation that does nothing: R_X86_64_NONE, R_AARCH64_NONE and R_RISCV_NONE are all 0."""


_CALLED = ("init_module", "cleanup_module")


def inert(data: bytes, name: str) -> bytes:
    """The object with NULLs where its struct module points to init and exit: sizes and layout are the same.

    The kernel then calls nothing, and can unload it: do_init_module() asks `mod->init != NULL`, delete_module()
    takes a module with neither (kernel/module/main.c).
    Raises UsageError for data that is no object.
    """
    elf = read_elf(data, name)
    module = elf.section(THIS_MODULE)
    changed = bytearray(data)
    for table in elf.sections:
        if module is None or table.type != SHT_RELA or table.info != module.number:
            continue
        for at in range(table.offset, table.offset + table.size // 24 * 24, 24):
            number = int.from_bytes(data[at + 8 : at + 16], "little" if elf.order == "<" else "big")
            symbols = elf.symbols
            if number >> 32 < len(symbols) and symbols[number >> 32].name in _CALLED:
                changed[at + 8 : at + 16] = _NONE
    return bytes(changed)
