"""The facts of a kernel object (`.ko`), from its bytes alone: nothing is executed, nothing is loaded.

    module = ko.read(Path("getargs.ko"))
    module.name, module.release, [parameter.name for parameter in module.parameters]

Where a fact is in the file is in the kernel's scripts/mod/modpost.c, which wrote it, and
kernel/module/main.c, which reads it; the layouts are those of 5.10 to 7.3.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lkm.errors import UsageError
from lkm.ko.elf import SHN_ABS, SHN_UNDEF, Elf, Place, Section, Symbol, malformed, read_elf
from lkm.ko.signature import Signature
from lkm.params import Parameter

__all__ = ["Export", "KernelObject", "Parameter", "Signature", "parse", "read", "read_image"]

THIS_MODULE = ".gnu.linkonce.this_module"
"""The section that becomes the `struct module` (include/linux/module.h)."""


@dataclass(frozen=True)
class Export:
    """A symbol that the object exports. `crc` is None without modversions, `namespace` without one."""

    name: str
    gpl: bool
    namespace: str | None = None
    crc: int | None = None


@dataclass(frozen=True)
class KernelObject:
    """What a `.ko` says about itself.

    `name` is what /sys/module will call it, `machine` as elf.h has it (`EM_X86_64`), `elf_class` 32 or
    64. `modinfo` holds the (key, value) pairs of .modinfo in their order. `imports` are the undefined
    symbols in the symbol table's order, `weak_imports` those among them that may stay unresolved, `versions`
    their CRCs (modversions). `section_sizes` has the (name, bytes) of what stays in memory, in order.
    """

    name: str
    machine: str
    elf_class: int
    modinfo: tuple[tuple[str, str], ...] = ()
    parameters: tuple[Parameter, ...] = ()
    imports: tuple[str, ...] = ()
    weak_imports: tuple[str, ...] = ()
    versions: Mapping[str, int] = field(default_factory=dict, hash=False)
    exports: tuple[Export, ...] = ()
    section_sizes: tuple[tuple[str, int], ...] = ()
    signature: Signature | None = None
    has_init: bool = False
    has_exit: bool = False

    def first(self, key: str) -> str | None:
        """The first modinfo value of that key, which is the one that the kernel reads; or None."""
        return next((value for tag, value in self.modinfo if tag == key), None)

    def all(self, key: str) -> tuple[str, ...]:
        """Every modinfo value of that key, in the file's order."""
        return tuple(value for tag, value in self.modinfo if tag == key)

    @property
    def vermagic(self) -> str:
        """The version magic, `6.1.0-50-amd64 SMP preempt mod_unload modversions `; empty without one."""
        return self.first("vermagic") or ""

    @property
    def release(self) -> str:
        """The kernel release that the object was built for: vermagic's first word."""
        return self.vermagic.partition(" ")[0]

    @property
    def vermagic_flags(self) -> tuple[str, ...]:
        """vermagic's other words: SMP, preempt, mod_unload, modversions, ..."""
        return tuple(self.vermagic.split()[1:])

    @property
    def series(self) -> tuple[int, int] | None:
        """The (major, minor) of `release`; None where it has none."""
        found = re.match(r"([0-9]{1,4})\.([0-9]{1,4})", self.release)
        return (int(found[1]), int(found[2])) if found else None

    @property
    def srcversion(self) -> str | None:
        """modpost's checksum of the source."""
        return self.first("srcversion")

    @property
    def license(self) -> str | None:
        """MODULE_LICENSE."""
        return self.first("license")

    @property
    def description(self) -> str | None:
        """MODULE_DESCRIPTION."""
        return self.first("description")

    @property
    def version(self) -> str | None:
        """MODULE_VERSION."""
        return self.first("version")

    @property
    def authors(self) -> tuple[str, ...]:
        """Every MODULE_AUTHOR."""
        return self.all("author")

    @property
    def depends(self) -> tuple[str, ...]:
        """The modules whose symbols this one needs, as modpost found them."""
        return tuple(name for name in (self.first("depends") or "").split(",") if name)

    @property
    def softdeps(self) -> tuple[str, ...]:
        """Every MODULE_SOFTDEP, `pre: a b post: c`."""
        return self.all("softdep")

    @property
    def aliases(self) -> tuple[str, ...]:
        """Every MODULE_ALIAS and device table entry."""
        return self.all("alias")

    @property
    def firmware(self) -> tuple[str, ...]:
        """Every MODULE_FIRMWARE."""
        return self.all("firmware")

    @property
    def namespaces(self) -> tuple[str, ...]:
        """The symbol namespaces that the module imports (MODULE_IMPORT_NS)."""
        return self.all("import_ns")

    @property
    def intree(self) -> bool:
        """Whether it was built with the kernel; one that was not taints it."""
        return self.first("intree") is not None

    @property
    def retpoline(self) -> bool:
        """Whether it was built with retpolines."""
        return self.first("retpoline") is not None

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON has it; `from_dict` takes it back."""
        return {
            **vars(self),  # dataclasses.asdict() would copy every string of it
            "parameters": tuple(dict(vars(each)) for each in self.parameters),
            "versions": dict(self.versions),
            "exports": tuple(dict(vars(each)) for each in self.exports),
            "signature": dict(vars(self.signature)) if self.signature else None,
        }

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> KernelObject:
        """The object that `to_dict` made `facts` of, also after a way through JSON."""
        pairs = {key: tuple((a, b) for a, b in facts[key]) for key in ("modinfo", "section_sizes")}
        names = {key: tuple(facts[key]) for key in ("imports", "weak_imports")}
        made = {
            "parameters": tuple(Parameter(**each) for each in facts["parameters"]),
            "exports": tuple(Export(**each) for each in facts["exports"]),
            "signature": Signature(**facts["signature"]) if facts["signature"] else None,
        }
        return cls(**{**facts, **pairs, **names, **made})


def read(path: str | os.PathLike[str]) -> KernelObject:
    """The facts of a `.ko`, `.ko.xz`, `.ko.zst` or `.ko.gz`. Raises UsageError where it is none."""
    return parse(read_image(path), Path(path).name)


def read_image(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a `.ko`, decompressed where it is compressed, signature included.

    Raises UsageError for a file that cannot be read, is damaged, or unpacks to more than any module has.
    """
    from lkm.ko import compression

    return compression.read_file(Path(path))


def parse(data: bytes, name: str) -> KernelObject:
    """The facts of the object in `data`; `name` is its file's name, for errors.

    Raises UsageError for anything that is not a kernel object, and says why.
    """
    from lkm.ko import signature
    from lkm.ko.paramtable import read_parameters

    image, signed = signature.split(data)
    elf = read_elf(image, name)
    modinfo = _modinfo(elf)
    module_name = _module_name(elf, dict(reversed(modinfo)))
    undefined = elf.symbols.undefined()
    functions = {each.name for each in elf.symbols.defined(b"init_module\0", b"cleanup_module\0")}
    return KernelObject(
        name=module_name,
        machine=elf.machine,
        elf_class=elf.bits,
        modinfo=modinfo,
        parameters=read_parameters(elf, modinfo),
        imports=tuple(each.name for each in undefined),
        weak_imports=tuple(each.name for each in undefined if each.weak),
        versions=_versions(elf),
        exports=_exports(elf),
        section_sizes=tuple((each.name, each.size) for each in elf.sections if each.allocated),
        signature=signed,
        has_init="init_module" in functions,
        has_exit="cleanup_module" in functions,
    )


def _required(elf: Elf, section: str) -> Section:
    found = elf.section(section)
    if found is None:
        raise UsageError(
            f"{elf.name} is not a kernel object: it has no {section} section",
            hint="give the .ko that modpost linked, not a .o of it",
        )
    return found


_MODINFO_LIMIT = 1 << 19
"""Bytes of .modinfo; in Debian's modules it has up to 76 kB."""


def _modinfo(elf: Elf) -> tuple[tuple[str, str], ...]:
    """The strings `key=value`, one after the other; empty ones are padding."""
    section = _required(elf, ".modinfo")
    if section.size > _MODINFO_LIMIT:
        raise malformed(elf.name, f"its .modinfo has {section.size} bytes")
    raw = elf.content(section).split(b"\0")
    words = (entry.decode("utf-8", "surrogateescape") for entry in raw if entry)
    return tuple((key, value) for key, _, value in (word.partition("=") for word in words))


def _module_name(elf: Elf, modinfo: Mapping[str, str]) -> str:
    """`name` of struct module: after the state (an int) and a list_head, so at 24 or 12.

    Where the structure is randomized (CONFIG_RANDSTRUCT) it is elsewhere: modinfo has it too.
    """
    raw = elf.content(_required(elf, THIS_MODULE))
    start, length = (24, 56) if elf.bits == 64 else (12, 60)
    found = re.fullmatch(rb"([A-Za-z0-9_-]+)\0+", raw[start : start + length])
    if found:
        return found[1].decode("ascii").replace("-", "_")
    stem = elf.name.rpartition("/")[2].partition(".ko")[0]
    return (modinfo.get("name") or stem).replace("-", "_")


_MOST_VERSIONS = 1 << 16
"""Symbol versions; a module has one for each import."""


def _versions(elf: Elf) -> dict[str, int]:
    """modversions: __version_ext_* (6.14 and later, for long names) or struct modversion_info."""
    crcs, names = elf.section("__version_ext_crcs"), elf.section("__version_ext_names")
    if crcs and names:
        return dict(_extended_versions(elf, elf.content(crcs), elf.content(names)))
    table = elf.section("__versions")
    if table is None:
        return {}
    layout = "Q56s" if elf.bits == 64 else "I60s"
    return {_text(name): crc & 0xFFFFFFFF for crc, name in _rows(elf, elf.content(table), layout)}


def _extended_versions(elf: Elf, crcs: bytes, names: bytes) -> list[tuple[str, int]]:
    numbers = [crc for (crc,) in _rows(elf, crcs, "I")]
    words = names.split(b"\0", len(numbers))[: len(numbers)]
    if len(words) < len(numbers):
        raise malformed(elf.name, "__version_ext_names has fewer names than there are CRCs")
    return [(_text(word), crc) for word, crc in zip(words, numbers, strict=True)]


def _rows(elf: Elf, content: bytes, layout: str) -> list[tuple[Any, ...]]:
    entry = struct.Struct(elf.order + layout)
    if len(content) // entry.size > _MOST_VERSIONS:
        raise malformed(elf.name, f"it has more than {_MOST_VERSIONS} symbol versions")
    return list(entry.iter_unpack(memoryview(content)[: len(content) - len(content) % entry.size]))


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode("utf-8", "backslashreplace")


def _exports(elf: Elf) -> tuple[Export, ...]:
    """One for each symbol __ksymtab_NAME, as include/linux/export-internal.h makes them."""
    prefix = "__ksymtab_"
    entries = {each.name: each for each in elf.symbols.defined(prefix.encode())}.values()
    by_name = {each.name: each for each in elf.symbols.defined(b"__kstrtabns_", b"__crc_")}
    found = []
    for entry in entries:
        section = elf.sections[entry.section] if entry.section < len(elf.sections) else None
        if section and section.name in ("__ksymtab", "__ksymtab_gpl"):
            name = entry.name.removeprefix(prefix)
            namespace = _namespace(elf, by_name.get(f"__kstrtabns_{name}"))
            crc = _crc(elf, by_name.get(f"__crc_{name}"))
            found.append(Export(name, _is_gpl(elf, section, entry), namespace, crc))
    return tuple(found)


def _is_gpl(elf: Elf, section: Section, entry: Symbol) -> bool:
    """By the section, or, in 7.x, by the symbol's byte in __kflagstab (KSYM_FLAG_GPL_ONLY is bit 0)."""
    flags = elf.section("__kflagstab")
    if section.name == "__ksymtab_gpl" or not flags or not flags.size:
        return section.name == "__ksymtab_gpl"
    index = entry.value * flags.size // max(section.size, 1)
    return bool(elf.integer(Place(flags.number, index), 1) & 1)


def _namespace(elf: Elf, symbol: Symbol | None) -> str | None:
    if symbol is None or symbol.section in (SHN_UNDEF, SHN_ABS):
        return None
    return elf.string_at(Place(symbol.section, symbol.value)) or None


def _crc(elf: Elf, symbol: Symbol | None) -> int | None:
    """The CRC: an absolute symbol's value until 5.18, after that the word at the symbol."""
    if symbol is None or symbol.section == SHN_UNDEF:
        return None
    if symbol.section == SHN_ABS:
        return symbol.value & 0xFFFFFFFF
    return elf.integer(Place(symbol.section, symbol.value), 4)
