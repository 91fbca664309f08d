"""What of a kernel decides whether it takes a module, from the files that come with it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from lkm.errors import UsageError
from lkm.loadcheck.changes import Version
from lkm.loadcheck.symbols import SymbolTable

if TYPE_CHECKING:
    from lkm.kernels.kernel import Kernel
    from lkm.kernels.modules import Index
    from lkm.ko import KernelObject, Signature

__all__ = ["KernelFacts", "facts_of"]

_OPTIONS = re.compile(
    rb"^CONFIG_(LIVEPATCH|(?:MITIGATION_)?RETPOLINE|MODULE_ALLOW_MISSING_NAMESPACE_IMPORTS"
    rb"|MODULE_FORCE_LOAD|MODULE_SIG|MODULE_SIG_FORCE|MODULE_UNLOAD|MODULES|MODVERSIONS"
    rb"|MEM_ALLOC_PROFILING|PREEMPT|PREEMPT_BUILD|PREEMPT_RT|SMP|STRICT_MODULE_RWX)=y$",
    re.MULTILINE,
)

_MACHINES = {"EM_X86_64": 62}

_THIS = ".gnu.linkonce.this_module"

_UNLISTED = frozenset(
    ("alarmtimer", "block", "compression", "damon_lru_sort", "damon_reclaim", "damon_stat", "efifb", "hpet",
     "kernel", "kfence", "module", "page_alloc", "pcie_aspm", "pcieportdrv", "platform_pci", "rcupdate",
     "rcutree", "sched_ext", "xen")
)  # fmt: skip
"""What is in /sys/module of Debian's kernels, 5.10 to 7.3, under a name that is in neither list of what is
built in: MODULE_PARAM_PREFIX, core_param() and module_add_driver() make such names."""

_TRIES = 16
"""Of how many of the kernel's own modules the smallest is read."""


@dataclass(frozen=True)
class KernelFacts:
    """What the loader of one kernel compares a module with.

    `version` is upstream's, stable number included, `vermagic` its VERMAGIC_STRING. `options` are the CONFIG_
    names that the loader's code asks for and that are `y`. `module_size` is sizeof(struct module) and
    `signature` that of one of its own modules, both None where there is no such module. `sig_enforced` is
    CONFIG_MODULE_SIG_FORCE, or what the command line's module.sig_enforce made of it. `strict_versions` says
    that a symbol without a CRC is refused where upstream warns: Debian's kernels do (its patch
    module-disable-matching-missing-crc).
    """

    release: str
    version: Version
    machine: int
    vermagic: str
    options: frozenset[str]
    symbols: SymbolTable
    module_size: int | None = None
    signature: Signature | None = None
    sig_enforced: bool = False
    strict_versions: bool = False
    system_map: Path | None = None
    kernel: Kernel | None = field(default=None, repr=False, compare=False)

    @cached_property
    def index(self) -> Index:
        """The kernel's own modules and what is built in; empty lists for a kernel made by hand."""
        from lkm.kernels import modules

        return (
            modules.read_index(self.kernel) if self.kernel else modules.Index({}, {}, frozenset())
        )

    def own_module(self, name: str) -> bytes | None:
        """The bytes of the kernel's own module of that name, signature included; None without one."""
        from lkm.ko import read_image

        path = self.index.files.get(name)
        try:
            return read_image(path) if path else None
        except UsageError:
            return None

    def with_dependencies(self, names: Iterable[str]) -> tuple[str, ...]:
        """Those of `names` that the kernel has as files, and what they need, first things first."""
        order: dict[str, None] = {}
        for name in names:
            name = name.replace("-", "_")
            if name in self.index.files:
                order |= dict.fromkeys((*self.index.depends[name], name))
        return tuple(name for name in order if name not in self.index.builtin)

    def in_system_map(self, name: str) -> bool:
        """Whether the kernel has such a symbol at all; False where there is no real System.map."""
        try:
            return (
                self.system_map is not None
                and f" {name}\n".encode() in self.system_map.read_bytes()
            )
        except OSError:
            return False

    def is_built_in(self, name: str) -> bool:
        """Whether something built into the kernel bears that name, as far as is known."""
        word = name.replace("-", "_").encode("utf-8", "backslashreplace")
        files, modinfo = self._builtin
        return name in _UNLISTED or b"/%s.ko\n" % word in files or b"\0%s." % word in modinfo

    @cached_property
    def _builtin(self) -> tuple[bytes, bytes]:
        """The two lists with `_` only, searched and not taken apart: that would take 20 times as long."""
        if self.kernel is None:
            return b"", b""
        directory = self.kernel.modules_dir or self.kernel.build_dir_on_host
        files = _underscored(directory / "modules.builtin")
        return files, b"\0" + _underscored(directory / "modules.builtin.modinfo")


def _underscored(path: Path) -> bytes:
    try:
        return path.read_bytes().replace(b"-", b"_")
    except OSError:
        return b""


def facts_of(kernel: Kernel) -> KernelFacts:
    """The facts of a kernel on this disk. Raises UsageError where it takes no modules or files are missing."""
    from lkm.kernels.catalog import flavour_of

    try:
        found = _OPTIONS.findall(kernel.config.read_bytes())
    except OSError as error:
        raise UsageError(f"cannot read {kernel.config}: {error.strerror}") from error
    options = frozenset(name.decode() for name in found)
    if "MODULES" not in options:
        raise UsageError(f"{kernel.release} takes no modules: CONFIG_MODULES is not set")
    own = _own_module(kernel)
    symvers = kernel.build_dir_on_host / "Module.symvers"
    return KernelFacts(
        release=kernel.release,
        version=_version(kernel),
        machine=_MACHINES[kernel.arch.elf_machine],
        vermagic=own.vermagic if own else _vermagic(kernel.release, options),
        options=options,
        symbols=SymbolTable(kernel.release, symvers),
        module_size=dict(own.section_sizes).get(_THIS) if own else None,
        signature=own.signature if own else None,
        sig_enforced="MODULE_SIG_FORCE" in options,
        strict_versions=kernel.provider == "debian" or flavour_of(kernel.release) is not None,
        system_map=kernel.system_map,
        kernel=kernel,
    )


def _version(kernel: Kernel) -> Version:
    """The upstream version by the headers (a release such as 6.1.0-50-amd64 does not say which 6.1 it is)."""
    header = kernel.build_dir_on_host / "include/generated/uapi/linux/version.h"
    try:
        if code := re.search(rb"LINUX_VERSION_CODE (\d{1,9})$", header.read_bytes(), re.MULTILINE):
            number = int(code[1])
            return number >> 16, number >> 8 & 0xFF, number & 0xFF
    except OSError:
        pass
    found = re.match(r"(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?", kernel.release)
    if not found:
        raise UsageError(f"{kernel.release!r} is not a kernel release: it begins with no version")
    return tuple(int(number or 0) for number in found.groups())


def _own_module(kernel: Kernel) -> KernelObject | None:
    """The smallest of the kernel's first modules: what it says holds for all."""
    from lkm import ko

    sizes = sorted((path.stat().st_size, path) for path in _first_modules(kernel) if path.is_file())
    return ko.read(sizes[0][1]) if sizes else None


def _first_modules(kernel: Kernel) -> list[Path]:
    """Some of the modules that were built with the kernel, by modules.dep or a built tree's modules.order."""
    directory = kernel.modules_dir or kernel.build_dir_on_host
    for name in ("modules.dep", "modules.order"):
        try:
            lines = (directory / name).read_text().splitlines()
        except FileNotFoundError:
            continue
        # Others, of DKMS for one, are in updates/ and may have another's signature.
        paths = [line.partition(":")[0].strip() for line in lines]
        own = [path for path in paths if path.startswith("kernel/")] or paths
        return [(directory / path).with_suffix(".ko") if path.endswith(".o") else directory / path
                for path in own[:_TRIES]]  # fmt: skip
    return []


def _vermagic(release: str, options: frozenset[str]) -> str:
    """VERMAGIC_STRING of include/linux/vermagic.h for x86-64, where no module tells it."""
    preempt = ""
    if "PREEMPT_RT" in options:
        preempt = "preempt_rt "
    elif options & {"PREEMPT", "PREEMPT_BUILD"}:
        preempt = "preempt "
    words = [
        "SMP " if "SMP" in options else "",
        preempt,
        "mod_unload " if "MODULE_UNLOAD" in options else "",
        "modversions " if "MODVERSIONS" in options else "",
    ]
    return f"{release} {''.join(words)}"
