"""The nouns of this package: a kernel that is on this disk, and the toolchain that builds for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lkm.arch import Arch

__all__ = ["Kernel", "Toolchain"]


@dataclass(frozen=True)
class Toolchain:
    """A root directory with the compiler, make and libc of one Debian suite.

    `root` is entered with bubblewrap and never written to after it was made. `cc` is the compiler's
    name in it (`gcc-14`). `identity` changes when anything in it does.
    """

    suite: str
    root: Path
    cc: str
    identity: str


@dataclass(frozen=True)
class Kernel:
    """A kernel that is on this disk, with what is needed to build for it and to boot it.

    `binds` are the (host path, path in the sandbox) pairs that put its build tree where its own files
    say that it is; `build_dir` is what `make -C` gets, as the sandbox sees it. `modules_dir` holds
    `kernel/`, `modules.dep` and `modules.builtin`; it is None for a tree without installed modules.
    `identity` is a hex digest that changes when the kernel does; it is part of every content key.
    `flavour` and `version` (the Debian version of its packages) are None for kernels of other providers,
    `disk_bytes` for kernels that the store does not own. Debian's System.map is a stub that says so.
    """

    release: str
    arch: Arch
    provider: str
    image: Path
    build_dir: str
    binds: tuple[tuple[Path, str], ...]
    config: Path
    toolchain: Toolchain
    identity: str
    system_map: Path | None = None
    modules_dir: Path | None = None
    suite: str | None = None
    flavour: str | None = None
    version: str | None = None
    disk_bytes: int | None = None

    @property
    def memory_mib(self) -> int:
        """The memory that a machine of it has where nobody says, in MiB."""
        return 256 if self.provider == "debug" else 128

    @property
    def append(self) -> str:
        """What its machines have on the kernel's command line beside lkm's own words.

        Without `kasan_multi_shot` KASAN reports the first of several (mm/kasan/report.c, 6.12). ACPI's
        interpreter is half of a debug kernel's boot, and a machine of lkm has nothing for it to do.
        `slub_debug=U` keeps who allocated what.
        """
        return "kasan_multi_shot acpi=off slub_debug=U" if self.provider == "debug" else ""

    @property
    def knows_allocations(self) -> bool:
        """Whether its allocators can say what a module has not freed: `lkm.leaks`."""
        return "slub_debug=U" in self.append

    @property
    def build_dir_on_host(self) -> Path:
        """The build tree's place on this computer's disk."""
        return self.to_host(self.build_dir)

    def to_host(self, path: str) -> Path:
        """The host's path of a file that the sandbox sees at `path`, longest bind first."""
        for host, inside in sorted(self.binds, key=lambda bind: -len(bind[1])):
            if path == inside or path.startswith(inside.rstrip("/") + "/"):
                return host / path[len(inside) :].lstrip("/")
        return self.toolchain.root / path.lstrip("/")
