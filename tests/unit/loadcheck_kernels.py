"""Kernels made up for the tests of `lkm check`, objects that kbuild made, and ways to damage these."""

from __future__ import annotations

import struct
from pathlib import Path

from lkm import ko
from lkm.loadcheck import KernelFacts, Report, SymbolTable
from lkm.loadcheck.image import Image

DATA = Path(__file__).parent.parent / "data" / "ko"
OLD = (DATA / "everything-5.10.ko").read_bytes()
NEW = (DATA / "everything-7.3.ko").read_bytes()
SIGNATURE = (DATA / "signature.bin").read_bytes()
THIS = ".gnu.linkonce.this_module"
STOCK = frozenset(
    {"MODULE_FORCE_LOAD", "MODULE_SIG", "MODULE_UNLOAD", "MODULES", "SMP", "STRICT_MODULE_RWX"}
)


def symvers(path: Path, rows: dict[str, tuple[int, str, str, str]]) -> SymbolTable:
    """A Module.symvers: name -> CRC, module, kind of export, namespace."""
    lines = [
        f"0x{crc:08x}\t{name}\t{module}\t{kind}\t{space}"
        for name, (crc, module, kind, space) in rows.items()
    ]
    path.write_text("\n".join(lines) + "\n")
    return SymbolTable(path.parent.name, path)


Rows = dict[str, tuple[int, str, str, str]]


def rows_for(data: bytes) -> Rows:
    """The exports of a kernel on which the object resolves."""
    module = ko.parse(data, "everything.ko")
    names = [*module.imports, "module_layout"]
    rows = {n: (module.versions.get(n, 0), "vmlinux", "EXPORT_SYMBOL", "") for n in names}
    return {name: row for name, row in rows.items() if name != "everything_maybe"}


def facts_for(home: Path, data: bytes, rows: Rows | None = None) -> KernelFacts:
    """A kernel that `data` was built for."""
    module = ko.parse(data, "everything.ko")
    image = Image(data, module.series or (0, 0))
    modversions = {"MODVERSIONS"} if module.versions else set()
    return KernelFacts(
        release=module.release,
        version=module.series or (0, 0),
        machine=62,
        vermagic=module.vermagic,
        options=STOCK | modversions,
        symbols=symvers(home / "Module.symvers", rows_for(data) if rows is None else rows),
        module_size=image.sections[image.named(THIS)].size,
    )


def put(data: bytes, at: int, raw: bytes) -> bytes:
    return data[:at] + raw + data[at + len(raw) :]


def swapped(data: bytes, before: bytes, after: bytes) -> bytes:
    assert len(before) == len(after)
    assert before in data
    return data.replace(before, after, 1)


def in_section(data: bytes, name: str, field: int, layout: str, value: int) -> bytes:
    """With another value in a section's header."""
    image = Image(data, (7, 3))
    at = image.header.shoff + image.named(name, allocated=False) * 64 + field
    return put(data, at, struct.pack(f"<{layout}", value))


def what(report: Report) -> list[str]:
    return [finding.what for finding in report.findings]


def dmesg(report: Report) -> list[str]:
    return [line for finding in report.findings for line in finding.dmesg]
