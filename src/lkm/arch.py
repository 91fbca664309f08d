"""The spellings of an architecture: one row a machine, never string surgery."""

from __future__ import annotations

import platform
from dataclasses import dataclass

from lkm.errors import UsageError

__all__ = ["ARCHES", "X86_64", "Arch", "arch_named", "host_arch"]


@dataclass(frozen=True)
class Arch:
    """One architecture as each party spells it.

    `name` is what `uname -m` and QEMU say, `kbuild` what `make ARCH=` takes, `debian` the dpkg
    architecture, `elf_machine` the e_machine of its objects (elf.h), `image_names` the bootable file's
    names below a built tree.
    """

    name: str
    kbuild: str
    debian: str
    gnu: str
    elf_machine: str
    image_names: tuple[str, ...]


X86_64 = Arch(
    name="x86_64",
    kbuild="x86",
    debian="amd64",
    gnu="x86_64-linux-gnu",
    elf_machine="EM_X86_64",
    image_names=("arch/x86/boot/bzImage",),
)

ARCHES: tuple[Arch, ...] = (X86_64,)


def arch_named(name: str) -> Arch:
    """The architecture that anyone calls `name` (x86_64, x86, amd64); UsageError if none is."""
    for arch in ARCHES:
        if name in (arch.name, arch.kbuild, arch.debian):
            return arch
    known = ", ".join(arch.name for arch in ARCHES)
    raise UsageError(f"unknown architecture {name!r}", hint=f"lkm knows {known}")


def host_arch() -> Arch:
    """The architecture of this computer; UsageError where lkm does not know it."""
    return arch_named(platform.machine())
